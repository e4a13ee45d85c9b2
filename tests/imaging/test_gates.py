"""Gates: pass, warn or review, with the numbers that decided."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.quality.gates import Gate, decide, read_gate

NAME = "the quality of the generated image"
PARTS = {"sharpness": 0.02, "contrast": 0.9, "exposure": 1.0, "artefacts": 0.31}
shares = st.floats(0, 1)


def test_a_good_score_passes_without_a_word():
    decision = decide(Gate(NAME, "review", 0.5), 0.5, PARTS)
    assert (decision.verdict, decision.text) == ("pass", "")
    assert decision.numbers == PARTS | {"score": 0.5, "minimum": 0.5}


@pytest.mark.parametrize("mode", ["warn", "review"])
def test_a_low_score_says_what_decided(mode):
    decision = decide(Gate(NAME, mode, 0.5), 0.412, PARTS)
    assert decision.verdict == mode
    assert decision.text == (
        "the quality of the generated image is 0.412, under 0.5 (lowest: sharpness 0.02, artefacts 0.31, contrast 0.9)"
    )
    assert decision.numbers["score"] == 0.412


def test_a_score_without_parts_is_told_alone():
    assert decide(Gate("the total", "warn", 0.5), 0.25).text == "the total is 0.25, under 0.5"


@given(shares, shares, st.sampled_from(["off", "warn", "review"]))
def test_what_a_gate_says(score, minimum, mode):
    decision = decide(Gate(NAME, mode, minimum), score)
    assert decision.verdict == (mode if mode != "off" and score < minimum else "pass")
    assert bool(decision.text) == (decision.verdict != "pass")


@pytest.mark.parametrize("wrong", [-0.1, 1.1, math.nan])
def test_what_is_no_share_is_refused(wrong):
    with pytest.raises(ValueError, match="0 to 1"):
        Gate(NAME, "warn", wrong)
    with pytest.raises(ValueError, match=f"0 to 1.*{NAME}"):
        decide(Gate(NAME, "off", 0.5), wrong)


@pytest.mark.parametrize(
    ("text", "mode", "minimum"),
    [("off", "off", 0), ("warn 0.4", "warn", 0.4), (" review  1 ", "review", 1), ("review .5", "review", 0.5)],
)
def test_a_gate_is_read_from_a_setting(text, mode, minimum):
    assert read_gate("a score", text) == Gate("a score", mode, minimum)


@pytest.mark.parametrize("text", ["", "on", "warn", "review 1.5", "warn -1", "warn 0,4", "0.5"])
def test_what_is_no_gate_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match=r"review 0\.5"):
        read_gate("a score", text)

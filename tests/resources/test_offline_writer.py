"""The offline writer: words kept, terms that fit, measurements that are true, nothing invented."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.geometry.boxes import Box, Face
from resources.writers.base import Picture, PromptDraft
from resources.writers.offline import OfflineWriter, measure, tidy

WRITER = OfflineWriter()
PROMPTS = st.one_of(
    st.text(max_size=200),
    st.lists(
        st.sampled_from(
            [
                "1girl",
                "Red Hat",
                "red hat",
                "(a, b:1.2)",
                "<lora:x:0.8>",
                "1,000 stars",
                "",
                " ",
                "A man.",
                "BREAK",
                "a AND b",
                "\n",
                "a | b",
            ]
        )
    ).map(",".join),
)


def draft(pony: str = "", flux: str = "", negative: str = "") -> PromptDraft:
    return PromptDraft(job_id="job-1", pony_prompt=pony, flux_prompt=flux, negative_prompt=negative)


def solid(rgb: tuple[int, int, int], width: int = 60, height: int = 40, **fields: Any) -> Picture:
    return Picture(job_id="job-1", pixels=np.full((height, width, 3), rgb, np.uint8), **fields)


def face(left: int, top: int, side: int) -> Face:
    return Face(Box(left, top, left + side, top + side), 0.9)


# --- prompts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_prompt", "tidied"),
    [
        ("a man , , in a  coat,", "a man, in a coat"),
        ("red hat, blue coat, Red Hat", "red hat, blue coat"),
        ("(red, blue:1.2), (red, blue:1.2)", "(red, blue:1.2)"),
        ("1,000 stars,sky", "1,000 stars, sky"),
        ("a :( face, , b", "a :( face, , b"),
        ("b), a, a", "b), a, a"),
        ("", ""),
        (" ,, ", ""),
        (",1", "1"),
        ("2girls, BREAK, red hair, smile, BREAK, blue hair, smile", None),
        ("1girl, red hair, BREAK 1boy, red hair, hat", None),
        ("1girl, red hair, 1boy, red hair, hat, hat", "1girl, red hair, 1boy, red hair, hat"),
        ("a woman with a hat, smiling, a man in a coat, smiling", None),
        ("a cat, hat :0.8 AND a dog, hat :1.2", None),
        ("red hair, smile AND red hair, smile AND smile,smile", "red hair, smile AND red hair, smile AND smile"),
        ("red eyes, smile [SEP] blue eyes, smile", None),
        ("[SKIP] [SEP] [CONCAT] a, b [SEP] [PROMPT], a, [PROMPT], b", None),
        (
            "sky ADDCOMM tree, green ADDCOL house, green, green ADDROW green",
            "sky ADDCOMM tree, green ADDCOL house, green ADDROW green",
        ),
        ("red hair, smile\nred hair, smile", None),
        ("red hair,  smile,\n\n red hair , smile", "red hair, smile,\nred hair, smile"),
        ("a, smile | b, smile|c, smile", None),
        ("BREAK, BREAK BREAK,, a", "BREAK, BREAK BREAK, a"),
        ("a, a BREAK a ,, a", "a BREAK a"),
        ("(a BREAK a:1.2), (a BREAK a:1.2), BREAKFAST, BREAKFAST", "(a BREAK a:1.2), BREAKFAST"),
        ("a BREAK", None),
    ],
)
def test_tidy(given_prompt: str, tidied: str | None) -> None:
    """None: nothing is to be tidied."""
    assert tidy(given_prompt) == (given_prompt if tidied is None else tidied)


@pytest.mark.parametrize("word", ["BREAK", "AND", "ADDCOL", "ADDROW", "ADDCOMM", "[SEP]", "|", "\n"])
@pytest.mark.parametrize("comma", ["", ","])
def test_what_is_said_of_one_part_of_a_picture_is_not_taken_from_another(word: str, comma: str) -> None:
    parted = f"red hair, smile{comma} {word} red hair, smile, hat".replace(" \n ", "\n")
    answer = WRITER.enhance(draft(parted, "" if word == "[SEP]" else parted, parted))
    for got in (answer.pony_prompt, answer.flux_prompt or parted, answer.negative_prompt):
        assert got.startswith(parted)
    assert answer.negative_prompt == parted
    told = " ".join(parted.split())
    described = WRITER.describe_image(solid((0, 0, 0), prompt=parted, face_prompt=parted))
    assert described.text.count(f'asked for "{told}"') == 2


def test_each_part_of_a_face_prompt_keeps_its_words() -> None:
    answer = WRITER.enhance(draft("two men", "red eyes, smile [SEP] red eyes, smile [SEP] [SKIP]"))
    parts = answer.flux_prompt.split(" [SEP] ")
    assert [part.startswith("red eyes, smile") for part in parts] == [True, True, False]


def test_nothing_is_added_behind_a_prompt_that_has_a_weight_of_its_own() -> None:
    assert WRITER.enhance(draft("a cat :0.8 AND a dog :1.2")).pony_prompt == "a cat :0.8 AND a dog :1.2"


def test_a_scene_and_a_face_get_different_terms_after_the_users_own_words() -> None:
    answer = WRITER.enhance(draft("a fisherman on a pier", "an old fisherman"))
    assert answer.pony_prompt.startswith("a fisherman on a pier, best quality")
    assert answer.flux_prompt.startswith("an old fisherman, natural skin texture")
    assert not set(answer.pony_prompt.split(", ")) & set(answer.flux_prompt.split(", "))


def test_terms_that_the_prompt_settles_already_are_not_added() -> None:
    scene = "masterpiece, neon night street, wide shot, shallow depth of field, intricate"
    assert WRITER.enhance(draft(scene)).pony_prompt == scene
    sunny = WRITER.enhance(draft("sunny meadow")).pony_prompt
    assert "natural light" not in sunny
    assert "balanced composition" in sunny


def test_a_stem_counts_only_at_the_start_of_a_word() -> None:
    assert "soft natural light" in WRITER.enhance(draft("a polite man")).pony_prompt


def test_a_sentence_is_followed_by_a_space_not_a_comma() -> None:
    assert WRITER.enhance(draft("A man smiles.")).pony_prompt.startswith("A man smiles. best quality")


def test_an_empty_prompt_stays_empty() -> None:
    answer = WRITER.enhance(draft("a man", " "))
    assert answer.flux_prompt == ""


def test_an_empty_negative_prompt_lists_technical_faults_that_were_not_asked_for() -> None:
    plain = WRITER.enhance(draft("a man")).negative_prompt
    assert "blurry" in plain
    assert "watermark" in plain
    asked = WRITER.enhance(draft("a man, blurred background, film grain")).negative_prompt
    assert "blur" not in asked
    assert "noise" not in asked


def test_a_given_negative_prompt_is_only_tidied() -> None:
    assert WRITER.enhance(draft("a man", negative="hat,, hat , beard")).negative_prompt == "hat, beard"


def test_every_record_says_that_no_model_wrote_it() -> None:
    answer = WRITER.enhance(draft("a man"))
    assert "without a model" in answer.notes
    described = WRITER.describe_image(solid((0, 0, 0)))
    assert "without a model" in described.text
    assert "without a model" in described.data["written_by"]
    for usage in (answer.usage, described.usage):
        assert (usage.model, usage.attempts, usage.cost_usd, usage.input_tokens) == ("offline", 0, 0.0, 0)
    assert json.dumps(WRITER.describe())


@given(PROMPTS, PROMPTS, PROMPTS)
def test_the_users_words_are_kept_in_order_and_come_first(pony: str, flux: str, negative: str) -> None:
    answer = WRITER.enhance(draft(pony, flux, negative))
    for asked, got in ((pony, answer.pony_prompt), (flux, answer.flux_prompt)):
        assert got.startswith(tidy(asked))
    for asked, got in ((pony, answer.pony_prompt), (flux, answer.flux_prompt), (negative, answer.negative_prompt)):
        words = re.findall(r"\w+", asked.casefold())
        assert set(words) <= set(re.findall(r"\w+", got.casefold()))
        assert [w for w in re.findall(r"\w+", got.casefold()) if w in words][:1] == words[:1]


@given(PROMPTS, PROMPTS, PROMPTS)
def test_enhancing_twice_changes_nothing_more(pony: str, flux: str, negative: str) -> None:
    once = WRITER.enhance(draft(pony, flux, negative))
    twice = WRITER.enhance(draft(once.pony_prompt, once.flux_prompt, once.negative_prompt))
    assert (twice.pony_prompt, twice.flux_prompt) == (once.pony_prompt, once.flux_prompt)
    assert twice.negative_prompt == once.negative_prompt


# --- descriptions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rgb", "colour", "brightness", "warmth"),
    [
        ((255, 255, 255), "white", "bright", "neutral"),
        ((0, 0, 0), "black", "dark", "neutral"),
        ((235, 130, 40), "orange", "medium-bright", "warm"),
        ((30, 60, 170), "blue", "dark", "cool"),
        ((20, 120, 30), "green", "medium-bright", "warm"),
    ],
)
def test_a_solid_image_is_measured_exactly(
    rgb: tuple[int, int, int], colour: str, brightness: str, warmth: str
) -> None:
    measured = measure(solid(rgb).pixels)
    assert measured.colours == [(colour, 1.0)]
    assert (measured.brightness_word, measured.warmth_word) == (brightness, warmth)
    assert (measured.contrast, measured.contrast_word) == (0.0, "low")


def test_two_colours_are_reported_with_their_shares() -> None:
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[:30] = 255
    measured = measure(pixels)
    assert measured.colours == [("white", 0.75), ("black", 0.25)]
    assert measured.contrast_word == "high"


@pytest.mark.parametrize(
    ("size", "orientation"),
    [((100, 100), "square"), ((104, 100), "square"), ((110, 100), "landscape"), ((100, 110), "portrait")],
)
def test_orientation(size: tuple[int, int], orientation: str) -> None:
    assert measure(np.zeros((size[1], size[0], 3), np.uint8)).orientation == orientation


def test_a_sketch_is_called_a_procedural_sketch_and_nothing_else() -> None:
    answer = WRITER.describe_image(solid((0, 0, 0), prompt="a queen", face_prompt="a stern face", generator="sketch"))
    assert "procedural sketch drawn by rules, not a photo and not a model's output" in answer.text
    assert 'The prompt asked for "a queen".' in answer.text
    assert 'The faces were made anew; their prompt asked for "a stern face".' in answer.text
    assert answer.title == "Procedural sketch, asked for: a queen"
    assert "procedural sketch" in answer.tags


def test_an_edited_photo_stays_a_photo_with_a_sketched_part() -> None:
    answer = WRITER.describe_image(solid((0, 0, 0), origin="edited photo", generator="sketch", face_prompt="smile"))
    assert answer.text.startswith("An edited photo in landscape-format")
    assert "Its changed part is a procedural sketch" in answer.text


def test_an_untouched_photo_gets_no_word_about_prompts_or_generators() -> None:
    answer = WRITER.describe_image(solid((0, 0, 0), origin="photo", faces=[face(5, 5, 10)]))
    assert answer.text.startswith("A photo in landscape-format, 60 by 40 pixels.")
    assert answer.title == "Photo, landscape-format, one face"
    for word in ("prompt", "generator", "sketch", "made anew"):
        assert word not in answer.text


def test_another_generator_is_named() -> None:
    assert "made by the generator 'sdxl'" in WRITER.describe_image(solid((0, 0, 0), generator="sdxl")).text


def test_faces_are_counted_placed_and_measured() -> None:
    three = [face(20, 10, 20), face(50, 0, 9), face(51, 30, 8), face(52, 1, 7)]
    answer = WRITER.describe_image(solid((0, 0, 0), faces=three))
    assert answer.people == 4
    assert (
        "4 faces were found: the largest in the centre (50% of the image height tall), "
        "then 2 in the upper right and in the lower right." in answer.text
    )
    assert answer.data["faces"][0] == {
        "box": [20, 10, 40, 30],
        "score": 0.9,
        "place": "in the centre",
        "height_share": 0.5,
    }
    assert "No face was found" in WRITER.describe_image(solid((0, 0, 0))).text
    one = WRITER.describe_image(solid((0, 0, 0), faces=[face(0, 15, 10)]))
    assert "One face was found, on the left, 25% of the image height tall." in one.text


@given(
    prompt=st.text(max_size=700),
    face_prompt=st.text(max_size=700),
    origin=st.sampled_from(["photo", "edited photo", "generated"]),
    generator=st.sampled_from(["", "sketch", "sdxl"]),
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    value=st.integers(0, 255),
)
def test_any_picture_gets_a_complete_record(
    prompt: str, face_prompt: str, origin: str, generator: str, width: int, height: int, value: int
) -> None:
    shown = solid(
        (value, 255 - value, value // 2),
        width,
        height,
        prompt=prompt,
        face_prompt=face_prompt,
        origin=origin,
        generator=generator,
        faces=[Face(Box(0, 0, width, height), 0.7)],
    )
    answer = WRITER.describe_image(shown)
    assert 0 < len(answer.title) <= 80
    assert len(answer.text) < 1200
    assert len(set(answer.tags)) == len(answer.tags)
    assert all(tag == tag.lower() for tag in answer.tags)
    assert answer.people == 1
    assert json.loads(json.dumps(answer.data)) == answer.data
    assert WRITER.describe_image(shown) == answer

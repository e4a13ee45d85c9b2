"""The similarity of two embeddings, and the verdict on it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.faces.identity import SAME_PERSON, judge_identity, similarity


def unit(*values: float) -> np.ndarray:
    vector = np.array(values, np.float32)
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize(
    ("one", "other", "cosine"),
    [((1, 2, 3), (1, 2, 3), 1), ((1, 2), (-1, -2), -1), ((1, 0), (0, 1), 0), ((1, 0), (1, 1), 0.70711)],
)
def test_similarity_is_the_cosine(one, other, cosine):
    assert similarity(unit(*one), unit(*other)) == pytest.approx(cosine, abs=1e-5)


@pytest.mark.parametrize(
    ("one", "other", "says"),
    [
        (unit(1, 2), unit(1, 2, 3), "one length"),
        (unit(1, 2)[None], unit(1, 2)[None], "one length"),
        (unit(1, 2) * 3, unit(1, 2), "got 3"),
        (unit(1, 2), np.zeros(2, np.float32), "got 0"),
        (unit(1, 2), np.full(2, np.nan, np.float32), "got nan"),
    ],
)
def test_what_is_no_embedding_is_refused(one, other, says):
    with pytest.raises(ValueError, match=says):
        similarity(one, other)


@pytest.mark.parametrize(
    ("rule", "found", "passed", "text"),
    [
        ("change", 0.2, True, "the new face should be another person's: similarity 0.200, at most 0.363 is asked"),
        ("change", 0.5, False, "the new face should be another person's: similarity 0.500, at most 0.363 is asked"),
        ("keep", 0.5, True, "the new face should be the same person's: similarity 0.500, at least 0.363 is asked"),
        ("keep", 0.2, False, "the new face should be the same person's: similarity 0.200, at least 0.363 is asked"),
        ("match", 0.2, False, "the new face should be the reference's: similarity 0.200, at least 0.363 is asked"),
    ],
)
def test_the_verdict_names_its_numbers(rule, found, passed, text):
    verdict = judge_identity(rule, found)
    assert (verdict.passed, verdict.text) == (passed, text)
    assert (verdict.rule, verdict.similarity, verdict.limit) == (rule, found, SAME_PERSON)


@given(st.floats(-1, 1), st.floats(-1, 1))
def test_a_face_is_kept_or_changed(found, limit):
    kept, changed = judge_identity("keep", found, limit).passed, judge_identity("change", found, limit).passed
    assert kept or changed
    assert (kept and changed) == (found == limit)

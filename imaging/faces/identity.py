"""Whether two faces are the same person's, from what a face encoder says of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Rule = Literal["change", "keep", "match"]

# Of SFace by cosine: OpenCV's own threshold for "the same person", from its tests on LFW.
SAME_PERSON: Final = 0.363

_ASKED: Final = {
    "change": "the new face should be another person's",
    "keep": "the new face should be the same person's",
    "match": "the new face should be the reference's",
}


@dataclass(frozen=True, slots=True)
class IdentityVerdict:
    """What was asked of two faces, and whether it is so.

    Attributes:
        passed: whether the similarity is on the right side of the limit.
        rule: what was asked.
        similarity: cosine of the two embeddings, -1 to 1.
        limit: `change`: the most; `keep` and `match`: the least.
        text: one sentence with the numbers.
    """

    passed: bool
    rule: Rule
    similarity: float
    limit: float
    text: str


def similarity(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """The cosine of two unit vectors of one shape, -1 to 1.

    Raises:
        ValueError: vectors of different lengths, or not of length 1.
    """
    if one.ndim != 1 or one.shape != other.shape:
        raise ValueError(f"Embeddings must be vectors of one length; got {one.shape} and {other.shape}.")
    for vector in (one, other):
        if not abs(float(np.linalg.norm(vector)) - 1) < 1e-3:
            raise ValueError(f"An embedding must have length 1; got {float(np.linalg.norm(vector)):g}.")
    return float(np.clip(np.dot(one.astype(np.float64), other.astype(np.float64)), -1, 1))


def judge_identity(rule: Rule, found: float, limit: float = SAME_PERSON) -> IdentityVerdict:
    """Whether a face may stand, by how similar it is to the face it is compared with.

    Args:
        rule: `change`: compared with the face before, it may be no more similar than the limit; `keep`: compared with
            the face before, no less; `match`: compared with the reference, no less.
        found: the similarity, -1 to 1.
        limit: a similarity, -1 to 1.
    """
    passed = found <= limit if rule == "change" else found >= limit
    asked = "at most" if rule == "change" else "at least"
    text = f"{_ASKED[rule]}: similarity {found:.3f}, {asked} {limit:.3f} is asked"
    return IdentityVerdict(passed, rule, found, limit, text)

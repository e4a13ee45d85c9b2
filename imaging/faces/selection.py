"""Which of the faces that were found are worked on, and in which order.

The order of the kept faces is the order of everything that follows: portraits, masks, prompts, results.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal, get_args

from imaging.geometry.boxes import Face

FaceOrder = Literal["largest", "left-right", "right-left", "top-down", "bottom-up", "center", "confidence"]
MOST_FACES: Final = 64


@dataclass(frozen=True, slots=True)
class FaceOptions:
    """The rules by which faces are chosen.

    Attributes:
        confidence: least score, over 0 and under 1.
        most: how many faces are kept at most, 1 to 64; the largest are.
        order: of the faces that are kept. `largest` first, from one side to the other by their middles, `center`: those
            next to the middle of the picture first, `confidence`: the highest score first.
        min_pixels: least length of the shorter side of a face's box, in pixels, 0 or more.
        min_share: least share of the picture's area, in percent, 0 to 100.
        max_share: largest share of the picture's area, in percent, over `min_share`, to 100.

    Raises:
        ValueError: a value out of its range.
    """

    confidence: float = 0.6
    most: int = 8
    order: FaceOrder = "largest"
    min_pixels: int = 0
    min_share: float = 0.0
    max_share: float = 100.0

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence must be over 0 and under 1; got {self.confidence}.")
        if not 1 <= self.most <= MOST_FACES:
            raise ValueError(f"most must be 1 to {MOST_FACES}; got {self.most}.")
        if self.order not in get_args(FaceOrder):
            raise ValueError(f"order must be one of {', '.join(get_args(FaceOrder))}; got {self.order}.")
        if self.min_pixels < 0:
            raise ValueError(f"min_pixels must be 0 or more; got {self.min_pixels}.")
        if not 0 <= self.min_share < self.max_share <= 100:
            raise ValueError(f"0 <= min_share < max_share <= 100 must hold; got {self.min_share} and {self.max_share}.")


@dataclass(frozen=True, slots=True)
class Dropped:
    """A face that is not worked on, and why."""

    face: Face
    reason: str


@dataclass(frozen=True, slots=True)
class Selection:
    """The faces that are worked on, in the order asked for, and the others, largest first."""

    kept: tuple[Face, ...]
    dropped: tuple[Dropped, ...]


def select(faces: Iterable[Face], size: tuple[int, int], options: FaceOptions) -> Selection:
    """Choose among the faces of a picture of `size` (width, height); the order in which they come is no matter.

    Of several reasons to drop a face, the first in the order of `FaceOptions` is given.
    """
    kept: list[Face] = []
    dropped: list[Dropped] = []
    for face in sorted(faces, key=_largest):
        reason = _reason(face, size, options, len(kept))
        if reason is None:
            kept.append(face)
        else:
            dropped.append(Dropped(face, reason))
    return Selection(tuple(sorted(kept, key=_key(options.order, size))), tuple(dropped))


def _reason(face: Face, size: tuple[int, int], options: FaceOptions, larger: int) -> str | None:
    """Why a face is dropped, when so many larger ones are kept; None when it is not."""
    box = face.box
    share = 100 * box.area / (size[0] * size[1])
    if face.score < options.confidence:
        return f"confidence {shown_score(face.score)} under {options.confidence:.2f}"
    if min(box.width, box.height) < options.min_pixels:
        return f"smaller than {options.min_pixels} pixels: {box.width}x{box.height}"
    if share < options.min_share:
        return f"smaller than {options.min_share:g} % of the picture"
    if share > options.max_share:
        return f"larger than {options.max_share:g} % of the picture"
    if larger >= options.most:
        return f"not among the {options.most} largest" if options.most > 1 else "not the largest"
    return None


def shown_score(score: float) -> str:
    """A score with two places, rounded down, so that it is never shown as the limit that it does not reach."""
    return f"{math.floor(score * 100 + 1e-9) / 100:.2f}"


Key = tuple[float, ...]


def _largest(face: Face) -> Key:
    """Largest first; then by place and score, so that no two different faces are equal."""
    box = face.box
    return (-box.area, box.left, box.top, box.right, -face.score)


def _key(order: FaceOrder, size: tuple[int, int]) -> Callable[[Face], Key]:
    """What the faces are sorted by; those that are equal in it, by size and place."""
    middle = (size[0] / 2, size[1] / 2)
    first: dict[FaceOrder, Callable[[Face], float]] = {
        "largest": lambda face: -face.box.area,
        "left-right": lambda face: face.box.center[0],
        "right-left": lambda face: -face.box.center[0],
        "top-down": lambda face: face.box.center[1],
        "bottom-up": lambda face: -face.box.center[1],
        "center": lambda face: math.dist(face.box.center, middle),
        "confidence": lambda face: -face.score,
    }
    by = first[order]
    return lambda face: (by(face), *_largest(face))

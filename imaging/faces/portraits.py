"""A portrait of each face: cut out with room around it, checked, and whether it is good enough to be left alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imaging.faces.portrait_checks import SOFT, verify_portrait
from imaging.faces.portrait_options import PortraitOptions
from imaging.geometry.align import Frame, cut, frame_around
from imaging.geometry.boxes import Face
from imaging.geometry.crop import crop
from imaging.quality.score import Verdict


@dataclass(frozen=True, slots=True)
class Portrait:
    """A face and what is to be said of it.

    Attributes:
        face: where it is.
        frame: the square around it that is cut out, upright if asked for.
        verdict: whether it passed its checks, and its scores.
        left: why it is left as it is although it may have passed; empty: it is not.
    """

    face: Face
    frame: Frame
    verdict: Verdict
    left: str = ""

    @property
    def is_to_change(self) -> bool:
        """Whether a job makes it anew."""
        return self.verdict.passed and not self.left

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why a job does not make it anew; empty when it does."""
        return (*self.verdict.reasons, self.left) if self.left else self.verdict.reasons

    def cut(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The portrait at its own size: RGB uint8, square."""
        return cut(pixels, self.frame, max(1, round(self.frame.side)))


def make_portrait(pixels: NDArray[np.uint8], faces: Sequence[Face], number: int, options: PortraitOptions) -> Portrait:
    """Frame and check one face of a picture.

    Args:
        pixels: the picture, RGB uint8 of shape (height, width, 3).
        faces: all faces of it that are worked on.
        number: which of them, from 0; the others must not reach into it.
        options: how it is cut, and from when on it is good enough.
    """
    face = faces[number]
    size = (pixels.shape[1], pixels.shape[0])
    others = [other for place, other in enumerate(faces) if place != number]
    verdict = verify_portrait(crop(pixels, face.box), face, size, others)
    is_sharp = options.keep_sharp and face.box.width >= options.keep_sharp and verdict.scores["sharpness"] >= SOFT
    return Portrait(
        face,
        frame_around(face, size, options.padding, align=options.align),
        verdict,
        f"it is {face.box.width} px wide and crisp" if is_sharp else "",
    )

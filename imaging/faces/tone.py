"""The tone of a black-and-white, sepia or otherwise toned photo, so that a new face gets no colour of its own.

In such a photo colour is a function of lightness alone, but for what compression, noise or a coloured date stamp add.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from imaging.faces.blend import without_color

_SAMPLES: Final = 256  # pixels of the longer side that the curve is read from
_STEPS: Final = 64  # of lightness
_LEAST: Final = 16  # samples in a step; fewer say nothing
_SPIKE: Final = 3  # steps to each side whose median counts, so that a date stamp bends nothing
_CELL: Final = 16  # pixels; as JPEG's chroma has
_CELLS: Final = 48  # along the longer side at most
_FACE_CELL: Final = 8  # the same of a face
_FACE_CELLS: Final = 10
# Levels by which colour may differ from the curve, for a grey photo and more by the strength of the tone, and the share
# of cells that must. Measured, toned photos differ by 3.0 (WebP of quality 50; JPEG of 75 2.0) where the limit is 3.6;
# colour photos of a fifth of their saturation, at night or in fog by 3.2 and more where it is 2.4.
_MOST: Final = 2.0
_MOST_BY_TONE: Final = 0.05
_PHOTO_SHARE: Final = 0.9
_FACE_SHARE: Final = 0.75


@dataclass(frozen=True, slots=True)
class Tone:
    """What a photo adds to grey: float32 of shape (256, 3), levels of RGB by luma (ITU-R BT.601)."""

    added: NDArray[np.float32]

    def holds_in(self, window: NDArray[np.uint8], mask: NDArray[np.uint8]) -> bool:
        """Whether a part of the photo has no other colours: a face in snow keeps its own.

        Args:
            window: RGB uint8 of shape (height, width, 3).
            mask: uint8 of shape (height, width); only what is not 0 is looked at.
        """
        off, most = self.off_by(window, max(_FACE_CELL, window.shape[1] // _FACE_CELLS))
        inside = cv2.resize(mask, off.shape[::-1], interpolation=cv2.INTER_AREA) > 127
        return float(np.quantile(off[inside] if inside.any() else off, _FACE_SHARE)) <= most

    def of(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """An RGB uint8 image in this tone; its own colours are lost."""
        grey = without_color(image)
        return np.asarray(np.clip(np.rint(grey + self.added[grey[..., 0]]), 0, 255), dtype=np.uint8)

    def off_by(self, image: NDArray[np.uint8], cell: float) -> tuple[NDArray[np.float32], float]:
        """By how many levels the mean colours of cells of `cell` pixels a side are off the curve, and may be."""
        luma, color = _apart(image)
        size = (max(1, round(luma.shape[1] / cell)), max(1, round(luma.shape[0] / cell)))
        # Means of what differs, not of colours: JPEG keeps chroma at half the size, which only a mean is true to.
        means = cv2.resize(color - self.added[luma], size, interpolation=cv2.INTER_AREA)
        most = _MOST + _MOST_BY_TONE * float(np.linalg.norm(color, axis=-1).mean())
        return np.linalg.norm(np.reshape(means, (*size[::-1], 3)), axis=-1).astype(np.float32), most


def find_tone(image: NDArray[np.uint8]) -> Tone | None:
    """The tone of a photo, RGB uint8 of shape (height, width, 3); None for one in colour."""
    step = math.ceil(max(image.shape[:2]) / _SAMPLES)
    seen = np.ascontiguousarray(image[::step, ::step])
    luma, color = _apart(seen)
    place = luma.ravel() // (256 // _STEPS)
    found = np.flatnonzero(np.bincount(place, minlength=_STEPS) >= _LEAST)
    if not found.size:
        return None
    middles = np.array([np.median(luma.ravel()[place == one]) for one in found])
    medians = np.array([np.median(color.reshape(-1, 3)[place == one], axis=0) for one in found])
    smooth = [
        np.median(medians[at - reach : at + reach + 1], axis=0)
        for at in range(len(found))
        for reach in [min(_SPIKE, at, len(found) - 1 - at)]
    ]
    levels = np.arange(256)
    added = np.stack([np.interp(levels, middles, channel) for channel in np.transpose(smooth)], axis=1)
    tone = Tone(added.astype(np.float32))
    off, most = tone.off_by(seen, max(_CELL, max(image.shape[:2]) / _CELLS) / step)
    return tone if float(np.quantile(off, _PHOTO_SHARE)) <= most else None


def _apart(image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Luma, (height, width), and what colour adds to it, float32 of shape (height, width, 3)."""
    luma = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    return luma, image.astype(np.float32) - luma[..., None]

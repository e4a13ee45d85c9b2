"""Where a face's skin is, by its colour."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

_CORE: Final = 0.45  # share of the depth from which on a pixel is surely face
_LEAST: Final = np.array([7.0, 3.0, 3.0])  # of L, a and b: the least spread that skin is taken to have
_NEAR: Final = 4.0  # spreads from the middle that still are skin
_LEAST_SHARE: Final = 0.5  # of the outline; where less looks like skin, its colour says nothing
_SMOOTH: Final = 0.08  # of the depth of the middle: how fine the outline of the skin may be


def skin_depth(pixels: NDArray[np.uint8], depth: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """How far inside the face's skin each pixel lies, so that a mask ends before hair, hat and background.

    Skin is what lies near the median colour of the face's middle in CIELAB, in units of its spread (1.4826 times the
    median deviation), joined to the middle, closed over eyes, brows and mouth, and smoothed.

    Args:
        pixels: RGB uint8 of shape (height, width, 3).
        depth: float32 of shape (height, width): pixels inside the face's outline.

    Returns:
        float32 of shape (height, width): the distance to what is not skin, in pixels. None where no skin can be told:
        the middle is too small, or less than half of the outline looks like it.
    """
    inside = depth > 0
    deepest = float(depth.max(initial=0))
    core = depth > _CORE * deepest
    if deepest < 8:
        return None
    lab = cv2.cvtColor(np.asarray(pixels, np.float32) / np.float32(255), cv2.COLOR_RGB2LAB)
    middle = np.median(lab[core], axis=0)
    spread = np.maximum(1.4826 * np.median(np.abs(lab[core] - middle), axis=0), _LEAST)
    far = np.sqrt((((lab - middle) / spread) ** 2).sum(axis=2))
    skin = (((far < _NEAR) | core) & inside).astype(np.uint8)
    size = 2 * max(1, round(_SMOOTH * deepest)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    skin = cv2.morphologyEx(cv2.morphologyEx(skin, cv2.MORPH_CLOSE, kernel), cv2.MORPH_OPEN, kernel)
    outlines, _ = cv2.findContours(skin, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(skin)
    cv2.drawContours(filled, [max(outlines, key=cv2.contourArea)] if outlines else [], -1, 1, cv2.FILLED)
    filled = np.where(inside, filled, 0).astype(np.uint8)
    if np.count_nonzero(filled) < _LEAST_SHARE * np.count_nonzero(inside):
        return None
    framed = cv2.copyMakeBorder(filled, 1, 1, 1, 1, cv2.BORDER_REPLICATE)  # the picture's border is no edge of skin
    return np.asarray(cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1], dtype=np.float32)

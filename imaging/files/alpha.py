"""Pictures with transparency."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imaging.geometry.crop import resize


def on_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB uint8 of shape (height, width, 3): RGBA of shape (height, width, 4) laid on white, rounded."""
    alpha = rgba[..., 3:].astype(np.uint16)
    return ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def resize_rgba(rgba: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """RGBA of shape (height, width, 4) at `size` (width, height).

    Colours are weighted by their opacity, so that what is hidden under transparent pixels does not bleed into the
    edges; where the result is transparent, they are the plain ones.
    """
    alpha = np.ascontiguousarray(rgba[..., 3])
    colors = np.ascontiguousarray(rgba[..., :3])
    weighted = np.rint(colors * (alpha[..., None] / np.float32(255))).astype(np.uint8)
    small_alpha = resize(alpha, size)
    share = np.maximum(small_alpha, 1)[..., None] / np.float32(255)
    straight = np.clip(np.rint(resize(weighted, size) / share), 0, 255).astype(np.uint8)
    # At full opacity there is nothing to weigh; under little of it, rounding would show.
    plain = (small_alpha == 255) | (small_alpha < 8)
    return np.dstack([np.where(plain[..., None], resize(colors, size), straight), small_alpha])

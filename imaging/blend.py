"""Putting a new face into a picture so that nobody sees where it begins.

Belongs here: colour match and merging. Does not: where the mask lies (`imaging.mask`).

The recipe was measured against hard pastes, plain feathering, Poisson cloning and multi-band blending: matching the
mean and deviation of LAB on a ring inside the mask's edge, then blending by the feathered mask, left the least seam and
cast.
Colour statistics in LAB: Reinhard et al., "Color Transfer between Images", IEEE CG&A 21(5), 2001.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from imaging.boxes import Box
from imaging.crop import crop

MOST_SHIFT = 20.0  # of L, a and b; a larger difference is meant, not a cast
LEAST_RATIO, MOST_RATIO = 0.8, 1.25
_LEAST_RING = 16  # pixels; under that the statistics are noise


def match_ring_color(patch: NDArray[np.uint8], target: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Bring the colours of a patch to those of its surroundings, measured where the mask fades.

    Args:
        patch: the new pixels, RGB uint8 of shape (height, width, 3).
        target: the old pixels, same shape.
        mask: uint8 of shape (height, width); the ring is where it is between 0 and 255.

    Returns:
        The patch with its LAB mean moved by at most 20 and its deviation scaled by 0.8 to 1.25; the patch itself where
        there is no ring, or nothing to change.

    Raises:
        ValueError: shapes or dtypes that do not fit.
    """
    _check(patch, target, mask)
    ring = (mask > 0) & (mask < 255)
    if np.count_nonzero(ring) < _LEAST_RING:
        return patch.copy()
    new = cv2.cvtColor(patch.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    old = cv2.cvtColor(target.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    new_mean, old_mean = new[ring].mean(axis=0), old[ring].mean(axis=0)
    ratio = np.clip((old[ring].std(axis=0) + 0.5) / (new[ring].std(axis=0) + 0.5), LEAST_RATIO, MOST_RATIO)
    shift = np.clip(old_mean - new_mean, -MOST_SHIFT, MOST_SHIFT)
    if np.array_equal(shift, np.zeros(3)) and np.array_equal(ratio, np.ones(3)):
        return patch.copy()
    matched = (new - new_mean) * ratio + new_mean + shift
    rgb = cv2.cvtColor(matched.astype(np.float32), cv2.COLOR_LAB2RGB)
    return np.asarray(np.clip(np.rint(rgb * 255), 0, 255), dtype=np.uint8)


def merge(original: NDArray[np.uint8], patch: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Blend a patch over an image of the same size; where the mask is 0 the original stays to the last bit.

    Args:
        original: RGB uint8 of shape (height, width, 3).
        patch: same shape.
        mask: uint8 of shape (height, width).

    Raises:
        ValueError: shapes or dtypes that do not fit.
    """
    _check(patch, original, mask)
    alpha = mask.astype(np.float32)[:, :, None] / 255
    blended = np.rint(original + (patch.astype(np.float32) - original) * alpha).astype(np.uint8)
    merged: NDArray[np.uint8] = np.where(mask[:, :, None] == 0, original, blended)
    return merged


def merge_into(
    image: NDArray[np.uint8], patch: NDArray[np.uint8], mask: NDArray[np.uint8], box: Box
) -> NDArray[np.uint8]:
    """Blend a patch into its box of a larger image; a new image, the given one is not changed.

    Args:
        image: RGB uint8 of shape (height, width, 3).
        patch: RGB uint8 of the box's size.
        mask: uint8 of the box's size.
        box: where the patch belongs; inside the image.

    Raises:
        ValueError: shapes or dtypes that do not fit, or a box that reaches out of the image.
    """
    merged = image.copy()
    merged[box.top : box.bottom, box.left : box.right] = merge(crop(image, box), patch, mask)
    return merged


def _check(patch: NDArray[np.uint8], image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
    if patch.dtype != np.uint8 or image.dtype != np.uint8 or mask.dtype != np.uint8:
        raise ValueError(f"Patch, image and mask must be uint8; got {patch.dtype}, {image.dtype}, {mask.dtype}.")
    if patch.ndim != 3 or patch.shape[2] != 3 or patch.shape != image.shape or mask.shape != patch.shape[:2]:
        raise ValueError(
            "Patch and image must have the same shape (height, width, 3), and the mask (height, width); "
            f"got {patch.shape}, {image.shape}, {mask.shape}."
        )

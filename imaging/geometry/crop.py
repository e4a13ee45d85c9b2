"""Cutting out and resizing."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from imaging.geometry.boxes import Box


def clamp(box: Box, size: tuple[int, int]) -> Box:
    """The part of a box that lies in an image of `size` (width, height).

    Raises:
        ValueError: when no part of it does.
    """
    width, height = size
    return Box(max(0, box.left), max(0, box.top), min(width, box.right), min(height, box.bottom))


def portrait_box(face: Box, size: tuple[int, int], padding: float) -> Box:
    """A square around a face, with room around it.

    At a border the square is moved inwards; only where the image is smaller than the square is it cut, and then no
    longer square. It holds all of the face that lies in the image.

    Args:
        face: the face; must touch the image.
        size: (width, height) of the image in pixels.
        padding: room on each side as a share of the face's longer side, 0 or more.

    Raises:
        ValueError: negative padding, or a face outside the image.
    """
    if padding < 0:
        raise ValueError(f"padding must be 0 or more; got {padding}.")
    inside = clamp(face, size)
    side = round(max(inside.width, inside.height) * (1 + 2 * padding))
    left, right = _span(inside.left, inside.right, side, size[0])
    top, bottom = _span(inside.top, inside.bottom, side, size[1])
    return Box(left, top, right, bottom)


def _span(low: int, high: int, side: int, limit: int) -> tuple[int, int]:
    """`side` pixels around the middle of `low`..`high`, moved or cut so as to lie in 0..`limit`."""
    if side >= limit:
        return (0, limit)
    start = (low + high - side) // 2
    start = min(max(start, 0), limit - side)
    return (start, start + side)


def crop(image: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    """A copy of the pixels in a box that lies inside the image; shape (box.height, box.width[, 3]).

    Raises:
        ValueError: when the box reaches out of the image.
    """
    height, width = image.shape[:2]
    if box.left < 0 or box.top < 0 or box.right > width or box.bottom > height:
        raise ValueError(f"{box} reaches out of an image of {width}x{height}.")
    return image[box.top : box.bottom, box.left : box.right].copy()


def resize(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Bring an image or a mask to `size` (width, height).

    Shrinking averages areas, so nothing is lost between samples; enlarging an RGB image uses Lanczos, a mask linear
    interpolation, which does not ring. Where one side shrinks and the other grows, the shrinking is done first.

    Args:
        image: uint8, RGB of shape (height, width, 3) or a mask of shape (height, width).
        size: at least 1x1.
    """
    height, width = image.shape[:2]
    if (width, height) == size:
        return image.copy()
    smaller = (min(width, size[0]), min(height, size[1]))
    if smaller != (width, height):
        image = np.asarray(cv2.resize(image, smaller, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    if smaller != size:
        method = cv2.INTER_LANCZOS4 if image.ndim == 3 else cv2.INTER_LINEAR
        image = np.asarray(cv2.resize(image, size, interpolation=method), dtype=np.uint8)
    return image


def fit_within(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """(width, height) with the same proportions whose longer side is `longest` pixels; each side at least 1."""
    width, height = size
    scale = longest / max(width, height)
    return (max(1, round(width * scale)), max(1, round(height * scale)))

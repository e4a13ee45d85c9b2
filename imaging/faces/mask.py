"""Face masks: which pixels are made anew, and how strongly.

A mask is uint8 of shape (height, width): 0 keeps the pixel to the last bit, 255 replaces it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imaging.faces.mask_options import MaskOptions
from imaging.faces.shapes import Ellipse, Hull, Outline, RoundedBox, face_ellipse, face_hull
from imaging.faces.skin import skin_depth
from imaging.geometry.boxes import Box, Face

MIN_FEATHER: Final = 8.0  # pixels
_STRIP: Final = 64  # rows
MASK_MARGIN: Final = 12  # pixels around a face's mask that a merge looks at; the mask's edges lie inside them


def face_outline(face: Face, options: MaskOptions) -> Outline:
    """The outline of a face's mask. Its face's width is twice the ellipse's half axis across."""
    ellipse = face_ellipse(face)
    percent = 2 * ellipse.across / 100
    x, y, grow = options.offset_x * percent, options.offset_y * percent, options.grow * percent
    hull = face_hull(face) if options.kind == "hull" else None
    if hull is not None:
        return Hull(tuple((at_x + x, at_y + y) for at_x, at_y in hull.corners), hull.half + grow, grow)
    larger = ellipse.grown(grow).moved(x, y)
    return RoundedBox(larger) if options.kind == "box" else larger


def draw_mask(
    faces: Sequence[Face],
    shape: tuple[int, int],
    options: MaskOptions = MaskOptions(),  # noqa: B008 - it is frozen
    pixels: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """One soft mask for all faces: 255 inside, falling to 0 towards the edge of each face's outline.

    The edge fades always inwards: nothing outside the outline is touched. Where outlines overlap, a pixel belongs to
    one face alone (`part_of_face`), and the mask is that face's.

    Args:
        faces: the faces; they may reach out of the image.
        shape: (height, width) of the image.
        options: what the mask looks like.
        pixels: the image, RGB uint8 of shape (height, width, 3); needed for `options.skin` only.

    Raises:
        ValueError: `options.skin` without pixels.
    """
    mask = np.zeros(shape, np.uint8)
    if options.skin and pixels is None:
        raise ValueError("A mask that ends where the skin ends needs the pixels.")
    for number, face in enumerate(faces if options.kind != "none" else ()):
        outline = face_outline(face, options)
        window = outline.window(shape)
        if window is None:
            continue
        rows, columns = slice(window.top, window.bottom), slice(window.left, window.right)
        depth = outline.depth(window)
        skin = skin_depth(pixels[rows, columns], depth) if options.skin and pixels is not None else None
        if skin is not None:
            depth = np.minimum(depth, skin)
        soft = _soft(depth, _feather(face_ellipse(face), outline, options))
        own = soft if len(faces) == 1 else np.where(_owner(faces, window) == number, soft, 0)
        np.maximum(mask[rows, columns], own, out=mask[rows, columns])
    return mask


def _feather(ellipse: Ellipse, outline: Outline, options: MaskOptions) -> float:
    """Over how many pixels the mask fades; never further than to the middle of the face."""
    if options.feather == 0:
        return 0.0
    return min(max(MIN_FEATHER, options.feather / 100 * 2 * ellipse.across), outline.half)


def _soft(depth: NDArray[np.float32], feather: float) -> NDArray[np.uint8]:
    if feather <= 0:
        return np.where(depth > 0, 255, 0).astype(np.uint8)
    share = np.clip(depth / feather, 0, 1)
    # Smoothstep: no visible line where the feather begins and ends.
    return np.asarray(np.rint(share * share * (3 - 2 * share) * 255), dtype=np.uint8)


def part_of_face(
    mask: NDArray[np.uint8], faces: Sequence[Face], number: int, box: Box | None = None
) -> NDArray[np.uint8]:
    """The part of a whole mask that belongs to one face; the parts of all faces together are the mask.

    A pixel belongs to the face whose ellipse it lies deepest in, or is nearest to: outlines that grow, and what a user
    drew beside the faces, are shared out by the same rule, so there is neither a gap nor a pixel of two faces.

    Args:
        mask: uint8 of shape (height, width).
        faces: all faces of the image.
        number: the index of the face.
        box: which part of the image; None: all of it.

    Returns:
        uint8 of the box's shape.
    """
    box = box or Box(0, 0, mask.shape[1], mask.shape[0])
    window = mask[box.top : box.bottom, box.left : box.right]
    part = window.copy()
    used = mask_bounds(part)
    if len(faces) > 1 and used is not None:
        for top in range(used.top, used.bottom, _STRIP):  # so that no more than a strip is held as floats
            bottom = min(top + _STRIP, used.bottom)
            strip = Box(box.left + used.left, box.top + top, box.left + used.right, box.top + bottom)
            part[top:bottom, used.left : used.right][_owner(faces, strip) != number] = 0
    return part


def _owner(faces: Sequence[Face], window: Box) -> NDArray[np.int16]:
    """The index of the face that each pixel of a window belongs to."""
    owner = np.zeros((window.height, window.width), np.int16)
    nearest = face_ellipse(faces[0]).distance(window)
    for number, face in enumerate(faces[1:], start=1):
        distance = face_ellipse(face).distance(window)
        closer = distance < nearest
        owner[closer] = number
        nearest = np.minimum(nearest, distance)
    return owner


def mask_bounds(mask: NDArray[np.uint8], margin: int = 0) -> Box | None:
    """The smallest box that holds every pixel over 0, with a margin as far as the mask goes; None for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return None
    height, width = mask.shape
    return Box(
        max(0, int(columns[0]) - margin),
        max(0, int(rows[0]) - margin),
        min(width, int(columns[-1]) + 1 + margin),
        min(height, int(rows[-1]) + 1 + margin),
    )

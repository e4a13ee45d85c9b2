"""Face masks: which pixels are made anew, and how strongly.

Belongs here: ellipses around faces, their soft edge, and whose pixel is whose. Does not: blending (`imaging.blend`).

A mask is uint8 of shape (height, width): 0 keeps the pixel to the last bit, 255 replaces it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imaging.boxes import Box, Face

MIN_FEATHER = 8.0
FEATHER_SHARE = 0.08

# A detector's box reaches from brow to chin. The ellipse goes a little beyond it, so that the edge lies on forehead and
# cheeks, where skin is smooth, and not on the features. Haar's boxes are square and hold the hair beside the face too,
# so the half width is also held to what a face of that height has.
_WIDTH_SHARE = 0.56
_HEIGHT_SHARE = 0.58
_WIDTH_OF_HEIGHT = 0.44


@dataclass(frozen=True, slots=True)
class Ellipse:
    """An ellipse in pixels: centre, half axes across and along the face, clockwise turn in degrees."""

    x: float
    y: float
    across: float
    along: float
    angle: float

    def distance(self, window: Box) -> NDArray[np.float32]:
        """The normalised distance from the centre at each pixel of a window: 1 on the ellipse, 0 in its centre."""
        turn = math.radians(self.angle)
        xs = np.arange(window.left, window.right, dtype=np.float32) + 0.5 - self.x
        ys = (np.arange(window.top, window.bottom, dtype=np.float32) + 0.5 - self.y)[:, None]
        across = (xs * math.cos(turn) + ys * math.sin(turn)) / self.across
        along = (ys * math.cos(turn) - xs * math.sin(turn)) / self.along
        return np.asarray(np.hypot(across, along), dtype=np.float32)

    def window(self, shape: tuple[int, int]) -> Box | None:
        """The smallest box around the ellipse inside an image of `shape` (height, width); None if it lies outside."""
        turn = math.radians(self.angle)
        reach_x = math.hypot(self.across * math.cos(turn), self.along * math.sin(turn))
        reach_y = math.hypot(self.across * math.sin(turn), self.along * math.cos(turn))
        left, right = max(0, math.floor(self.x - reach_x)), min(shape[1], math.ceil(self.x + reach_x))
        top, bottom = max(0, math.floor(self.y - reach_y)), min(shape[0], math.ceil(self.y + reach_y))
        return Box(left, top, right, bottom) if left < right and top < bottom else None


def face_ellipse(face: Face) -> Ellipse:
    """The ellipse over a face from brow to chin, turned so that its short axis is parallel to the eyes.

    A face that lies on its side, with a roll nearer to a quarter turn than to none or a half, has its length along the
    width of its box.
    """
    x, y = face.box.center
    width, height = face.box.width, face.box.height
    turn = math.radians(face.roll)
    if abs(math.sin(turn)) > abs(math.cos(turn)):
        width, height = height, width
    across = min(width * _WIDTH_SHARE, height * _WIDTH_OF_HEIGHT)
    return Ellipse(x, y, across, height * _HEIGHT_SHARE, face.roll)


def face_masks(faces: Sequence[Face], shape: tuple[int, int]) -> list[NDArray[np.uint8]]:
    """One soft mask per face, in the order of the faces; no pixel is in two of them.

    Each is 255 inside and falls to 0 towards the edge of the face's ellipse, over 8 % of the face's width but at least
    8 pixels where the face is large enough, and always inwards: nothing outside the ellipse is touched. Where ellipses
    overlap, a pixel belongs to the face whose ellipse it lies deeper in.

    Args:
        faces: the faces; they may reach out of the image.
        shape: (height, width) of the image.
    """
    ellipses = [face_ellipse(face) for face in faces]
    owner = _owners(ellipses, shape)
    masks = []
    for number, ellipse in enumerate(ellipses):
        mask = np.zeros(shape, np.uint8)
        window = ellipse.window(shape)
        if window is not None:
            rows, columns = slice(window.top, window.bottom), slice(window.left, window.right)
            half = min(ellipse.across, ellipse.along)
            feather = min(max(MIN_FEATHER, FEATHER_SHARE * 2 * ellipse.across), half)
            depth = np.clip((1 - ellipse.distance(window)) * half / feather, 0, 1)
            soft = depth * depth * (3 - 2 * depth)  # smoothstep: no visible line where the feather begins and ends
            mask[rows, columns] = np.where(owner[rows, columns] == number, np.rint(soft * 255), 0)
        masks.append(mask)
    return masks


def combine(masks: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """All masks as one: the strongest at each pixel. Needs at least one; all of one shape."""
    whole: NDArray[np.uint8] = np.maximum.reduce(list(masks))
    return whole


def split_by_face(mask: NDArray[np.uint8], faces: Sequence[Face]) -> list[NDArray[np.uint8]]:
    """The part of a whole mask that belongs to each face, in their order; `combine` gives the whole back.

    A pixel outside all ellipses, as in a mask drawn by a user, belongs to the face that it is nearest to.
    """
    window = mask_bounds(mask)
    if window is None or not faces:
        return [np.zeros_like(mask) for _ in faces]
    rows, columns = slice(window.top, window.bottom), slice(window.left, window.right)
    distances = [face_ellipse(face).distance(window) for face in faces]
    owner = np.argmin(distances, axis=0)
    parts = []
    for number in range(len(faces)):
        part = np.zeros_like(mask)
        part[rows, columns] = np.where(owner == number, mask[rows, columns], 0)
        parts.append(part)
    return parts


def mask_bounds(mask: NDArray[np.uint8]) -> Box | None:
    """The smallest box that holds every pixel over 0; None for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return None
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def _owners(ellipses: Sequence[Ellipse], shape: tuple[int, int]) -> NDArray[np.int16]:
    """Which ellipse each pixel lies deepest in; -1 outside all. Only the ellipses' own windows are looked at."""
    owner = np.full(shape, -1, np.int16)
    nearest = np.ones(shape, np.float32)
    for number, ellipse in enumerate(ellipses):
        window = ellipse.window(shape)
        if window is None:
            continue
        rows, columns = slice(window.top, window.bottom), slice(window.left, window.right)
        distance = ellipse.distance(window)
        closer = distance < nearest[rows, columns]
        owner[rows, columns][closer] = number
        nearest[rows, columns][closer] = distance[closer]
    return owner

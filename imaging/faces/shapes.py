"""The outlines of faces: how far inside of one each pixel lies.

Every outline has `depth(window)`: float32 of the window's shape, in pixels, positive inside, 0 on the outline; `half`:
about its smaller half width in pixels; and `window(shape)`: the smallest box around it inside an image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from imaging.geometry.boxes import Box, Face

# A detector's box reaches from brow to chin. The ellipse goes a little beyond it, so that the edge lies on forehead and
# cheeks, where skin is smooth, and not on the features. Haar's boxes are square and hold the hair beside the face too,
# so the half width is also held to what a face of that height has.
_WIDTH_SHARE: Final = 0.56
_HEIGHT_SHARE: Final = 0.58
_WIDTH_OF_HEIGHT: Final = 0.44

_CORNER: Final = 0.5  # radius of a rounded box, as a share of its smaller half side

# The right half of a face's outline, from forehead to chin, in the frame that the landmarks span: across in distances
# between the eyes, down in distances from the eyes to the mouth; (0, 0) lies between the eyes, (0, 1) on the mouth.
_OUTLINE: Final = (
    (0.0, -0.90),
    (0.45, -0.84),
    (0.80, -0.55),
    (0.98, -0.10),
    (1.00, 0.45),
    (0.88, 1.00),
    (0.55, 1.50),
    (0.22, 1.70),
    (0.0, 1.74),
)
_NARROWEST: Final = 0.8  # a face that turns away has its eyes close together, but is not as narrow as they say


class Outline(Protocol):
    """What every outline offers; see the top of the module."""

    @property
    def half(self) -> float:
        """About the smaller half width, in pixels."""
        ...

    def depth(self, window: Box) -> NDArray[np.float32]:
        """How far inside each pixel of a window lies, in pixels."""
        ...

    def window(self, shape: tuple[int, int]) -> Box | None:
        """The smallest box around it inside an image of `shape` (height, width); None if it lies outside."""
        ...


@dataclass(frozen=True, slots=True)
class Ellipse:
    """An ellipse in pixels: centre, half axes across and along the face, clockwise turn in degrees."""

    x: float
    y: float
    across: float
    along: float
    angle: float

    @property
    def half(self) -> float:
        """The smaller half axis."""
        return min(self.across, self.along)

    def frame(self, window: Box) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Each pixel of a window as (across, along) from the centre, in pixels, turned with the face."""
        turn = math.radians(self.angle)
        xs = np.arange(window.left, window.right, dtype=np.float32) + 0.5 - self.x
        ys = (np.arange(window.top, window.bottom, dtype=np.float32) + 0.5 - self.y)[:, None]
        return xs * math.cos(turn) + ys * math.sin(turn), ys * math.cos(turn) - xs * math.sin(turn)

    def distance(self, window: Box) -> NDArray[np.float32]:
        """The normalised distance from the centre at each pixel of a window: 1 on the ellipse, 0 in its centre."""
        across, along = self.frame(window)
        return np.asarray(np.hypot(across / self.across, along / self.along), dtype=np.float32)

    def depth(self, window: Box) -> NDArray[np.float32]:
        """How far inside each pixel lies, measured along its ray in shares of the smaller half axis."""
        return (1 - self.distance(window)) * self.half

    def window(self, shape: tuple[int, int]) -> Box | None:
        """The smallest box around the ellipse inside an image of `shape` (height, width); None if it lies outside."""
        turn = math.radians(self.angle)
        reach_x = math.hypot(self.across * math.cos(turn), self.along * math.sin(turn))
        reach_y = math.hypot(self.across * math.sin(turn), self.along * math.cos(turn))
        return _inside((self.x - reach_x, self.y - reach_y, self.x + reach_x, self.y + reach_y), shape)

    def grown(self, pixels: float) -> Ellipse:
        """With half axes that are longer by so many pixels; one that shrinks keeps half a pixel, if it had it."""
        return replace(
            self,
            across=max(self.across + pixels, min(self.across, 0.5)),
            along=max(self.along + pixels, min(self.along, 0.5)),
        )

    def moved(self, x: float, y: float) -> Ellipse:
        """Moved by so many pixels."""
        return replace(self, x=self.x + x, y=self.y + y)


@dataclass(frozen=True, slots=True)
class RoundedBox:
    """The rectangle around an ellipse, turned with it, with rounded corners."""

    inner: Ellipse

    @property
    def half(self) -> float:
        """The smaller half side."""
        return self.inner.half

    def depth(self, window: Box) -> NDArray[np.float32]:
        """The distance to the nearest edge in pixels, exact also at the corners."""
        radius = _CORNER * self.half
        across, along = self.inner.frame(window)
        beyond_x = np.abs(across) - (self.inner.across - radius)
        beyond_y = np.abs(along) - (self.inner.along - radius)
        corner = np.hypot(np.maximum(beyond_x, 0), np.maximum(beyond_y, 0))
        return np.asarray(radius - corner - np.minimum(np.maximum(beyond_x, beyond_y), 0), dtype=np.float32)

    def window(self, shape: tuple[int, int]) -> Box | None:
        """The smallest box around the rectangle inside an image of `shape` (height, width); None if outside."""
        turn = math.radians(self.inner.angle)
        sine, cosine = abs(math.sin(turn)), abs(math.cos(turn))
        reach_x = self.inner.across * cosine + self.inner.along * sine
        reach_y = self.inner.across * sine + self.inner.along * cosine
        x, y = self.inner.x, self.inner.y
        return _inside((x - reach_x, y - reach_y, x + reach_x, y + reach_y), shape)


@dataclass(frozen=True, slots=True)
class Hull:
    """A convex polygon, its corners (x, y) in pixels in clockwise order on the screen, made larger by `grow` pixels."""

    corners: tuple[tuple[float, float], ...]
    half: float
    grow: float = 0.0

    def depth(self, window: Box) -> NDArray[np.float32]:
        """The distance to the line of the nearest side in pixels."""
        xs = np.arange(window.left, window.right, dtype=np.float32) + 0.5
        ys = (np.arange(window.top, window.bottom, dtype=np.float32) + 0.5)[:, None]
        depth = np.full((window.height, window.width), np.inf, np.float32)
        for (x, y), (to_x, to_y) in zip(self.corners, (*self.corners[1:], self.corners[0]), strict=True):
            length = math.dist((x, y), (to_x, to_y))
            np.minimum(depth, ((to_x - x) * (ys - y) - (to_y - y) * (xs - x)) / length + self.grow, out=depth)
        return depth

    def window(self, shape: tuple[int, int]) -> Box | None:
        """A box around the polygon inside an image of `shape` (height, width); None if it lies outside."""
        xs, ys = zip(*self.corners, strict=True)
        # The lines of two sides that were moved outwards meet further out than by `grow`.
        more = max(0.0, 2 * self.grow)
        return _inside((min(xs) - more, min(ys) - more, max(xs) + more, max(ys) + more), shape)


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


def face_hull(face: Face) -> Hull | None:
    """The outline of a face by its five landmarks: forehead, temples, cheeks, jaw and chin.

    The landmarks span a frame, so the outline turns, tilts and leans with the face. None without landmarks, or where
    they lie on one line.
    """
    if face.landmarks is None:
        return None
    eye, other_eye, _, mouth, other_mouth = (np.array(point, np.float64) for point in face.landmarks)
    middle, across = (eye + other_eye) / 2, other_eye - eye
    down = (mouth + other_mouth) / 2 - middle
    wide, high = float(np.hypot(*across)), float(np.hypot(*down))
    area = abs(float(across[0] * down[1] - across[1] * down[0]))
    if area < 0.1 * wide * high or wide < 1 or high < 1:
        return None
    across = across * max(1.0, _NARROWEST * high / wide)
    halves = [(u, v) for u, v in _OUTLINE] + [(-u, v) for u, v in _OUTLINE[1:-1]]
    points = np.array([middle + across * u + down * v for u, v in halves], np.float32)
    # OpenCV thinks of y as pointing upwards, so what it calls counter-clockwise is clockwise on the screen.
    corners = cv2.convexHull(points, clockwise=False)[:, 0]
    return Hull(tuple((float(x), float(y)) for x, y in corners), float(np.hypot(*across)))


def _inside(reach: tuple[float, float, float, float], shape: tuple[int, int]) -> Box | None:
    """The whole pixels of (left, top, right, bottom) that lie in an image of `shape` (height, width), or None."""
    left, top = max(0, math.floor(reach[0])), max(0, math.floor(reach[1]))
    right, bottom = min(shape[1], math.ceil(reach[2])), min(shape[0], math.ceil(reach[3]))
    return Box(left, top, right, bottom) if left < right and top < bottom else None

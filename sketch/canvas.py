"""The canvas: soft-edged shapes laid over each other, and the frame in which a head is drawn.

Colours are RGB, 0 to 1; the canvas keeps its channels apart, (3, height, width), as that is what NumPy works
through fastest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Plane = NDArray[np.float32]
Color = tuple[float, float, float]

_FIXED = 16  # OpenCV's sub-pixel coordinates: 4 fractional bits
_BLUR = 3.0  # a blur wider than this is done on a smaller mask


@dataclass(frozen=True, slots=True)
class Mask:
    """Coverage 0 to 1 of a part of the canvas whose corner is (left, top)."""

    left: int
    top: int
    alpha: Plane

    def inside(self, other: Mask) -> Mask:
        """This mask where `other` covers, by product."""
        height, width = self.alpha.shape
        alpha = np.zeros_like(self.alpha)
        left, top = max(self.left, other.left), max(self.top, other.top)
        right = min(self.left + width, other.left + other.alpha.shape[1])
        bottom = min(self.top + height, other.top + other.alpha.shape[0])
        if right > left and bottom > top:
            here = np.s_[top - self.top : bottom - self.top, left - self.left : right - self.left]
            there = np.s_[top - other.top : bottom - other.top, left - other.left : right - other.left]
            np.multiply(self.alpha[here], other.alpha[there], out=alpha[here])
        return Mask(self.left, self.top, alpha)


@dataclass(frozen=True, slots=True)
class Light:
    """Where the light comes from.

    Attributes:
        side: +1 from the viewer's right, -1 from the left.
        rim: colour of the light from behind, which edges the shaded side.
        contrast: how dark the shaded side is; 1 is usual.
    """

    side: float
    rim: Color
    contrast: float


class Canvas:
    """A picture under work.

    Attributes:
        pixels: float32, shape (3, height, width), 0 to 1.
    """

    def __init__(self, pixels: Plane) -> None:
        self.pixels = pixels
        self.height, self.width = pixels.shape[1:]

    def union(self, outlines: list[Points], blur: float = 0.0) -> Mask | None:
        """The inside of any of several closed outlines."""

        def draw(image: NDArray[np.uint8], at: NDArray[np.int32]) -> None:
            for part in parts(at, outlines):
                cv2.fillPoly(image, [part], 255, cv2.LINE_AA, 4)

        return self._draw(np.concatenate(outlines), 3 * blur + 2, blur, draw)

    def mask(self, points: Points, blur: float = 0.0) -> Mask | None:
        """The inside of a closed outline of pixel coordinates, softened; None when it lies off the canvas."""
        room = 3 * blur + 2
        return self._draw(points, room, blur, lambda image, at: cv2.fillPoly(image, [at], 255, cv2.LINE_AA, 4))

    def lines(self, paths: list[Points], thickness: float, blur: float = 0.0) -> Mask | None:
        """Open lines of one thickness in pixels; a line thinner than one pixel is drawn fainter."""
        whole = max(1, round(thickness))
        room = 3 * blur + whole + 2

        def draw(image: NDArray[np.uint8], at: NDArray[np.int32]) -> None:
            cv2.polylines(
                image, parts(at, paths), isClosed=False, color=255, thickness=whole, lineType=cv2.LINE_AA, shift=4
            )

        mask = self._draw(np.concatenate(paths), room, blur, draw)
        if mask is not None and thickness < 1:
            mask = Mask(mask.left, mask.top, mask.alpha * np.float32(max(0.25, thickness)))
        return mask

    def _draw(self, points: Points, room: float, blur: float, draw: Any) -> Mask | None:  # noqa: ANN401
        x, y = points[:, 0], points[:, 1]
        left, top = max(0, math.floor(x.min() - room)), max(0, math.floor(y.min() - room))
        right, bottom = min(self.width, math.ceil(x.max() + room)), min(self.height, math.ceil(y.max() + room))
        if right <= left or bottom <= top:
            return None
        width, height = right - left, bottom - top
        shrink = max(1.0, blur / _BLUR)
        # Shapes that reach over the border are drawn beyond it as well, so that their blur does not fade there.
        margin = math.ceil(3 * blur / shrink) if blur else 0
        size = (math.ceil(width / shrink) + 2 * margin, math.ceil(height / shrink) + 2 * margin)
        image = np.zeros((size[1], size[0]), np.uint8)
        at = np.rint(((points - (left, top)) / shrink + margin) * _FIXED).astype(np.int32)
        draw(image, at)
        if blur:
            image = cv2.GaussianBlur(image, (0, 0), blur / shrink)
            image = image[margin : size[1] - margin, margin : size[0] - margin]
        if image.shape != (height, width):
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        alpha = image.astype(np.float32)
        alpha /= np.float32(255)
        return Mask(left, top, alpha)

    def paint(self, mask: Mask | None, color: Color, alpha: float = 1.0) -> None:
        """Lay a colour over the mask."""
        if mask is None or alpha <= 0:
            return
        height, width = mask.alpha.shape
        cover = mask.alpha * np.float32(alpha) if alpha != 1.0 else mask.alpha
        change = np.empty_like(cover)  # once for all channels: getting memory takes longer than the sums
        for channel, value in enumerate(color):
            part = self.pixels[channel, mask.top : mask.top + height, mask.left : mask.left + width]
            np.subtract(np.float32(value), part, out=change)
            change *= cover
            part += change

    def shape(
        self, points: Points, color: Color, alpha: float = 1.0, blur: float = 0.0, clip: Mask | None = None
    ) -> None:
        """Fill an outline, softened by `blur` pixels, only where `clip` covers."""
        mask = self.mask(points, blur)
        if mask is not None and clip is not None:
            mask = mask.inside(clip)
        self.paint(mask, color, alpha)

    def stroke(
        self,
        paths: list[Points],
        color: Color,
        thickness: float,
        alpha: float = 1.0,
        blur: float = 0.0,
        clip: Mask | None = None,
    ) -> None:
        """Draw open lines, only where `clip` covers."""
        mask = self.lines(paths, thickness, blur)
        if mask is not None and clip is not None:
            mask = mask.inside(clip)
        self.paint(mask, color, alpha)


def parts(joined: NDArray[Any], lines: Sequence[Points]) -> list[NDArray[Any]]:
    """The points of several lines, joined and then placed together, each line's apart again: np.split, but quick."""
    ends = list(accumulate(len(line) for line in lines))
    return [joined[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a head is: the origin lies between the eyes, x to the right, y down, and 1 is crown to chin.

    Attributes:
        x: pixel column of the origin.
        y: pixel row of the origin.
        unit: pixels from crown to chin.
        tilt: turn in the picture plane, in radians, clockwise.
        yaw: turn of the head, -1 to 1; features shift towards positive x when it is positive.
    """

    x: float
    y: float
    unit: float
    tilt: float = 0.0
    yaw: float = 0.0

    def at(self, points: Points, depth: float = 0.0) -> Points:
        """Pixel coordinates of points in the frame; `depth` 0 is the outline of the head, 1 the tip of the nose."""
        points = moved(points, self.yaw * 0.055 * depth, 0.0)
        cos, sin = math.cos(self.tilt), math.sin(self.tilt)
        turned: Points = points @ np.array([[cos, sin], [-sin, cos]])
        return moved(turned * self.unit, self.x, self.y)


def curve(points: list[tuple[float, float]], *, closed: bool = False, steps: int = 8) -> Points:
    """A Catmull-Rom curve through the points; shape (n, 2)."""
    knots = np.array(points, float)
    if closed:
        knots = np.concatenate([knots[-1:], knots, knots[:2]])
    else:
        knots = np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    t, t2, t3 = _powers(steps)
    p0, p1, p2, p3 = (knots[i : len(knots) - 3 + i, None] for i in range(4))
    spans = (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t2 + (3 * p1 - p0 - 3 * p2 + p3) * t3) / 2
    line = spans.reshape(-1, 2)
    return line if closed else np.concatenate([line, knots[-2:-1]])


@cache
def _powers(steps: int) -> tuple[Points, Points, Points]:
    """The places along one span of a curve, and their second and third powers; shape (steps, 1)."""
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    return t, t**2, t**3


def moved(points: Points, right: float, down: float) -> Points:
    """The points, shifted."""
    shifted: Points = points + np.array([right, down])
    return shifted


@cache
def _swell(count: int, start: float) -> Points:
    """Half the breadth of a brush mark along its length, of its greatest breadth."""
    swell: Points = np.sin(np.pi * np.linspace(start, 1.0, count))[:, None] / 2
    return swell


def taper(line: Points, width: float, *, both: bool = True) -> Points:
    """The outline of a brush mark along a line: `width` at its thickest, pointed at both ends or at the last.

    `line` has shape (n, 2), or (k, n, 2) for k marks at once; the outline has 2 n points.
    """
    along = np.empty_like(line)
    along[..., 1:-1, :] = line[..., 2:, :] - line[..., :-2, :]
    along[..., 0, :] = line[..., 1, :] - line[..., 0, :]
    along[..., -1, :] = line[..., -1, :] - line[..., -2, :]
    square = along * along
    length = np.sqrt(square[..., :1] + square[..., 1:]) + 1e-9
    normal = along[..., ::-1] * (-1.0, 1.0) / length * _swell(line.shape[-2], 0.0 if both else 0.5) * width
    return np.concatenate([line - normal, (line + normal)[..., ::-1, :]], axis=-2)


def mirrored(half: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """A closed outline from its right half, given from top to bottom, both ends on the axis x = 0."""
    return half + [(-x, y) for x, y in reversed(half[1:-1])]


_ANGLES = np.linspace(0, 2 * math.pi, 32, endpoint=False)
_CIRCLE = (np.cos(_ANGLES), np.sin(_ANGLES))


def ellipse(x: float, y: float, width: float, height: float, turn: float = 0.0) -> Points:
    """An ellipse with these half axes, turned clockwise by `turn` radians; shape (32, 2)."""
    along, across = _CIRCLE[0] * width, _CIRCLE[1] * height
    cos, sin = math.cos(turn), math.sin(turn)
    return np.stack([x + along * cos - across * sin, y + along * sin + across * cos], axis=1)


def mix(first: Color, second: Color, amount: float) -> Color:
    """`first` with `amount` (0 to 1) of `second`."""
    return (
        first[0] + (second[0] - first[0]) * amount,
        first[1] + (second[1] - first[1]) * amount,
        first[2] + (second[2] - first[2]) * amount,
    )


def times(color: Color, factor: Color) -> Color:
    """Each channel times its factor, at most 1."""
    return (min(1.0, color[0] * factor[0]), min(1.0, color[1] * factor[1]), min(1.0, color[2] * factor[2]))


def rgb(red: int, green: int, blue: int) -> Color:
    """A colour from 8-bit values."""
    return (red / 255, green / 255, blue / 255)

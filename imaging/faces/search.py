"""Searching a picture for faces: where to look, at what size and turn, and when to stop.

A detector sees faces of a limited range of sizes, and upright ones best. So a picture is looked at in steps, each only
if the ones before it did not find enough:

1. the whole picture, at each of the detector's sizes;
2. a small copy, turned: a face on its side or its head may stand beside an upright one. If no face is surely upright,
   the picture is turned at each size. A turned face is often found upright as well, weakly and with wrong landmarks:
   then the better score wins. Of what only a turned look sees the sure hits count, since more looks bring more chance
   hits;
3. overlapping tiles, enlarged, if nothing was found: faces too small for the looks so far (as InvokeAI does). Tiles are
   not turned: they would be three times as many looks, and a chance hit of 0.9 was seen in enlarged grass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from imaging.geometry.align import Frame
from imaging.geometry.boxes import Box, Face
from imaging.geometry.crop import crop, fit_within, resize
from imaging.geometry.nms import is_same, nms

TURNS: Final = (1, 2, 3)  # quarters, counter-clockwise


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one look sees of a face, in pixels of the array that it was given, where fractions of a pixel count.

    Attributes:
        corners: (left, top, right, bottom); may reach out of the array.
        score: the detector's confidence, 0 to 1.
        landmarks: five (x, y) points as `Face` has them, or None.
    """

    corners: tuple[float, float, float, float]
    score: float
    landmarks: tuple[tuple[float, float], ...] | None = None

    def moved(self, right: int, down: int) -> Sighting:
        """The same so many pixels further right and down."""
        left, top, far, bottom = self.corners
        points = self.landmarks and tuple((x + right, y + down) for x, y in self.landmarks)
        return Sighting((left + right, top + down, far + right, bottom + down), self.score, points)


Detect = Callable[[NDArray[np.uint8]], Iterable[Sighting]]
"""One single-pass look at an RGB uint8 array of shape (height, width, 3): what is seen, in any order."""


@dataclass(frozen=True, slots=True)
class Search:
    """How a detector searches; each detector has its own measured values.

    Attributes:
        long_sides: sizes at which the whole picture is looked at: pixels of the longer side. A picture is never
            enlarged for it.
        large_from: a picture with a longer side than this is also looked at as it is,
        large_to: but with this longer side at most.
        confidence: from this score on, 0 to 1, something counts as found.
        candidates: hits of the first step under `confidence` are kept from this score on, so that a person sees
            what was nearly found.
        sure: from this score on a hit is beyond doubt; the only ones that count of turned looks.
        tile: side of a tile in pixels of the picture; 0: no tiles are looked at.
        overlap: pixels that neighbouring tiles share at least; a face up to this size is whole in one of them.
        enlarge: factor by which tiles are enlarged.
        tile_confidence: from this score on a hit in a tile counts; never less than `confidence`.

    Raises:
        ValueError: a value out of its range.
    """

    long_sides: tuple[int, ...]
    large_from: int
    large_to: int
    confidence: float
    candidates: float
    sure: float
    tile: int
    overlap: int
    enlarge: float
    tile_confidence: float

    def __post_init__(self) -> None:
        if not self.long_sides or min(self.long_sides) < 1:
            raise ValueError(f"long_sides must be one or more whole numbers from 1; got {self.long_sides}.")
        if not 0 <= self.candidates <= self.confidence <= 1:
            raise ValueError(f"0 <= candidates <= confidence <= 1 must hold; got {self}.")
        if self.tile and not 0 <= self.overlap < self.tile:
            raise ValueError(f"overlap must be at least 0 and less than tile; got {self.overlap} and {self.tile}.")
        if not self.enlarge > 0:
            raise ValueError(f"enlarge must be over 0; got {self.enlarge}.")


@dataclass(frozen=True, slots=True)
class Turned:
    """How a small copy of a picture is turned, in search of faces that are not upright.

    Attributes:
        side: its longer side in pixels; a smaller picture is not enlarged.
        angles: degrees by which it is turned, counter-clockwise.
    """

    side: int
    angles: tuple[int, ...]

    def views(self, size: tuple[int, int]) -> list[View | DiagonalView]:
        """The looks at a picture of `size` (width, height)."""
        small = fit_within(size, min(self.side, max(size)))
        return [
            DiagonalView(small, angle) if angle % 90 else View(Box(0, 0, *size), small, angle // 90)
            for angle in self.angles
        ]


@dataclass(frozen=True, slots=True)
class View:
    """One look at a picture.

    Attributes:
        window: the part that is looked at, inside the picture.
        size: (width, height) to which it is brought.
        turns: quarters by which it is then turned, counter-clockwise, 0 to 3.
    """

    window: Box
    size: tuple[int, int]
    turns: int = 0

    def pixels(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What the look is given: RGB uint8, contiguous."""
        return self.turned(resize(crop(image, self.window), self.size))

    def turned(self, small: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The window, brought to the size already, turned."""
        return np.ascontiguousarray(np.rot90(small, self.turns))

    def to_picture(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points (n, 2) of the look in the picture."""
        width, height = self.size
        x, y = points[:, 0], points[:, 1]
        if self.turns == 1:
            x, y = width - y, x
        elif self.turns == 2:
            x, y = width - x, height - y
        elif self.turns == 3:
            x, y = y, height - x
        return np.stack(
            [self.window.left + x * self.window.width / width, self.window.top + y * self.window.height / height],
            axis=1,
        )

    def face(self, seen: Sighting, size: tuple[int, int]) -> Face | None:
        """The face in a picture of `size` (width, height); None when it lies outside.

        Its box holds every pixel that the sighting touches, but for a millionth of a pixel of rounding.
        """
        left, top, right, bottom = seen.corners
        points = np.array([(left, top), (right, bottom), *(seen.landmarks or ())], dtype=np.float64)
        points = self.to_picture(points)
        low = np.floor(points[:2].min(axis=0) + 1e-6).astype(int).tolist()
        high = np.ceil(points[:2].max(axis=0) - 1e-6).astype(int).tolist()
        inside = (max(0, low[0]), max(0, low[1]), min(size[0], high[0]), min(size[1], high[1]))
        if inside[2] <= inside[0] or inside[3] <= inside[1]:
            return None
        landmarks = tuple((float(x), float(y)) for x, y in points[2:]) if seen.landmarks is not None else None
        return Face(Box(*inside), min(1.0, max(0.0, seen.score)), landmarks)


@dataclass(frozen=True, slots=True)
class DiagonalView:
    """One look at a whole picture that is not turned by quarters.

    Attributes:
        size: (width, height) to which the picture is brought.
        angle: degrees by which it is then turned, counter-clockwise, within a square that holds it.
    """

    size: tuple[int, int]
    angle: int

    def turned(self, small: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What the look is given of a picture of that size: RGB uint8, grey beside the picture."""
        side = self._frame().side
        matrix = self._frame().matrix(round(side))
        matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        turned = cv2.warpAffine(small, matrix, (round(side),) * 2, flags=how, borderValue=(128,) * 3)
        return np.asarray(turned, dtype=np.uint8)

    def face(self, seen: Sighting, size: tuple[int, int]) -> Face | None:
        """The face in a picture of `size` (width, height), its box as wide and high as the turned oval in it."""
        left, top, right, bottom = seen.corners
        turn = math.radians(self.angle)
        wide, high = (right - left) * math.cos(turn), (bottom - top) * math.sin(turn)
        tall, deep = (right - left) * math.sin(turn), (bottom - top) * math.cos(turn)
        half = np.array([math.hypot(wide, high), math.hypot(tall, deep)]) / 2
        points = np.array([((left + right) / 2, (top + bottom) / 2), *(seen.landmarks or ())], dtype=np.float64)
        (middle, *landmarks) = self._frame().to_picture(points, round(self._frame().side))
        corners = (*(middle - half).tolist(), *(middle + half).tolist())
        there = Sighting(corners, seen.score, seen.landmarks and tuple((float(x), float(y)) for x, y in landmarks))
        return View(Box(0, 0, *size), self.size).face(there, size)

    def _frame(self) -> Frame:
        """The square, in pixels of the small picture."""
        return Frame(self.size[0] / 2, self.size[1] / 2, math.ceil(math.hypot(*self.size)), -self.angle)


def search(
    image: NDArray[np.uint8],
    detect: Detect,
    options: Search,
    thorough: Detect | None = None,
    turned: Turned | None = None,
    quick: Detect | None = None,
) -> list[Face]:
    """The faces of an RGB uint8 picture of shape (height, width, 3), best first, no two of them one face.

    Faces under `options.confidence` are candidates: nearly found.

    Args:
        image: the picture.
        detect: one pass of the detector.
        options: the sizes, turns and tiles.
        thorough: a slower pass that misses less, for when the first one was not sure of a face.
        turned: the small copies that are turned; None: none are.
        quick: the pass for the turned copies; None: `detect`.
    """
    size = (image.shape[1], image.shape[0])
    faces = detect_in(image, whole(size, options), detect, options.candidates)
    if thorough is not None and not _any(faces, options.sure):
        faces += detect_in(image, whole(size, options), thorough, options.candidates)
    views = turned.views(size) if turned else []
    seen = _seen_in(resize(image, views[0].size), views, quick or detect, size, options.confidence) if views else []
    if not _any(faces, options.sure):
        more = [view for view in whole(size, options, TURNS) if view not in views]
        seen += detect_in(image, more, detect, options.confidence)
    faces += [face for face in seen if face.score >= options.sure or any(is_same(face, other) for other in faces)]
    if options.tile and not _any(faces, options.confidence):
        faces += detect_in(image, tiles(size, options), detect, max(options.tile_confidence, options.confidence))
    return nms(faces)


def detect_in(image: NDArray[np.uint8], views: Iterable[View], detect: Detect, least: float) -> list[Face]:
    """What the looks see with a score of `least` or more, each face once, best first, in any order of views."""
    size = (image.shape[1], image.shape[0])
    faces = [view.face(seen, size) for view in views for seen in detect(view.pixels(image)) if seen.score >= least]
    return nms(face for face in faces if face is not None)


def _seen_in(
    small: NDArray[np.uint8],
    views: Iterable[View | DiagonalView],
    detect: Detect,
    size: tuple[int, int],
    least: float,
) -> list[Face]:
    """`detect_in` for turned looks at one small copy of a picture of `size` (width, height)."""
    faces = [view.face(seen, size) for view in views for seen in detect(view.turned(small)) if seen.score >= least]
    return nms(face for face in faces if face is not None)


def whole(size: tuple[int, int], options: Search, turns: Iterable[int] = (0,)) -> list[View]:
    """The looks at a whole picture of `size` (width, height), at each size and turn."""
    longest = max(size)
    sides = {min(side, longest) for side in options.long_sides}
    if longest > options.large_from:
        sides.add(min(longest, options.large_to))
    return [
        View(Box(0, 0, *size), fit_within(size, side), turn) for turn in turns for side in sorted(sides, reverse=True)
    ]


def tiles(size: tuple[int, int], options: Search) -> list[View]:
    """The looks at enlarged tiles that cover a picture of `size` (width, height)."""
    windows = [
        Box(left, top, min(size[0], left + options.tile), min(size[1], top + options.tile))
        for top in _starts(size[1], options)
        for left in _starts(size[0], options)
    ]
    return [
        View(window, (max(1, round(window.width * options.enlarge)), max(1, round(window.height * options.enlarge))))
        for window in windows
    ]


def _starts(length: int, options: Search) -> list[int]:
    """Where tiles begin along a side of `length` pixels: evenly spread, from border to border."""
    room = length - options.tile
    if room <= 0:
        return [0]
    steps = math.ceil(room / (options.tile - options.overlap))
    return [room * step // steps for step in range(steps + 1)]


def _any(faces: Iterable[Face], least: float) -> bool:
    return any(face.score >= least for face in faces)

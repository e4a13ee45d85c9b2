"""Boxes and faces: where something lies in an image."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Box:
    """A half-open rectangle of whole pixels: columns `left <= x < right`, rows `top <= y < bottom`.

    Raises:
        ValueError: when it is empty or turned inside out.
    """

    left: int
    top: int
    right: int
    bottom: int

    def __post_init__(self) -> None:
        if self.right <= self.left or self.bottom <= self.top:
            raise ValueError(f"A box must have an area; got {self}.")

    @property
    def width(self) -> int:
        """Width in pixels, at least 1."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Height in pixels, at least 1."""
        return self.bottom - self.top

    @property
    def area(self) -> int:
        """Area in pixels, at least 1."""
        return self.width * self.height

    @property
    def center(self) -> tuple[float, float]:
        """The middle as (x, y), in pixels."""
        return ((self.left + self.right) / 2, (self.top + self.bottom) / 2)

    def moved(self, right: int, down: int) -> Box:
        """The same box so many pixels further right and down."""
        return Box(self.left + right, self.top + down, self.right + right, self.bottom + down)

    def as_tuple(self) -> tuple[int, int, int, int]:
        """(left, top, right, bottom), as PIL takes it."""
        return (self.left, self.top, self.right, self.bottom)


@dataclass(frozen=True, slots=True)
class Face:
    """A face found in an image.

    Attributes:
        box: the face from brow to chin, inside the image.
        score: the detector's confidence, 0 to 1.
        landmarks: five (x, y) points in pixels, or None: the eye on the viewer's left, the eye on the viewer's
            right, nose tip, mouth corner on the viewer's left, mouth corner on the viewer's right.
    """

    box: Box
    score: float
    landmarks: tuple[tuple[float, float], ...] | None = None

    def resized(self, before: tuple[int, int], after: tuple[int, int]) -> Face:
        """The face in a picture of size `after` that was `before`, each (width, height); its box has whole pixels."""
        across, down = after[0] / before[0], after[1] / before[1]
        box = Box(
            math.floor(self.box.left * across),
            math.floor(self.box.top * down),
            min(after[0], math.ceil(self.box.right * across)),
            min(after[1], math.ceil(self.box.bottom * down)),
        )
        points = self.landmarks and tuple((x * across, y * down) for x, y in self.landmarks)
        return Face(box, self.score, points)

    @property
    def roll(self) -> float:
        """In-plane turn of the line between the eyes, in degrees; positive is clockwise; 0.0 without landmarks."""
        if self.landmarks is None:
            return 0.0
        (left_x, left_y), (right_x, right_y) = self.landmarks[0], self.landmarks[1]
        return math.degrees(math.atan2(right_y - left_y, right_x - left_x))

    @property
    def eye_distance(self) -> float | None:
        """Distance between the eye centres in pixels; None without landmarks."""
        if self.landmarks is None:
            return None
        return math.dist(self.landmarks[0], self.landmarks[1])

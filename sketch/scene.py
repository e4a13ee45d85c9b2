"""Where everybody stands: from a brief and a size to people, frames and a light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sketch.appearance import Appearance, decide
from sketch.background import PLACES
from sketch.canvas import Color, Frame, Light
from sketch.words import Brief

_GRADES = {"warm": (1.07, 1.0, 0.87), "cold": (0.9, 0.98, 1.1), "dramatic": (0.97, 0.95, 0.95)}


@dataclass(frozen=True, slots=True)
class Figure:
    """One person and the frame of the head."""

    person: Appearance
    frame: Frame


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that is to be painted, back to front.

    Attributes:
        place: a key of `background.PLACES`.
        figures: those behind come first.
        light: for everybody.
        grade: factor per channel over the whole picture.
        monochrome: take the colour out at the end.
    """

    place: str
    figures: tuple[Figure, ...]
    light: Light
    grade: Color
    monochrome: bool


def compose(brief: Brief, width: int, height: int, rng: np.random.Generator) -> Scene:
    """Lay the scene out on a canvas of this many pixels."""
    people = [decide(wish, brief, rng) for wish in brief.people]
    free = [
        name
        for name in ("studio", "studio", "room", "garden", "sunset", "mountains")
        if name not in brief.banned["place"]
    ]
    drawn = free[int(rng.random() * len(free))]
    place = brief.place or drawn
    side = 1.0 if rng.random() < 0.5 else -1.0
    grade = PLACES[place].grade
    if brief.light:
        grade = tuple(np.multiply(grade, _GRADES[brief.light]).tolist())
    frames = _frames(len(people), width, height, rng)
    figures = sorted(
        (Figure(person, frame) for person, frame in zip(people, frames, strict=True)),
        key=lambda figure: figure.frame.unit,
    )
    contrast = 1.35 if brief.light == "dramatic" else 1.0
    return Scene(place, tuple(figures), Light(side, PLACES[place].rim, contrast), grade, brief.monochrome)


def _frames(count: int, width: int, height: int, rng: np.random.Generator) -> list[Frame]:
    """A frame per person from left to right; where one row would be too tight, the second row stands behind."""
    jitter = rng.uniform(-1, 1, (count, 4))
    place = _in_one_row if count == 1 or width / count > 0.24 * height else _in_two_rows
    frames = []
    for index, (sway, lift, tilt, yaw) in enumerate(jitter):
        x, y, unit = place(index, count, width, height)
        frames.append(
            Frame(x + sway * unit * 0.05, y + lift * unit * 0.03, unit * (1 + 0.03 * lift), tilt * 0.06, yaw * 0.7)
        )
    return frames


def _in_one_row(index: int, count: int, width: int, height: int) -> tuple[float, float, float]:
    """x, y and unit of a head; two people stand closer, and of several every other one a little lower."""
    alone = count == 1
    unit = min((0.49 if alone else 0.40) * height, width / count / (1.15 if alone else 1.05))
    x = _near_middle(index, width, unit) if count == 2 else (index + 0.5) / count * width
    y = height * 0.46
    return x, y if alone else y + (index % 2 - 0.5) * 0.08 * unit, unit


def _in_two_rows(index: int, count: int, width: int, height: int) -> tuple[float, float, float]:
    """x, y and unit of a head; every other person stands behind."""
    place, behind = divmod(index, 2)
    seats = count // 2 if behind else (count + 1) // 2
    unit = min(0.40 * height * 0.72, width / seats / 1.05) * (0.86 if behind else 1.0)
    x = _near_middle(place, width, unit) if count == 2 else (place + 0.5) / seats * width
    return x, height * (0.28 if behind else 0.62), unit


def _near_middle(place: int, width: int, unit: float) -> float:
    return width / 2 + (place - 0.5) * min(width * 0.5, unit * 1.25)

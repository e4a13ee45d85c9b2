"""Where everybody stands: from a brief and a size to frames, looks and a light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sketch.background import PLACES
from sketch.body import Light
from sketch.canvas import Color, Frame
from sketch.look import Look, decide
from sketch.words import Brief

_GRADES = {"warm": (1.07, 1.0, 0.87), "cold": (0.9, 0.98, 1.1), "dramatic": (0.97, 0.95, 0.95)}


@dataclass(frozen=True, slots=True)
class Figure:
    """One person and the frame of the head."""

    look: Look
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
    looks = [decide(wish, brief, rng) for wish in brief.people]
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
    frames = _frames(len(looks), width, height, rng)
    figures = sorted(
        (Figure(look, frame) for look, frame in zip(looks, frames, strict=True)), key=lambda figure: figure.frame.unit
    )
    contrast = 1.35 if brief.light == "dramatic" else 1.0
    return Scene(place, tuple(figures), Light(side, PLACES[place].rim, contrast), grade, brief.monochrome)


def _frames(count: int, width: int, height: int, rng: np.random.Generator) -> list[Frame]:
    """A frame per person from left to right; where one row would be too tight, the second row stands behind."""
    jitter = rng.uniform(-1, 1, (count, 4))
    rows = 1 if count == 1 or width / count > 0.24 * height else 2
    front = count if rows == 1 else (count + 1) // 2
    frames = []
    for index in range(count):
        back = index % 2 == 1 if rows == 2 else False
        place, seats = (index, count) if rows == 1 else (index // 2, count - front if back else front)
        reach = 0.49 if count == 1 else 0.40
        unit = min(reach * height * (1.0 if rows == 1 else 0.72), width / seats / (1.15 if count == 1 else 1.05))
        unit *= 0.86 if back else 1.0
        x = (place + 0.5) / seats * width
        if count == 2:
            x = width / 2 + (place - 0.5) * min(width * 0.5, unit * 1.25)
        elif back and seats == front:
            x += width / seats / 2 - width * 0.5 / seats
        y = height * (0.46 if rows == 1 else 0.28 if back else 0.62)
        if count > 1 and rows == 1:
            y += (index % 2 - 0.5) * 0.08 * unit
        sway, lift, tilt, yaw = jitter[index]
        frames.append(
            Frame(x + sway * unit * 0.05, y + lift * unit * 0.03, unit * (1 + 0.03 * lift), tilt * 0.06, yaw * 0.7)
        )
    return frames

"""A picture for people to look at: what was found in an image, and what was made of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from imaging.faces.selection import Dropped
from imaging.geometry.boxes import Face
from imaging.geometry.crop import fit_within, resize

KEPT: Final = (64, 255, 96)
DROPPED: Final = (255, 96, 64)
DARK: Final = (0, 0, 0)
LONGEST: Final = 1024
FONT_SIZE: Final = 16  # pixels
MARGIN: Final = 2

Place = tuple[float, float, float, float]  # left, top, right, bottom


def debug_picture(
    image: NDArray[np.uint8],
    kept: Sequence[Face],
    dropped: Sequence[Dropped] = (),
    longest: int = LONGEST,
    notes: Sequence[str] = (),
    *,
    brief: bool = False,
) -> NDArray[np.uint8]:
    """A copy with every face: its box, landmarks, number and score, or the reason why it was dropped.

    Lines are edged in black and words stand on black, so that they can be read on any background. The faces that are
    kept have their numbers, from 1, in the order given.

    Args:
        image: RGB uint8, shape (height, width, 3); it stays as it is.
        kept: the faces that are worked on, in its pixels.
        dropped: the faces that are not.
        longest: most pixels of the copy's longer side; a larger image is shrunk first.
        notes: what else is to be said of each kept face; empty, or as many as these.
        brief: boxes and numbers alone, which a small copy has room for.

    Returns:
        RGB uint8, of the image's proportions.
    """
    height, width = image.shape[:2]
    size = fit_within((width, height), min(longest, max(width, height)))
    picture = Image.fromarray(resize(image, size))
    draw = ImageDraw.Draw(picture)
    scale = (size[0] / width, size[1] / height)
    for other in dropped:
        _draw_face(draw, other.face, DROPPED, scale, landmarks=not brief)
    for face in kept:
        _draw_face(draw, face, KEPT, scale, landmarks=not brief)
    # Words last, so that no line runs through them, and each where there are none yet.
    said = [f"{number}" if brief else f"{number}: {face.score:.2f}" for number, face in enumerate(kept, start=1)]
    for number, note in enumerate(() if brief else notes):
        said[number] += f" {note}" if note else ""
    words = [(face, text, KEPT) for face, text in zip(kept, said, strict=True)]
    words += [] if brief else [(other.face, other.reason, DROPPED) for other in dropped]
    taken: list[Place] = []
    for face, text, color in words:
        taken.append(_write(draw, text, face, color, scale, taken))
    return np.asarray(picture, dtype=np.uint8)


def _draw_face(
    draw: ImageDraw.ImageDraw, face: Face, color: tuple[int, int, int], scale: tuple[float, float], *, landmarks: bool
) -> None:
    box = face.box
    left, right = int(box.left * scale[0]), max(int(box.left * scale[0]), int(box.right * scale[0]) - 1)
    top, bottom = int(box.top * scale[1]), max(int(box.top * scale[1]), int(box.bottom * scale[1]) - 1)
    draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=DARK, width=4)
    draw.rectangle((left, top, right, bottom), outline=color, width=2)
    radius = max(1.0, (right - left) / 50)
    for x, y in (landmarks and face.landmarks) or ():
        center = (x * scale[0], y * scale[1])
        draw.circle(center, radius + 1, fill=DARK)
        draw.circle(center, radius, fill=color)


def _write(
    draw: ImageDraw.ImageDraw,
    text: str,
    face: Face,
    color: tuple[int, int, int],
    scale: tuple[float, float],
    taken: Sequence[Place],
) -> Place:
    """Words above the face's box, or the next free place below that; where they stand."""
    font = ImageFont.load_default(FONT_SIZE)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    wide, high = right - left + 2 * MARGIN, bottom - top + 2 * MARGIN
    width, height = draw.im.size
    x = max(0.0, min(face.box.left * scale[0], width - wide))
    above = max(0.0, face.box.top * scale[1] - high - MARGIN)
    free = [place for place in _column(x, above, wide, high, height) if not any(_meet(place, one) for one in taken)]
    place = free[0] if free else (x, above, x + wide, above + high)
    draw.rectangle(place, fill=DARK)
    draw.text((place[0] + MARGIN - left, place[1] + MARGIN - top), text, fill=color, font=font)
    return place


def _column(x: float, y: float, wide: float, high: float, height: int) -> list[Place]:
    """Places one below the other, from `y` to the lower border."""
    return [(x, y + step * high, x + wide, y + (step + 1) * high) for step in range(max(0, int((height - y) // high)))]


def _meet(one: Place, other: Place) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]

"""Portraits side by side in one square picture, for people to look at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from imaging.files.debug_picture import DARK, DROPPED, KEPT, MARGIN
from imaging.geometry.crop import resize

GAP: Final = 4  # pixels
SMALLEST: Final = 16  # pixels; a portrait in a grid of more is not told from another


def montage(
    portraits: Sequence[NDArray[np.uint8]], passed: Sequence[bool], side: int, paper: tuple[int, int, int]
) -> NDArray[np.uint8]:
    """As many columns as rows, in the order given; each portrait with its number from 1, green if it passed, else red.

    Args:
        portraits: square RGB uint8 arrays of any size, at least one.
        passed: one for each.
        side: of the result, in pixels.
        paper: the colour between the portraits.

    Returns:
        RGB uint8 of `side` x `side` pixels, or less high where the last rows are not needed.

    Raises:
        ValueError: no portrait, another number of `passed`, or a side too small for so many.
    """
    columns = math.ceil(math.sqrt(len(portraits)))
    small = (side - (columns - 1) * GAP) // columns if columns else 0
    if small < SMALLEST or len(portraits) != len(passed):
        raise ValueError(f"{len(portraits)} portraits, {len(passed)} of them judged, do not fit into {side} pixels.")
    rows = math.ceil(len(portraits) / columns)
    page = Image.new("RGB", (side, rows * small + (rows - 1) * GAP), paper)
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(max(10, min(16, small // 4)))
    for index, (portrait, good) in enumerate(zip(portraits, passed, strict=True)):
        left, top = (place * (small + GAP) for place in (index % columns, index // columns))
        page.paste(Image.fromarray(resize(portrait, (small, small))), (left, top))
        words = str(index + 1)
        box = draw.textbbox((left + MARGIN, top + MARGIN), words, font=font, anchor="lt")
        draw.rectangle((left, top, box[2] + MARGIN, box[3] + MARGIN), fill=DARK)
        draw.text((left + MARGIN, top + MARGIN), words, fill=KEPT if good else DROPPED, font=font, anchor="lt")
    return np.asarray(page, dtype=np.uint8)

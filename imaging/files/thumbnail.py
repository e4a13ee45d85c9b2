"""Small previews for Dagster's metadata, which is shown as Markdown."""

from __future__ import annotations

import base64
import io
import re
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imaging.geometry.crop import fit_within, resize

_QUALITIES: Final = (80, 60, 40, 20, 5)
_SHRINK: Final = 0.7
_IN_PLACE: Final = 80  # pixels; of most pictures this fits without the lowest qualities
MOST_SHOWN: Final = 1000
"""Markdown of so many characters is hidden behind a click in Dagster's UI (1.13, measured)."""


def thumbnail_webp(pixels: NDArray[np.uint8], longest: int = 192, limit: int = 12 * 1024) -> bytes:
    """Shrink an image to a WebP that never exceeds the limit: first the quality gives way, then the size.

    Args:
        pixels: RGB, uint8, shape (height, width, 3), or grey, shape (height, width). Never enlarged.
        longest: most pixels of the longer side.
        limit: most bytes.

    Raises:
        ValueError: a limit that no WebP fits in.
    """
    size = (pixels.shape[1], pixels.shape[0])
    side = min(longest, max(size))
    while side >= 1:
        small = Image.fromarray(resize(pixels, fit_within(size, side)))
        for quality in _QUALITIES:
            buffer = io.BytesIO()
            small.save(buffer, "WEBP", quality=quality, method=2)  # half the time of 4, 3 % more bytes
            if buffer.tell() <= limit:
                return buffer.getvalue()
        side = int(side * _SHRINK)
    raise ValueError(f"No WebP fits in {limit} bytes.")


def thumbnail_markdown(pixels: NDArray[np.uint8], alt: str) -> str:
    """The thumbnail as a Markdown image that carries its own data. `pixels` as in `thumbnail_webp`.

    Dagster's UI shows Markdown of under `MOST_SHOWN` characters where it stands, and longer one behind a click; and it
    keeps every preview for good, twice on SQLite.
    """
    text = re.sub(r"([\\\[\]])", r"\\\1", " ".join(alt.split()))
    head, end = f"![{text}](data:image/webp;base64,", ")"
    room = (MOST_SHOWN - 1 - len(head) - len(end)) // 4 * 3
    return head + base64.b64encode(thumbnail_webp(pixels, _IN_PLACE, room)).decode("ascii") + end

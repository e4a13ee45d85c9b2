"""The values of the stages that make pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.files.alpha import on_white
from imaging.files.making import carried_texts
from imaging.files.png_chunks import read_png
from imaging.files.provenance import Provenance, decode_png_exact, read_exif, read_provenance


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image.

    Attributes:
        pixels: uint8; RGB or RGBA of shape (height, width, 3 or 4), or a mask of shape (height, width).
        provenance: how it was made, for the PNG's own chunks; None for working images such as masks.
        exif: EXIF data of the photo that it was made from, for the PNG.
    """

    pixels: NDArray[np.uint8]
    provenance: Provenance | None = None
    exif: bytes = b""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image as it was read from the store; its pixels are decoded when they are asked for, each time anew.

    So a run that carries many jobs holds their compressed bytes, not their pixels.
    """

    data: bytes

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """uint8; RGB of shape (height, width, 3), transparent parts on white, or a mask of shape (height, width)."""
        pixels = decode_png_exact(self.data)
        return on_white(pixels) if pixels.ndim == 3 and pixels.shape[2] == 4 else pixels

    @property
    def as_stored(self) -> NDArray[np.uint8]:
        """uint8; as `pixels`, but RGBA of shape (height, width, 4) for a picture with transparency."""
        return decode_png_exact(self.data)

    @property
    def exif(self) -> bytes:
        """EXIF data of the photo that it was made from; empty when there are none."""
        return read_exif(self.data)

    @property
    def details(self) -> dict[str, Any]:
        """How it was made: our record in the PNG; empty for a working image."""
        return self.made["record"] or {}

    @property
    def made(self) -> dict[str, Any]:
        """All that `read_provenance` finds in it; of a working image, nothing under each name."""
        return read_provenance(self.data) or {"parameters": None, "record": None, "digital_source_type": None}

    @property
    def texts(self) -> dict[str, str]:
        """What the file of another tool said of how the picture was made, by keyword."""
        return carried_texts(read_png(self.data).texts)


@dataclass(frozen=True, slots=True)
class Patch:
    """One face made anew.

    Attributes:
        box: (left, top, right, bottom) of its crop in the generated image.
        pixels: RGB uint8 of that crop's size.
    """

    box: tuple[int, int, int, int]
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class PatchesRecord:
    """The faces of one image made anew, in the order of the portrait record, and how.

    `texts` is what the back end's own file said of the first, see `Generated.texts`.
    """

    patches: tuple[Patch, ...]
    details: Mapping[str, Any]
    texts: Mapping[str, str] = field(default_factory=dict)

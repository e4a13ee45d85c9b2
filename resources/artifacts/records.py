"""What each stage of a job leaves behind: the values that pass along the asset graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from imaging.files.alpha import on_white
from imaging.files.provenance import Provenance, decode_png_exact, read_exif, read_provenance
from imaging.geometry.align import Frame
from imaging.geometry.boxes import Box, Face
from resources.sources.photos import SourceInfo
from resources.writers.base import DescriptionAnswer, PromptAnswer, PromptDraft


class Record(BaseModel):
    """Base of the records that are stored as JSON: frozen, and strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RequestRecord(Record):
    """A request as it was accepted: every field filled in, the seed drawn, the source image imported."""

    job_id: str
    request: dict[str, Any]
    source: SourceInfo | None = None


class PromptRecord(Record):
    """The user's words and the improved ones."""

    writer: str
    original: PromptDraft
    enhanced: PromptAnswer


class FaceRecord(Record):
    """One face of a generated image.

    Attributes:
        box: (left, top, right, bottom) in pixels of the generated image.
        crop: the part of the image that its frame lies in, same coordinates.
        frame: (x, y, side, angle) of the upright square around it; None in old records: the crop.
        landmarks: five (x, y) points, or None.
        passed: whether the portrait passed its checks.
        left: why the face is left as it is although it passed: a rule, a tag, or because it is sharp; empty: it is not.
        scores: the numbers of the checks.
        reasons: why it was turned down.
        advice: what does not decide, but may interest a person.
    """

    box: tuple[int, int, int, int]
    crop: tuple[int, int, int, int]
    frame: tuple[float, float, float, float] | None = None
    score: float
    landmarks: tuple[tuple[float, float], ...] | None = None
    passed: bool
    left: str = ""
    scores: dict[str, float] = Field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()

    def face(self) -> Face:
        """The face as detectors and masks know it."""
        return Face(Box(*self.box), self.score, self.landmarks)

    @property
    def is_to_change(self) -> bool:
        """Whether it passed its checks and is not left as it is."""
        return self.passed and not self.left

    def upright(self) -> Frame:
        """The square that is cut out for the face pass."""
        if self.frame is not None:
            return Frame(*self.frame)
        crop = Box(*self.crop)
        side = max(crop.width, crop.height)
        return Frame(crop.left + side / 2, crop.top + side / 2, side)


class DroppedFace(Record):
    """A face that is left as it is: (left, top, right, bottom) in pixels of the generated image, score, and why."""

    box: tuple[int, int, int, int]
    score: float
    reason: str


class PortraitRecord(Record):
    """The faces of an image, in the order asked for, and those that were dropped.

    `width` and `height` are those of the generated image, in pixels.
    """

    detector: str
    width: int
    height: int
    faces: tuple[FaceRecord, ...]
    dropped: tuple[DroppedFace, ...] = ()

    def faces_to_change(self) -> list[FaceRecord]:
        """The faces that are made anew, in the order of `faces`."""
        return [face for face in self.faces if face.is_to_change]

    def seen_in(self, size: tuple[int, int], confidence: float) -> list[Face]:
        """Every face of the picture, worked on or not, once it has been brought to `size` (width, height).

        `confidence`: the least score, 0 to 1, of those that were dropped.
        """
        sure = [Face(Box(*one.box), one.score) for one in self.dropped if one.score >= confidence]
        faces = [face.face() for face in self.faces] + sure
        return [face.resized((self.width, self.height), size) for face in faces]


class DescriptionRecord(Record):
    """The description of the finished image."""

    writer: str
    image: str
    answer: DescriptionAnswer


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
        return (read_provenance(self.data) or {}).get("record") or {}


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
    """The faces of one image made anew, in the order of the portrait record, and how."""

    patches: tuple[Patch, ...]
    details: Mapping[str, Any]

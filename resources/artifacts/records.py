"""What each stage of a job leaves behind: the values that pass along the asset graph, and where they lie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from imaging.geometry.align import Frame
from imaging.geometry.boxes import Box, Face
from resources.artifacts.artifact import Artifact, JsonCodec, PatchesCodec, PngCodec
from resources.sources.photos import SourceInfo
from resources.writers.base import DescriptionAnswer, PromptAnswer, PromptDraft


class Record(BaseModel):
    """Base of the records that are stored as JSON: frozen, and strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RequestRecord(Record):
    """A request as it was accepted: every field filled in, the seed drawn, the source image imported.

    `recipe` is what the request and the settings of that day gave together, as JSON; None in old records.
    """

    job_id: str
    request: dict[str, Any]
    source: SourceInfo | None = None
    recipe: dict[str, Any] | None = None


class PromptRecord(Record):
    """The user's words and the improved ones."""

    writer: str
    original: PromptDraft
    enhanced: PromptAnswer


class FaceWishes(Record):
    """What the rules of the request ask for one face; None where they say nothing."""

    prompt: str | None = None
    negative_prompt: str | None = None
    strength: float | None = None
    seed_offset: int = 0


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
        wishes: what the rules ask for it; None in old records.
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
    wishes: FaceWishes | None = None

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


VERIFIED: Final = "2-verified"
MERGED: Final = "4-results"
RESIZED: Final = "5-resized"

ARTIFACTS: Final[Mapping[str, Artifact]] = {
    one.stage: one
    for one in (
        Artifact("job_request", "requests", JsonCodec(RequestRecord)),
        Artifact("enhanced_prompt", "prompts", JsonCodec(PromptRecord)),
        Artifact("generated_image", "0-generated", PngCodec()),
        Artifact("portrait", "1-portraits", JsonCodec(PortraitRecord), beside=(VERIFIED,)),
        Artifact("mask", "3-masks", PngCodec()),
        Artifact("changed_face", "4-results", PatchesCodec()),
        Artifact("final_image", "6-final", PngCodec(), beside=(MERGED, RESIZED)),
        Artifact(
            "description",
            "descriptions",
            JsonCodec(DescriptionRecord, text=lambda record: f"{record.answer.text}\n"),
        ),
    )
}
"""What each stage leaves behind, by its name."""

JOB_FOLDERS: Final = tuple(sorted({folder for artifact in ARTIFACTS.values() for folder in artifact.folders}))
"""Where a job's files lie: `<job id>.<anything>`, those that were replaced in the same folders below `history`."""

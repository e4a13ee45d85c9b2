"""The sections of a recipe that an installation has defaults for: each value once, with its range and its words.

`Settings` has these fields as FC_<NAME>, a request may give each of them under the same name, and a job's recipe holds
them whole (`jobs.recipes`). Adding a value that decides pictures is a line here, and the place that uses it.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from imaging.faces.mask_options import MaskKind, MaskOptions
from imaging.faces.portrait_options import PortraitOptions
from imaging.faces.selection import MOST_FACES, FaceOptions, FaceOrder
from imaging.quality.gates import Gate, read_gate
from resources.plugins import choices


def _checked_gate(text: str) -> str:
    read_gate("", text)
    return text


GateText = Annotated[str, AfterValidator(_checked_gate)]


class Section(BaseModel):
    """What the sections have in common: frozen, and strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def named(cls, field: str) -> str:
        """What people call a field where they set it: its name in a request; `FC_<NAME>` among the settings."""
        return field


class Scene(Section):
    """Who makes the picture."""

    generator: str = Field("auto", description=f"Who makes the picture: {choices('generator')}.")


class Faces(Section):
    """Which faces are worked on, in which order, and how much of the picture around each."""

    detector: str = Field("auto", description=f"Who finds the faces: {choices('detector')}.")
    detector_confidence: float = Field(0.6, gt=0, lt=1, description="Faces under this score are dropped.")
    max_faces: int = Field(
        8, ge=1, le=MOST_FACES, description="Most faces of an image that are worked on, the largest."
    )
    faces_order: FaceOrder = Field(
        "largest", description=f"Order of portraits, masks and results: {', '.join(get_args(FaceOrder))}."
    )
    faces_min_pixels: int = Field(0, ge=0, description="Faces whose shorter side has fewer pixels are left alone.")
    faces_min_share: float = Field(0.0, ge=0, lt=100, description="Faces under this % of the picture are left alone.")
    faces_max_share: float = Field(100.0, gt=0, le=100, description="Faces over this % of the picture are left alone.")
    face_padding: float = Field(
        0.6, ge=0, le=3, description="Room around a face for the face pass, as a share of its longer side."
    )
    face_align: bool = Field(True, description="Whether a turned face is made anew upright, and turned back.")  # noqa: FBT003
    face_keep_sharp: int = Field(
        0, ge=0, description="Crisp faces at least so many pixels wide are left as they are; 0: none is."
    )

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if self.faces_min_share >= self.faces_max_share:
            least, most = self.named("faces_min_share"), self.named("faces_max_share")
            raise ValueError(
                f"{least}={self.faces_min_share:g} must be less than {most}={self.faces_max_share:g}, or no face "
                "is left"
            )
        return self

    @property
    def face_options(self) -> FaceOptions:
        """The rules by which faces are chosen."""
        return FaceOptions(
            confidence=self.detector_confidence,
            most=self.max_faces,
            order=self.faces_order,
            min_pixels=self.faces_min_pixels,
            min_share=self.faces_min_share,
            max_share=self.faces_max_share,
        )

    @property
    def portrait_options(self) -> PortraitOptions:
        """How portraits are cut, and which faces are good enough."""
        return PortraitOptions(self.face_padding, self.face_align, self.face_keep_sharp)


class Mask(Section):
    """What automatic masks look like."""

    mask_kind: MaskKind = Field(
        "ellipse", description="ellipse, box (rounded), hull (by the landmarks of yunet), or none."
    )
    mask_grow: float = Field(
        0.0, ge=-40, le=100, description="How much larger than the face on each side, in % of its width, -40 to 100."
    )
    mask_feather: float = Field(
        8.0,
        ge=0,
        le=50,
        description="Over how much it fades, in % of the width, 0 to 50, at least 8 pixels; 0: a hard edge.",
    )
    mask_offset_x: float = Field(
        0.0, ge=-100, le=100, description="How far it is moved right, in % of the width, -100 to 100."
    )
    mask_offset_y: float = Field(
        0.0, ge=-100, le=100, description="How far it is moved down, in % of the width, -100 to 100."
    )
    mask_skin: bool = Field(
        False,  # noqa: FBT003
        description="Whether a mask ends where the face's skin does, before hair and background.",
    )

    @property
    def mask_options(self) -> MaskOptions:
        """The same for the one who draws."""
        return MaskOptions(
            kind=self.mask_kind,
            grow=self.mask_grow,
            feather=self.mask_feather,
            offset_x=self.mask_offset_x,
            offset_y=self.mask_offset_y,
            skin=self.mask_skin,
        )


class FacePass(Section):
    """How each face is made anew."""

    face_model: str = Field(
        "", description="Another model for the face pass: SDXL inpainting or Flux, as FC_SDXL_MODEL; empty: the same."
    )
    face_size: int = Field(0, ge=0, le=2048, description="Side of the face pass in pixels; 0: the model's own.")
    face_soft_inpaint: Literal["auto", "off"] = Field(
        "auto", description="auto: SDXL changes less where the mask fades, where the model can; off: all alike."
    )


class Checks(Section):
    """What is asked of each picture before its job goes on. It decides who looks at a picture, never its pixels.

    off: nothing; warn N: a lower score is told in the metadata; review N: the job waits for a person. N is 0 to 1.
    """

    gate_image: GateText = Field(
        "warn 0.4", description="Quality of the generated image or the photo: off, warn N or review N."
    )
    gate_portrait: GateText = Field(
        "warn 0.4", description="Score of each portrait (size, sharpness, light, pose): off, warn N or review N."
    )
    gate_face: GateText = Field("warn 0.4", description="Quality of each new face: off, warn N or review N.")
    gate_final: GateText = Field("warn 0.4", description="Quality of the final image: off, warn N or review N.")

    @property
    def gates(self) -> dict[str, Gate]:
        """What is asked of the picture at each step: `image`, `portrait`, `face`, `final`."""
        return {
            "image": read_gate("the quality of the generated image", self.gate_image),
            "portrait": read_gate("the score of a portrait", self.gate_portrait),
            "face": read_gate("the quality of a new face", self.gate_face),
            "final": read_gate("the quality of the final image", self.gate_final),
        }


class Words(Section):
    """Who improves the prompts, and the fixed words around them, such as the score tags of Pony checkpoints."""

    writer: str = Field("auto", description=f"Who writes: {choices('writer')}.")
    prompt_prefix: str = Field(
        "",
        description="Put before every scene prompt, such as Pony's score tags.",
        examples=["score_9, score_8_up, score_7_up,"],
    )
    prompt_suffix: str = Field("", description="Put behind every scene prompt.")
    face_prompt_prefix: str = Field("", description="Put before every face prompt.")
    face_prompt_suffix: str = Field("", description="Put behind every face prompt.")
    negative_prompt_suffix: str = Field("", description="Put behind every negative prompt.")


class Output(Section):
    """What the file to deliver is like."""

    exif: Literal["clean", "keep"] = Field(
        "clean",
        description="EXIF data of a photo: clean: camera, settings and dates alone; keep: all that is still true.",
    )


class RecipeDefaults(Scene, Faces, Mask, FacePass, Checks, Words, Output):
    """All of them flat, as `Settings` has them."""

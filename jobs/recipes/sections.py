"""The sections of a recipe, whole: what an installation has defaults for (`resources.sections`), and a request's own.

A request has all of these fields flat, under the same names (`jobs.model.request`).
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from imaging.faces.identity import SAME_PERSON
from jobs.recipes.face_rules import FaceRule, RuleTexts
from jobs.recipes.values import MAX_SEED, FileName, Number, PathMark, Sampler, Side, Text, Whole
from resources import sections
from resources.sections import Section


class SceneFields(Section):
    """The size of the picture."""

    width: Side = Field(1024, description="Width of the generated image in pixels: 64 to 2048, a multiple of 8.")
    height: Side = Field(1024, description="Height of the generated image in pixels: 64 to 2048, a multiple of 8.")


class Sampling(Section):
    """The model, and how it samples. A field of the model that is None is as the settings of the back end say."""

    seed: Whole | None = Field(
        None, ge=0, le=MAX_SEED, description="Start of the random numbers. Empty: one is drawn and stored."
    )
    steps: Whole = Field(30, ge=1, le=150, description="Denoising steps, 1 to 150.")
    cfg_scale: Number = Field(6.0, ge=1, le=30, description="Classifier-free guidance (CFG) scale, 1 to 30.")
    scheduler: Sampler = Field(
        "Euler a",
        description="Sampler, by the name that A1111 shows; ComfyUI's and diffusers' names are understood.",
        json_schema_extra={"flags": ["--scheduler", "--sampler"], "metavar": "NAME"},
    )
    checkpoint: Text | None = Field(
        None,
        max_length=4096,
        description=(
            "Checkpoint of the scene: Hub id, folder or .safetensors file; with Forge its title. Empty: as set up."
        ),
    )
    revision: Text | None = Field(None, max_length=256, description="Branch, tag or commit of a Hub id.")
    vae: Text | None = Field(None, max_length=4096, description="Another VAE: Hub id, folder or .safetensors file.")
    loras: list[Annotated[Text, Field(max_length=4096)]] | None = Field(
        None,
        max_length=32,
        description=(
            "LoRAs in place of those set up: file, Hub id, or name in FC_LORA_DIR, then =WEIGHT when it is not 1. "
            "A prompt may name more: <lora:name:0.8>."
        ),
        json_schema_extra={"flags": ["--lora"]},
    )
    embeddings: list[FileName] | None = Field(
        None,
        max_length=64,
        description="Textual inversions in place of those set up: .safetensors files; a file's name is its word.",
        json_schema_extra={"flags": ["--embedding"]},
    )
    clip_skip: Whole | None = Field(
        None, ge=1, le=12, description="Clip skip as A1111 counts; 2 is what SDXL was made with."
    )


class FacePassFields(Section):
    """How much of each face is made anew, and what is different for some."""

    face_strength: Number = Field(
        0.5, ge=0, le=1, description="Denoising strength of the face pass: 0 keeps the face, 1 makes a new one."
    )
    large_face_strength: Number | None = Field(
        None,
        ge=0,
        le=1,
        description=(
            "Denoising strength of a face that fills a quarter of the picture; one of 1 % gets face_strength, those "
            "between them something between. Empty: face_strength for all."
        ),
    )
    face_rules: RuleTexts = Field(
        default_factory=list,
        description=(
            "What is different for some faces, such as 'largest: strength=0.3; prompt=an old man' or "
            "'not main face: skip'. Later rules win."
        ),
        json_schema_extra={"flags": ["--face-rule"], "metavar": "RULE"},
    )

    def rules(self) -> list[FaceRule]:
        """The rules of `face_rules`."""
        return [FaceRule.model_validate(text) for text in self.face_rules]


class IdentityFields(Section):
    """Whose the new faces must be."""

    identity: Literal["change", "keep", "match"] | None = Field(
        None,
        description=(
            "What each new face is to be: change: another person's; keep: the same person's; match: reference_face's. "
            "A job whose face is not waits for review. Needs FC_SFACE_MODEL. Empty: anybody's."
        ),
        json_schema_extra={"metavar": "change|keep|match"},
    )
    identity_limit: Number = Field(
        SAME_PERSON, ge=-1, le=1, description="Similarity by which two faces count as one person's, -1 to 1."
    )
    reference_face: Annotated[Text | None, PathMark()] = Field(
        None,
        max_length=4500,
        description="Photo of the face to compare with: its path (or URL, if FC_SOURCE_URLS).",
        json_schema_extra={"metavar": "PATH"},
    )


class OutputFields(Section):
    """The size of the file to deliver."""

    output_size: Whole | None = Field(
        None, ge=64, le=8192, description="Longest side of the final image in pixels. Empty: the size it was made at."
    )


class Scene(SceneFields, sections.Scene):
    """Who makes the picture, and its size."""


class FacePass(FacePassFields, sections.FacePass):
    """How each face is made anew."""


class Checks(IdentityFields, sections.Checks):
    """What is asked of each picture before its job goes on."""


class Output(OutputFields, sections.Output):
    """What the file to deliver is like."""


SECTIONS: Final[dict[str, type[Section]]] = {
    "scene": Scene,
    "sampling": Sampling,
    "faces": sections.Faces,
    "mask": sections.Mask,
    "face_pass": FacePass,
    "checks": Checks,
    "words": sections.Words,
    "output": Output,
}
"""Each section of a recipe by its name in it."""

SECTION_OF: Final = {field: name for name, section in SECTIONS.items() for field in section.model_fields}
"""The section of each field; no two sections have a field of one name."""


DEFAULTS: Final = {
    field: SECTIONS[section].model_fields[field].get_default(call_default_factory=True)
    for field, section in SECTION_OF.items()
}
"""What each field is when nobody says anything; not to be changed."""

"""The job types, in one table: what each starts from, which stages it goes through, and what it delivers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

JobType = Literal["pony_flux", "sdxl_generation", "face_processing", "description", "group"]
"""Their names, which are the keys of `JOB_TYPES`."""

_ALL_STAGES: Final = (
    "job_request",
    "enhanced_prompt",
    "generated_image",
    "portrait",
    "mask",
    "changed_face",
    "final_image",
    "description",
)


@dataclass(frozen=True, slots=True)
class TypeOfJob:
    """What the jobs of one type have in common.

    Attributes:
        about: what they do, in one sentence: the description of their Dagster job.
        stages: those that they go through, in their order.
        starts_from: what their request must give; None: nothing.
        delivers: the stage whose file is the picture to deliver; None: there is none.
        uses_generator: whether a picture, or a part of one, is generated.
    """

    about: str
    stages: tuple[str, ...]
    starts_from: Literal["prompt", "picture"] | None
    delivers: str | None
    uses_generator: bool


JOB_TYPES: Final[Mapping[JobType, TypeOfJob]] = {
    "pony_flux": TypeOfJob(
        about="Everything: improve the prompts, generate the scene, make its faces anew, describe the result.",
        stages=_ALL_STAGES,
        starts_from="prompt",
        delivers="final_image",
        uses_generator=True,
    ),
    "sdxl_generation": TypeOfJob(
        about="Improve the prompt and generate the scene; no face work.",
        stages=("job_request", "enhanced_prompt", "generated_image"),
        starts_from="prompt",
        delivers="generated_image",
        uses_generator=True,
    ),
    "face_processing": TypeOfJob(
        about="Make the faces of an existing photo anew, and describe the result.",
        stages=_ALL_STAGES,
        starts_from="picture",
        delivers="final_image",
        uses_generator=True,
    ),
    "description": TypeOfJob(
        about="Describe an existing image; nothing is changed.",
        stages=("job_request", "generated_image", "description"),
        starts_from="picture",
        delivers="generated_image",
        uses_generator=False,
    ),
    "group": TypeOfJob(
        about="No work of its own; completed when all jobs are that name it as their parent.",
        stages=(),
        starts_from=None,
        delivers=None,
        uses_generator=False,
    ),
}

"""The stages of a job, which of them each job type goes through, and the partition set whose keys are the jobs' ids."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from jobs.model.request import JobType

PARTITIONS: Final = "jobs"
"""The dynamic partition set of the asset graph; a key is a job's id."""

STAGES: Final = (
    "job_request",
    "enhanced_prompt",
    "generated_image",
    "portrait",
    "mask",
    "changed_face",
    "final_image",
    "description",
)

PLANS: Final[dict[JobType, tuple[str, ...]]] = {
    "pony_flux": STAGES,
    "sdxl_generation": ("job_request", "enhanced_prompt", "generated_image"),
    "face_processing": STAGES,
    "description": ("job_request", "generated_image", "description"),
    "group": (),
}

GPU_STAGES: Final = ("generated_image", "changed_face")
"""The stages in the concurrency pool `gpu`."""


def needs_gpu(job_type: JobType, stages: Iterable[str], on_gpu: Iterable[str] = GPU_STAGES) -> bool:
    """Whether these stages of a job of this type need a GPU; those types that start from a photo import their image.

    Args:
        job_type: the job's.
        stages: those ahead of it.
        on_gpu: the stages whose generator needs one.
    """
    imports = {"description": set(GPU_STAGES), "face_processing": {"generated_image"}}.get(job_type, set())
    return not (set(on_gpu) - imports).isdisjoint(stages)


def next_stage(job_type: JobType, completed: Iterable[str]) -> str | None:
    """The first stage of the plan that is not completed; None when all are."""
    done = set(completed)
    return next((stage for stage in PLANS[job_type] if stage not in done), None)

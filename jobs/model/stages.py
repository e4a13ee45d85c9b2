"""The stages of all job types in their order, and the partition set whose keys are the jobs' ids."""

from __future__ import annotations

from collections.abc import Iterable
from graphlib import TopologicalSorter
from itertools import pairwise
from typing import Final

from jobs.model.job_types import JOB_TYPES, JobType

PARTITIONS: Final = "jobs"
"""The dynamic partition set of the asset graph; a key is a job's id."""


def _in_order(rows: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """All stages, each behind those that come before it in any of the rows."""
    before: dict[str, list[str]] = {}
    for row in rows:
        for earlier, later in pairwise(row):
            before.setdefault(later, []).append(earlier)
    return tuple(TopologicalSorter(before).static_order())


STAGES: Final = _in_order(one.stages for one in JOB_TYPES.values())

GPU_STAGES: Final = ("generated_image", "changed_face")
"""The stages in the concurrency pool `gpu`."""


def needs_gpu(job_type: JobType, stages: Iterable[str], on_gpu: Iterable[str] = GPU_STAGES) -> bool:
    """Whether these stages of a job of this type need a GPU; those types that start from a picture import theirs.

    Args:
        job_type: the job's.
        stages: those ahead of it.
        on_gpu: the stages whose generator needs one.
    """
    imported = {"generated_image"} if JOB_TYPES[job_type].starts_from == "picture" else set()
    return not (set(on_gpu) - imported).isdisjoint(stages)


def next_stage(job_type: JobType, completed: Iterable[str]) -> str | None:
    """The first stage of the job type that is not completed; None when all are."""
    done = set(completed)
    return next((stage for stage in JOB_TYPES[job_type].stages if stage not in done), None)

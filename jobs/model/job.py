"""A job as it is read from the database, and what belongs to it: results, attempts, images, log entries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from imaging.errors import FaceChangerError, RejectedError
from jobs.model.job_types import JobType
from jobs.model.request import JobRequest
from jobs.model.stages import next_stage
from jobs.model.transitions import JobStatus

StageStatus = Literal["running", "completed", "failed", "needs_review", "rejected", "cancelled"]
LogLevel = Literal["debug", "info", "warning", "error"]
Origin = Literal["cli", "inbox", "ui", "api", "schedule"]


class UnknownJobError(FaceChangerError):
    """There is no job with this id."""


class JobIdTakenError(RejectedError):
    """There are jobs with these ids already.

    Attributes:
        ids: which.
    """

    def __init__(self, ids: Sequence[str]) -> None:
        self.ids = tuple(ids)
        are = "is" if len(ids) == 1 else "are"
        super().__init__(
            f"job_id: {', '.join(ids[:5])} {are} taken.", "Choose another id, or leave it out and one is made."
        )


class JobBusyError(FaceChangerError):
    """The job is not this run's to work on: another run has it, or its status does not allow it."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A checked request, ready to be added. It has its seed; `source` and `user_mask` are `SourceInfo` as JSON."""

    job_id: str
    request: JobRequest
    source: dict[str, Any] | None
    origin: Origin
    parent_id: str | None = None
    after_id: str | None = None
    not_before: datetime | None = None
    hold: bool = False
    user_mask: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One job as it stood when it was read. Times are aware UTC.

    `salts` says how often a person had a stage made anew, by stage; `user_mask` is a `SourceInfo` as JSON; `fault` is
    the kind of the last fault, None when it was fixed, and `faults` how often each kind ended an attempt; `children`
    counts the jobs that were ever added to a group. `recipe` is what was resolved for it, as JSON (`jobs.recipes`).
    `stars` is what a person thinks of its picture, 1 to 5; `removing_at` is when its removal began, which was cut.
    `alone_deaths` and `idle_deaths` count the runs that died since it last ended a stage: in one of its stages, with no
    other job in the run; and with no job in a stage.
    """

    id: str
    job_type: JobType
    status: JobStatus
    priority: int
    request: JobRequest
    origin: Origin
    created_at: datetime
    updated_at: datetime
    source: dict[str, Any] | None = None
    attempts: int = 0
    parent_id: str | None = None
    after_id: str | None = None
    children: int = 0
    error: str | None = None
    error_stage: str | None = None
    error_hint: str | None = None
    batch_id: str | None = None
    run_id: str | None = None
    solo: bool = False
    not_before: datetime | None = None
    claimed_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    current_stage: str | None = None
    stages_completed: tuple[str, ...] = ()
    run_ids: tuple[str, ...] = ()
    final_image: str | None = None
    salts: Mapping[str, int] = field(default_factory=dict)
    user_mask: dict[str, Any] | None = None
    fault: str | None = None
    faults: Mapping[str, int] = field(default_factory=dict)
    restored_at: datetime | None = None
    recipe: dict[str, Any] | None = None
    stars: int | None = None
    removing_at: datetime | None = None
    alone_deaths: int = 0
    idle_deaths: int = 0

    @property
    def next_stage(self) -> str | None:
        """The first stage of the job's plan that is not completed; None when all are."""
        return next_stage(self.job_type, self.stages_completed)


@dataclass(frozen=True, slots=True)
class StageResult:
    """The newest attempt of a job at a stage. `runs` counts the attempts that did real work."""

    job_id: str
    stage: str
    status: StageStatus
    input: dict[str, Any]
    output: dict[str, Any] | None
    error: str | None
    milliseconds: int | None
    run_id: str | None
    content_key: str | None
    cached: bool
    runs: int
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of a job at a stage: hashes of its inputs, the settings that decided it, output and verdict.

    `verdict` is a stage's status, or `approved`; `reason` says why it is not completed, and `fault` of which kind that
    was. An attempt that failed before the stage began has no content key.
    """

    job_id: str
    stage: str
    verdict: str
    reason: str | None
    input: dict[str, Any] | None
    settings: dict[str, Any] | None
    output: dict[str, Any] | None
    run_id: str | None
    content_key: str | None
    fault: str | None
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class ImageRow:
    """What `image_metadata` keeps of one stored image; `path` is unique. `face_boxes` is any JSON list."""

    path: str
    stage: str
    width: int
    height: int
    format: str
    bytes: int
    sha256: str
    face_count: int | None = None
    face_boxes: list[Any] | None = None
    quality_score: float | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """Since when no job is claimed, who said so (`user@host`), and why."""

    since: datetime
    by: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One row of `controller_log`."""

    at: datetime
    level: LogLevel
    job_id: str | None
    run_id: str | None
    stage: str | None
    message: str
    data: dict[str, Any] | None

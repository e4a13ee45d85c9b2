"""Rows of jobs, results and images, read as what the rest of face-changer knows them by, and the other way round."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from jobs.model.job import ImageRow, Job, JobBusyError, NewJob, StageResult, UnknownJobError
from jobs.model.request import JobRequest
from jobs.model.transitions import JobStatus
from jobs.queue.rows import lock
from resources.database import ImageMetadataRow, JobRow, ResultRow, StateRow

_JOB_COLUMNS: Final = tuple(column.key for column in JobRow.__table__.columns)
_RESULT_COLUMNS: Final = tuple(column.key for column in ResultRow.__table__.columns)


def fresh_job(new: NewJob, created_at: datetime, children: int) -> Job:
    """A job that is about to be added."""
    request = new.request
    waits = request.job_type == "group" or (new.after_id is not None and not new.hold)
    status: JobStatus = "waiting" if waits else "held" if new.hold else "pending"
    return Job(
        id=new.job_id,
        job_type=request.job_type,
        status=status,
        priority=request.priority,
        request=request,
        origin=new.origin,
        created_at=created_at,
        updated_at=created_at,
        source=new.source,
        parent_id=new.parent_id,
        after_id=new.after_id,
        children=children,
        not_before=new.not_before,
        user_mask=new.user_mask,
    )


def job_columns(job: Job) -> dict[str, Any]:
    """What stands in a job's row."""
    return {name: getattr(job, name) for name in _JOB_COLUMNS} | {"request": job.request.as_given()}


def take_request(row: JobRow, request: JobRequest, source: dict[str, Any] | None) -> None:
    """Put another request into a job's row; its recipe is resolved anew."""
    if request.result_of != JobRequest.stored(row.request).result_of:
        row.after_id = request.result_of
    row.request, row.priority, row.source, row.recipe = request.as_given(), request.priority, source, None


def to_job(row: JobRow, state: StateRow) -> Job:
    """A job from its two rows."""
    columns = {name: getattr(row, name) for name in _JOB_COLUMNS}
    columns |= {"salts": row.salts or {}, "faults": row.faults or {}}
    columns["request"] = JobRequest.stored(row.request)  # it was checked when it was added
    return Job(
        **columns,
        current_stage=state.current_stage,
        stages_completed=tuple(state.stages_completed),
        run_ids=tuple(state.run_ids),
        final_image=state.final_image,
    )


def to_result(row: ResultRow) -> StageResult:
    """A stage's newest result from its row."""
    columns = {name: getattr(row, name) for name in _RESULT_COLUMNS}
    return StageResult(**columns | {"input": row.input or {}})


def to_image(row: ImageMetadataRow) -> ImageRow:
    """An image from its row."""
    return ImageRow(**{name: getattr(row, name) for name in ImageRow.__slots__})


def image_columns(job_id: str, image: ImageRow) -> dict[str, Any]:
    """What stands in an image's row."""
    return {"job_id": job_id} | {name: getattr(image, name) for name in ImageRow.__slots__}


def select_jobs(
    session: Session,
    *wanted: ColumnElement[bool],
    order: Sequence[Any] = (),
    limit: int | None = None,
) -> list[Job]:
    """The jobs that are wanted."""
    query = select(JobRow, StateRow).join(StateRow, StateRow.job_id == JobRow.id).where(*wanted)
    rows = session.execute(query.order_by(*order).limit(limit)).tuples()
    return [to_job(row, state) for row, state in rows]


def get_job(session: Session, job_id: str) -> Job:
    """One job.

    Raises:
        UnknownJobError: there is none with this id.
    """
    jobs = select_jobs(session, JobRow.id == job_id)
    if not jobs:
        raise UnknownJobError(f"There is no job {job_id!r}.", "`fc list` shows the jobs.")
    return jobs[0]


def lock_running(session: Session, job_id: str, run_id: str) -> tuple[JobRow, StateRow]:
    """The rows of a job that a run has, kept so until the transaction ends.

    Raises:
        JobBusyError: the run does not have it (any more).
    """
    rows = lock(session, JobRow.id == job_id, JobRow.status == "running", JobRow.run_id == run_id)
    if not rows:
        raise _lost(get_job(session, job_id), run_id)
    return rows[0]


def _lost(job: Job, run_id: str) -> JobBusyError:
    owner = f"run {job.run_id} has it" if job.status == "running" else f"it is {job.status}"
    return JobBusyError(
        f"Job {job.id} is no longer run {run_id}'s: {owner}.",
        "It was cancelled or taken over; nothing was recorded, and this run should leave it.",
    )

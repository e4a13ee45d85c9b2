"""How a job, or an attempt at it, ends: inside one transaction, on a row that the caller has locked."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final, cast

from sqlalchemy.orm import Session

from jobs.model.faults import Fault, seconds_before_next
from jobs.model.job import LogLevel, StageStatus
from jobs.model.transitions import Actor, JobStatus
from jobs.queue.rows import NO_RUN, log, set_columns, set_status
from jobs.queue.stage_rows import add_attempt, end_stages
from resources.database import JobRow, utc_now

BY_HAND_HINT: Final = "To start it again: `fc retry JOB`, or materialize its partition in the Dagster UI."


def end_job(
    session: Session,
    row: JobRow,
    status: JobStatus,
    *,
    by: Actor,
    stage: str | None = None,
    what: str | None = None,
    hint: str | None = None,
    fault: Fault | None = None,
    output: dict[str, Any] | None = None,
    run_id: str | None = None,
) -> None:
    """Bring a job to an end, and its running stages with it."""
    now = utc_now()
    if fault is not None:
        row.faults = _one_more(row, fault)
    set_status(row, now, status, by=by, finished_at=now, error=what, error_stage=stage, error_hint=hint, fault=fault)
    begun = end_stages(session, row.id, cast("StageStatus", status), stage, what, fault=fault, output=output)
    if stage is not None and not begun and by != "person":
        add_attempt(session, row.id, stage, status, what, run_id=run_id or row.run_id, fault=fault)
    level: LogLevel = "info" if status in ("completed", "cancelled") else "warning"
    message = status if what is None else f"{status}: {what}"
    log(session, [row.id], message, level=level, run_id=row.run_id, stage=stage)


def try_again(
    session: Session,
    row: JobRow,
    *,
    by: Actor,
    stage: str | None,
    what: str,
    hint: str,
    fault: Fault,
    max_attempts: int,
    failed: int | None = None,
    retry_after: float | None = None,
    not_before: datetime | None = None,
    run_id: str,
) -> JobStatus:
    """Count a failed attempt: the job waits for another one, or it has failed; which of them.

    `failed` is what `max_attempts` limits; None: the attempts that ended with this kind of fault, with this one. It
    waits until `not_before`; None: as long as its fault has it wait.
    """
    row.attempts += 1
    faults = _one_more(row, fault)
    failed = faults[fault] if failed is None else failed
    if failed >= max_attempts:
        end_job(session, row, "failed", by=by, stage=stage, what=what, hint=hint, fault=fault, run_id=run_id)
        return "failed"
    now = utc_now()
    if not_before is None:
        seconds = seconds_before_next(fault, failed, retry_after)
        not_before = now + timedelta(seconds=seconds) if seconds > 0 else None
    set_status(row, now, "pending", by=by, solo=True, not_before=not_before, **NO_RUN)
    set_columns(row, now, error=what, error_stage=stage, error_hint=hint, fault=fault, faults=faults)
    begun = end_stages(session, row.id, "failed", stage, what, fault=fault)
    if stage is not None and not begun:
        add_attempt(session, row.id, stage, "failed", what, run_id=run_id, fault=fault)
    wait = 0 if not_before is None else (not_before - now).total_seconds()
    message = f"{fault}: attempt {failed} of {max_attempts} failed, tried again in {wait:.0f} s: {what}"
    log(session, [row.id], message, level="warning", run_id=run_id, stage=stage)
    return "pending"


def _one_more(row: JobRow, fault: Fault) -> dict[str, int]:
    faults = row.faults or {}
    return faults | {fault: faults.get(fault, 0) + 1}

"""How a job, or an attempt at it, ends: inside one transaction, on a row that the caller has locked."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final, Literal, cast

from sqlalchemy.orm import Session

from jobs.model.faults import Fault, seconds_before_next
from jobs.model.job import LogLevel, StageStatus
from jobs.model.job_types import JobType
from jobs.model.stages import next_stage
from jobs.model.transitions import Actor, JobStatus
from jobs.queue.rows import NO_RUN, log, set_columns, set_status
from jobs.queue.stage_rows import add_attempt, end_stages, running_stage
from resources.database import JobRow, StateRow, utc_now

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
    retry_after: float | None = None,
    run_id: str,
) -> JobStatus:
    """Count a failed attempt: the job waits for another one, or it has failed; which of them."""
    row.attempts += 1
    faults = _one_more(row, fault)
    failed = faults[fault]
    if failed >= max_attempts:
        end_job(session, row, "failed", by=by, stage=stage, what=what, hint=hint, fault=fault, run_id=run_id)
        return "failed"
    now = utc_now()
    seconds = seconds_before_next(fault, failed, retry_after)
    not_before = now + timedelta(seconds=seconds) if seconds > 0 else None
    set_status(row, now, "pending", by=by, solo=True, not_before=not_before, **NO_RUN)
    set_columns(row, now, error=what, error_stage=stage, error_hint=hint, fault=fault, faults=faults)
    begun = end_stages(session, row.id, "failed", stage, what, fault=fault)
    if stage is not None and not begun:
        add_attempt(session, row.id, stage, "failed", what, run_id=run_id, fault=fault)
    message = f"{fault}: attempt {failed} of {max_attempts} failed, tried again in {seconds:.0f} s: {what}"
    log(session, [row.id], message, level="warning", run_id=run_id, stage=stage)
    return "pending"


def _one_more(row: JobRow, fault: Fault) -> dict[str, int]:
    faults = row.faults or {}
    return faults | {fault: faults.get(fault, 0) + 1}


def settle(
    session: Session,
    row: JobRow,
    state: StateRow,
    *,
    run_id: str,
    outcome: Literal["success", "failure", "cancelled"],
    error: str,
    max_attempts: int,
) -> JobStatus:
    """Decide about a job that an ended run left behind; its new status."""
    started = row.status == "running"
    left = next_stage(cast("JobType", row.job_type), state.stages_completed)
    if outcome == "cancelled":
        what = error or "The run was cancelled."
        end_job(session, row, "cancelled", by="sensor", what=what, hint=BY_HAND_HINT)
        return "cancelled"
    if started and left is None:
        end_job(session, row, "completed", by="sensor")
        return "completed"
    if outcome == "success" and started:
        set_status(row, utc_now(), "held", by="sensor", **NO_RUN)
        end_stages(session, row.id, "cancelled", None, "The run ended first.")
        log(session, [row.id], f"held: the run ended before stage {left}", run_id=run_id)
        return "held"
    at_work, was_solo = running_stage(session, row.id), row.solo
    what = error or "The run ended before it started the job."
    hint = f"See the run's log in the Dagster UI. {BY_HAND_HINT}"
    status = try_again(
        session,
        row,
        by="sensor",
        stage=at_work or left,
        what=what,
        hint=hint,
        fault="crash",
        max_attempts=max_attempts,
        run_id=run_id,
    )
    # Only the job that was in hand may be why the run died. Its neighbours stay together, until their last attempt.
    row.solo = was_solo or at_work is not None or (started and (row.faults or {}).get("crash", 0) >= max_attempts - 1)
    return status

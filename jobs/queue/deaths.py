"""What becomes of the jobs that an ended run left behind, inside one transaction.

A run that dies is held against the jobs that it had in hand: whose stage had begun and not ended. They become suspects,
which run alone; only one that is alone with its run as that dies, again and again, has failed. All others go back as
they were. When nobody was in hand, or the run was ended from outside, nobody is a suspect; but a job whose runs never
get through a stage is tried rarer each time, then alone, and at last has failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, cast

from sqlalchemy import case, func, or_, select
from sqlalchemy.orm import Session

from jobs.model.job_types import JobType
from jobs.model.stages import next_stage
from jobs.model.transitions import JobStatus
from jobs.queue.endings import BY_HAND_HINT, end_job, try_again
from jobs.queue.rows import NO_RUN, log, set_status
from jobs.queue.stage_rows import end_stages
from resources.database import AttemptRow, JobRow, StateRow

Outcome = Literal["success", "failure", "interrupted", "cancelled"]
"""How a run ended. failure: it died or failed; interrupted: it was ended from outside, so no job is why."""

PATIENCE: Final = 4
"""So many times the most attempts is a job tried whose runs die for no reason that is known to lie in the job."""

_FIRST_WAIT, _LONGEST_WAIT = 10, 600  # seconds


@dataclass(frozen=True, slots=True)
class RunEnd:
    """The end of a run.

    Attributes:
        run_id: the run.
        outcome: how it ended.
        error: what is known of why, for people.
        max_attempts: how often a job may be alone with its run as that dies.
        in_hand: the jobs that were in a stage, and in which.
        alone: whether the run carried one job only.
        at: when that was noticed; jobs of one run that wait do so equally long, and stay together.
    """

    run_id: str
    outcome: Outcome
    error: str
    max_attempts: int
    in_hand: Mapping[str, str]
    alone: bool
    at: datetime


def carried_one(session: Session, run_id: str, batch_id: str | None) -> bool:
    """Whether a run had one job only; those that ended in it count."""
    mine = JobRow.run_id == run_id if batch_id is None else or_(JobRow.run_id == run_id, JobRow.batch_id == batch_id)
    return session.scalar(select(func.count()).select_from(JobRow).where(mine)) == 1


def settle(session: Session, row: JobRow, state: StateRow, end: RunEnd) -> JobStatus:
    """Decide about one job that the run left behind; its new status."""
    started = row.status == "running"
    left = next_stage(cast("JobType", row.job_type), state.stages_completed)
    if end.outcome == "cancelled":
        what = end.error or "The run was cancelled."
        end_job(session, row, "cancelled", by="sensor", what=what, hint=BY_HAND_HINT)
        return "cancelled"
    if started and left is None:
        end_job(session, row, "completed", by="sensor")
        return "completed"
    if end.outcome == "success" and started:
        set_status(row, end.at, "held", by="sensor", **NO_RUN)
        end_stages(session, row.id, "cancelled", None, "The run ended first.")
        log(session, [row.id], f"held: the run ended before stage {left}", run_id=end.run_id)
        return "held"
    if end.in_hand and row.id not in end.in_hand:
        set_status(row, end.at, "pending", by="sensor", **NO_RUN)
        log(session, [row.id], f"let go: pending; its run ended in the hands of {_named(end)}", run_id=end.run_id)
        return "pending"
    if end.in_hand and end.outcome == "failure":
        return _suspect(session, row, state, end)
    return _not_by_a_job(session, row, end.in_hand.get(row.id) or left, end)


def _suspect(session: Session, row: JobRow, state: StateRow, end: RunEnd) -> JobStatus:
    stage, most = end.in_hand[row.id], end.max_attempts
    what = end.error or "The run died."
    hint = f"It runs alone next time, to see whether it is why. See the run's log in the Dagster UI. {BY_HAND_HINT}"
    if end.alone:
        row.alone_deaths += 1
        if row.alone_deaths >= most:
            most = min(most + _killed_from_outside(session, row, state), PATIENCE * most)
        if row.alone_deaths >= most:
            what = f"Its run died {row.alone_deaths} times in the stage {stage}, with no other job in it: {what}"
            hint = (
                "The job itself, its model or the machine's memory is why. See the run's log and the system's (`dmesg` "
                "names a process that was killed for its memory). Make the picture smaller or change the request with "
                "`fc retry JOB --set FIELD=VALUE`; once the cause is mended, `fc retry JOB`."
            )
    return try_again(
        session,
        row,
        by="sensor",
        stage=stage,
        what=what,
        hint=hint,
        fault="crash",
        max_attempts=most,
        failed=row.alone_deaths,
        run_id=end.run_id,
    )


def _killed_from_outside(session: Session, row: JobRow, state: StateRow) -> int:
    """How many runs died since the first of the job's deaths alone that only had jobs in hand which completed since."""
    crashed = (AttemptRow.fault == "crash", AttemptRow.content_key.is_not(None))
    mine = select(AttemptRow.id).where(AttemptRow.job_id == row.id, *crashed).order_by(AttemptRow.id.desc())
    since = session.scalars(mine.limit(row.alone_deaths - 1)).all()[-1:]
    if not since:
        return 0
    guiltless = func.min(case((JobRow.status == "completed", 1), else_=0)) == 1
    others = (
        select(AttemptRow.run_id)
        .join(JobRow, JobRow.id == AttemptRow.job_id)
        .where(AttemptRow.id > since[0], AttemptRow.run_id.not_in(state.run_ids), *crashed)
        .group_by(AttemptRow.run_id)
        .having(guiltless)
    )
    return len(session.scalars(others).all())


def _not_by_a_job(session: Session, row: JobRow, stage: str | None, end: RunEnd) -> JobStatus:
    """Nobody was in hand, or the run was ended from outside."""
    row.idle_deaths += 1
    deaths, most, was_solo = row.idle_deaths, PATIENCE * end.max_attempts, row.solo
    what = end.error or "The run ended before it started the job."
    if deaths >= most:
        what = f"{deaths} runs in a row ended before the job got through a stage. The last one: {what}"
    late = deaths - end.max_attempts
    seconds = 0 if late < 0 else min(_FIRST_WAIT * 2**late, _LONGEST_WAIT)
    status = try_again(
        session,
        row,
        by="sensor",
        stage=stage,
        what=what,
        hint=f"See the run's log in the Dagster UI, and `fc doctor`. {BY_HAND_HINT}",
        fault="crash",
        max_attempts=most,
        failed=deaths,
        not_before=end.at + timedelta(seconds=seconds) if seconds else None,
        run_id=end.run_id,
    )
    row.solo = was_solo or deaths >= 3 * most // 4
    return status


def _named(end: RunEnd) -> str:
    names = list(end.in_hand)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

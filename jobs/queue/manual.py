"""What a person does with a job, by a command or in the Dagster UI."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, cast

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from jobs.model.job import Job, JobBusyError
from jobs.model.job_types import JOB_TYPES, JobType
from jobs.model.request import JobRequest
from jobs.model.transitions import JobStatus, sources
from jobs.queue import families
from jobs.queue.endings import BY_HAND_HINT, end_job
from jobs.queue.job_rows import get_job, take_request, to_job
from jobs.queue.rows import BROUGHT_BACK, QueueAccess, can_become, chunks, lock, log, set_columns, set_status
from resources.database import AttemptRow, JobRow, ResultRow, StateRow, utc_now

_REVIEWED: Final[tuple[JobStatus, ...]] = ("needs_review",)
_SEEN: Final[tuple[JobStatus, ...]] = ("needs_review", "completed")
_QUEUED: Final[tuple[JobStatus, ...]] = ("held", "waiting", "pending", "claimed")
_RATED: Final[tuple[JobStatus, ...]] = ("completed", "rejected", "archived")


class ManualChanges(QueueAccess):
    """The changes that a person asks for."""

    def cancel(self, job_ids: Collection[str], *, reason: str = "Cancelled by a person.") -> list[Job]:
        """End jobs that have not ended, and the jobs of groups with them; returns those that it ended, as they were.

        A run that is at work on one may record nothing more of it, and leaves it at its next step.

        Raises:
            UnknownJobError: one of them does not exist; nothing was changed.
        """
        if not self._look(_lock_to_cancel, job_ids):
            return []
        with self._database.session() as session:
            rows = _lock_to_cancel(session, job_ids)
            before = [to_job(row, state) for row, state in rows]
            for row, _ in rows:
                end_job(session, row, "cancelled", by="person", what=reason, hint=BY_HAND_HINT)
            return before

    def retry(
        self,
        job_id: str,
        *,
        request: JobRequest | None = None,
        source: dict[str, Any] | None = None,
        from_stage: str | None = None,
        user_mask: dict[str, Any] | None = None,
        missing_from: str | None = None,
    ) -> Job:
        """Put a job that has ended back into the queue, with no failed attempts.

        Args:
            job_id: the job.
            request: the changed request; its stages are looked at from the first on, and only those that it changes
                are made anew.
            source: the imported source image of a changed request.
            from_stage: make this stage and those behind it anew, even where nothing that decides them changed.
            user_mask: a stored mask (`SourceInfo` as JSON) in place of the automatic one.
            missing_from: the first stage whose file is gone: the run begins there at the latest.

        Raises:
            UnknownJobError: there is no such job.
            JobBusyError: it has not ended, was archived, or is a group.
            RejectedError: the changed request works on the picture of a job that is unknown or waits for this one.
        """
        self._look(_lock_to_retry, job_id)
        with self._database.session() as session:
            if request is not None and request.result_of is not None:
                families.check_after(session, job_id, request.result_of)
            row, state, locked = _lock_to_retry(session, job_id)
            row.recipe = row.stars = None  # a person tries again, perhaps after changing the settings
            again = set[str]()
            plan = JOB_TYPES[cast("JobType", row.job_type)].stages
            if row.job_type == "group":
                raise JobBusyError(f"Job {job_id} is a group.", "Retry its jobs.")
            if request is not None:
                if request.result_of != JobRequest.stored(row.request).result_of:
                    row.started_at = None
                take_request(row, request, source)
                again |= set(plan)
            if user_mask is not None:
                row.user_mask = user_mask
                again |= set(plan[plan.index("mask") :])
            if from_stage is not None:
                anew = plan[plan.index(from_stage) :]
                old = row.salts or {}
                row.salts = old | {stage: old.get(stage, 0) + 1 for stage in anew}
                again |= set(anew)
            if missing_from is not None:
                again |= set(plan[plan.index(missing_from) :])
            state.stages_completed = [stage for stage in state.stages_completed if stage not in again]
            _back_to_queue(session, row, locked, "retried" if from_stage is None else f"retried from {from_stage}")
            return to_job(row, state)

    def make_again(self, job_id: str, stage: str, *, reason: str) -> bool:
        """Put a completed job back into the queue, to make a stage and those behind it whose results are not whole.

        Nothing else is made anew: the content keys find what is there. False: the job is not completed (any more).
        """
        with self._database.session() as session:
            locked = families.lock_with_waiters(session, [job_id])
            row = locked.get(job_id)
            if row is None or row.status != "completed":
                return False
            state = session.get_one(StateRow, job_id)
            plan = JOB_TYPES[cast("JobType", row.job_type)].stages
            before = plan[: plan.index(stage)]
            state.stages_completed = [done for done in state.stages_completed if done in before]
            _back_to_queue(session, row, locked, reason)
            return True

    def approve(self, job_id: str) -> Job:
        """Take what was turned down as it is: its stage counts as done, and the job goes back into the queue.

        Raises:
            UnknownJobError: there is no such job.
            JobBusyError: it does not wait for review, or its stage made nothing that could be taken.
        """
        self._look(_lock_to_approve, job_id)
        with self._database.session() as session:
            (row, state, locked), result = _lock_to_approve(session, job_id)
            stage = result.stage
            result.status, result.error = "completed", None
            output = result.output or {}
            result.output = {**output, "metadata": {**output["metadata"], "approved": True}}
            newest = select(func.max(AttemptRow.id)).where(AttemptRow.job_id == job_id, AttemptRow.stage == stage)
            session.execute(
                update(AttemptRow).where(AttemptRow.id == newest.scalar_subquery()).values(verdict="approved")
            )
            _back_to_queue(session, row, locked, f"approved by a person at {stage}")
            return to_job(row, state)

    def turn_down(self, job_id: str, *, reason: str) -> None:
        """End a job that waits for review, or is completed, as rejected, because a person says so.

        What went by its end and has not begun is decided anew: its group, and the jobs that come after it.

        Raises:
            UnknownJobError: there is no such job.
            JobBusyError: it neither waits for review nor is completed, or is a group.
        """
        self._look(_lock_to_turn_down, job_id)
        with self._database.session() as session:
            row, _, locked = _lock_to_turn_down(session, job_id)
            end_job(session, row, "rejected", by="person", stage=row.error_stage, what=reason, hint=BY_HAND_HINT)
            families.reopen_waiters(session, job_id, locked)

    def release_held(self, job_id: str) -> list[str]:
        """Put a held job into the queue; a group stands for its held jobs. Returns those that went.

        Raises:
            UnknownJobError: there is no such job.
            JobBusyError: it is not held.
        """
        self._look(_with_descendants, job_id, ["held"], "released")
        with self._database.session() as session:
            rows = _with_descendants(session, job_id, ["held"], "released")
            for row, _ in rows:
                set_status(row, utc_now(), _queued(row), by="person")
            log(session, [row.id for row, _ in rows], "released by a person")
            return [row.id for row, _ in rows]

    def set_priority(self, job_id: str, priority: int) -> list[str]:
        """Give a job that has not begun, or the jobs of a group, another priority; returns those that got it.

        Raises:
            UnknownJobError: there is no such job.
            JobBusyError: it runs or has ended, so its priority decides nothing.
        """
        self._look(_with_descendants, job_id, _QUEUED, "given another priority")
        with self._database.session() as session:
            rows = _with_descendants(session, job_id, _QUEUED, "given another priority")
            for row, _ in rows:
                set_columns(row, utc_now(), priority=priority, request={**row.request, "priority": priority})
            log(session, [row.id for row, _ in rows], f"priority set to {priority} by a person")
            return [row.id for row, _ in rows]

    def rate(self, job_id: str, stars: int) -> None:
        """Keep what a person thinks of a job's picture, 1 to 5; a retry takes it away.

        Raises:
            UnknownJobError: there is no such job.
            JobBusyError: it has no picture that is final.
        """
        self._look(_lock_to_rate, job_id)
        with self._database.session() as session:
            set_columns(_lock_to_rate(session, job_id), utc_now(), stars=stars)
            log(session, [job_id], f"rated {stars} of 5 by a person")

    def archive(self, job_ids: Collection[str]) -> list[str]:
        """Put jobs that have ended away for good; returns those that it put away."""
        archived: list[str] = []
        for some in chunks(dict.fromkeys(job_ids)):
            wanted = (JobRow.id.in_(some), can_become("archived", by="person"))
            if not self._look(lock, *wanted):
                continue
            with self._database.session() as session:
                rows = lock(session, *wanted)
                now = utc_now()
                for row, _ in rows:
                    set_status(row, now, "archived", by="person")
                log(session, [row.id for row, _ in rows], "archived")
                archived += [row.id for row, _ in rows]
        return archived

    def restore(self, job_id: str) -> None:
        """Note that a job's partition is back: retention counts from now on, as if the job had just ended.

        Raises:
            UnknownJobError: there is no such job.
        """
        self._look(get_job, job_id)
        with self._database.session() as session:
            get_job(session, job_id)
            for row, _ in lock(session, JobRow.id == job_id):
                row.restored_at = utc_now()
            log(session, [job_id], "partition restored")


def _lock_for_person(
    session: Session, job_id: str, status: JobStatus, done: str, before: Collection[JobStatus]
) -> tuple[JobRow, StateRow, dict[str, JobRow]]:
    """The job, and all that wait for it, which a person may bring back with it."""
    locked = families.lock_with_waiters(session, [job_id])
    row = locked.get(job_id)
    if row is None or row.status not in before or row.status not in sources(status, by="person"):
        job = get_job(session, job_id)
        hint = {
            "running": "Wait until it has ended, or `fc cancel` it first.",
            "archived": "Submit its request as a new job.",
        }.get(job.status, f"`fc list` shows the jobs that are {' or '.join(before)}.")
        raise JobBusyError(f"Job {job_id} is {job.status}, so it cannot be {done}.", hint)
    return row, session.get_one(StateRow, job_id), locked


def _lock_to_cancel(session: Session, job_ids: Collection[str]) -> list[tuple[JobRow, StateRow]]:
    """Those of the jobs, and of the jobs in them, that have not ended."""
    for job_id in job_ids:
        get_job(session, job_id)
    wanted = set(job_ids) | families.descendants(session, job_ids)
    return lock(session, JobRow.id.in_(wanted), can_become("cancelled", by="person"))


def _lock_to_retry(session: Session, job_id: str) -> tuple[JobRow, StateRow, dict[str, JobRow]]:
    """A job that has ended, as `_lock_for_person` gives it."""
    return _lock_for_person(session, job_id, "pending", "retried", sources("pending", by="person"))


def _lock_to_approve(session: Session, job_id: str) -> tuple[tuple[JobRow, StateRow, dict[str, JobRow]], ResultRow]:
    """A job that waits for review, as `_lock_for_person` gives it, and what was turned down."""
    found = _lock_for_person(session, job_id, "pending", "approved", _REVIEWED)
    row, stage = found[0], found[0].error_stage
    result = session.get(ResultRow, (job_id, stage)) if stage else None
    if result is None or not result.output:
        raise JobBusyError(
            f"Job {job_id} cannot be approved: {stage or 'it'} made nothing that could be taken.",
            "`fc retry JOB --set FIELD=VALUE` or `--seed N` tries it with another request."
            if stage
            else row.error_hint or "",
        )
    return found, result


def _lock_to_turn_down(session: Session, job_id: str) -> tuple[JobRow, StateRow, dict[str, JobRow]]:
    """A job that has a picture to turn down, as `_lock_for_person` gives it."""
    found = _lock_for_person(session, job_id, "rejected", "rejected", _SEEN)
    if found[0].job_type == "group":
        raise JobBusyError(f"Job {job_id} is a group.", f"`fc reject --group {job_id}` rejects its jobs.")
    return found


def _lock_to_rate(session: Session, job_id: str) -> JobRow:
    """A job that has a final picture."""
    job = get_job(session, job_id)
    rows = lock(session, JobRow.id == job_id, JobRow.status.in_(_RATED))
    if not rows or rows[0][1].final_image is None:
        raise JobBusyError(f"Job {job_id} is {job.status} and has no final picture to rate.", "Rate it then.")
    return rows[0][0]


def _with_descendants(
    session: Session, job_id: str, before: Collection[JobStatus], done: str
) -> list[tuple[JobRow, StateRow]]:
    """A job and, of a group, all its jobs: those in one of the statuses, locked.

    Raises:
        UnknownJobError: there is no such job.
        JobBusyError: none is.
    """
    job = get_job(session, job_id)
    rows = lock(session, JobRow.id.in_({job_id} | families.descendants(session, [job_id])), JobRow.status.in_(before))
    if not rows:
        what = f"Job {job_id} is {job.status}, so it" if job.job_type != "group" else f"No job of the group {job_id}"
        raise JobBusyError(f"{what} cannot be {done}.", f"Only what is {' or '.join(before)} can.")
    return rows


def _queued(row: JobRow) -> JobStatus:
    """The status in which a job is in the queue: `waiting`, if it comes after another one and has not begun."""
    return "waiting" if row.after_id and row.started_at is None else "pending"


def _back_to_queue(session: Session, row: JobRow, locked: Mapping[str, JobRow], message: str) -> None:
    set_status(row, utc_now(), _queued(row), by="person", not_before=None, **BROUGHT_BACK)
    log(session, [row.id], message)
    families.reopen_waiters(session, row.id, locked)

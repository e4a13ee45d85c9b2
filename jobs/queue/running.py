"""What a run does with the jobs that it has: it starts them, gives them what it found out, and ends them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal, cast

from sqlalchemy import and_, select, update

from jobs.model.faults import Fault
from jobs.model.job import ImageRow, Job, JobBusyError
from jobs.model.job_types import JOB_TYPES, JobType
from jobs.model.request import JobRequest
from jobs.model.stages import next_stage
from jobs.model.transitions import FINAL, Actor, JobStatus
from jobs.queue import families
from jobs.queue.endings import BY_HAND_HINT, end_job, try_again
from jobs.queue.job_rows import get_job, lock_running, take_request, to_job
from jobs.queue.rows import NO_ATTEMPTS, NO_RUN, NOT_OVER, QueueAccess, can_become, lock, log, set_columns, set_status
from jobs.queue.stage_rows import add_attempt, end_stages, put_images
from resources.database import AttemptRow, JobRow, ResultRow, utc_now


class JobRuns(QueueAccess):
    """The changes that a run makes; each asks that the job is still the run's."""

    def start(self, job_id: str, *, run_id: str, batch_id: str | None, recipe: dict[str, Any] | None = None) -> Job:
        """Give a job to a run: from its batch, or (`batch_id` None) by hand from any rest but rejected.

        A job that this run already has is returned as it is.

        Args:
            job_id: the job.
            run_id: the Dagster run.
            batch_id: the run's batch.
            recipe: what was resolved for the job, if that was done now.

        Raises:
            UnknownJobError: there is no such job.
            JobBusyError: another run has it, or its status does not allow it; says what to do.
        """
        by: Actor = "person" if batch_id is None else "run"
        allowed = and_(can_become("running", by=by), JobRow.job_type != "group")
        if batch_id is not None:
            allowed = and_(allowed, JobRow.batch_id == batch_id)
        with self._database.session() as session:
            locked = families.lock_with_waiters(session, [job_id]) if batch_id is None else {}
            rows = lock(session, JobRow.id == job_id, allowed)
            if not rows:
                job = get_job(session, job_id)
                if job.status == "running" and job.run_id == run_id:
                    return job
                raise _not_startable(job)
            row, state = rows[0]
            now = utc_now()
            was_over = row.status in FINAL
            begun = {"run_id": run_id, "batch_id": batch_id, "started_at": row.started_at or now, "not_before": None}
            set_status(row, now, "running", by=by, **NOT_OVER, **begun)
            if by == "person":
                set_columns(row, now, **NO_ATTEMPTS)
            if recipe is not None:
                set_columns(row, now, recipe=recipe)
            if was_over:
                families.reopen_waiters(session, job_id, locked)
            if run_id not in state.run_ids:
                state.run_ids = [*state.run_ids, run_id]
            log(session, [job_id], "started" if batch_id else "started by hand", run_id=run_id)
            return to_job(row, state)

    def set_source(self, job_id: str, source: dict[str, Any], *, run_id: str) -> None:
        """Give a running job the picture that it works on: a `SourceInfo` as JSON.

        Raises:
            JobBusyError: the job is not running with this run (it was cancelled or taken over).
        """
        with self._database.session() as session:
            row, _ = lock_running(session, job_id, run_id)
            set_columns(row, utc_now(), source=source)

    def set_recipe(self, job_id: str, recipe: dict[str, Any], *, run_id: str) -> None:
        """Keep what was resolved for a running job: a `Recipe` as JSON.

        Raises:
            JobBusyError: the job is not running with this run (it was cancelled or taken over).
        """
        with self._database.session() as session:
            row, _ = lock_running(session, job_id, run_id)
            set_columns(row, utc_now(), recipe=recipe)

    def change_request(
        self, job_id: str, *, run_id: str, request: JobRequest, source: dict[str, Any] | None, fields: Sequence[str]
    ) -> None:
        """Give a job another request while a run has it; its stages are looked at again, from the first on.

        Raises:
            JobBusyError: the job is not running with this run (it was cancelled or taken over).
        """
        with self._database.session() as session:
            row, state = lock_running(session, job_id, run_id)
            take_request(row, request, source)
            state.stages_completed = []
            log(session, [job_id], f"request changed by run config: {', '.join(fields)}", run_id=run_id)

    def hold_for_review(
        self,
        job_id: str,
        stage: str,
        *,
        run_id: str,
        output: dict[str, Any],
        milliseconds: int,
        what: str,
        hint: str,
        images: Sequence[ImageRow] = (),
        write: Callable[[], None] = lambda: None,
    ) -> None:
        """Stop a job at a stage that made something which was turned down; the output is kept, for `approve`.

        `write` as in `finish_stage`.

        Raises:
            JobBusyError: the job is not running with this run (it was cancelled or taken over).
        """
        with self._database.session() as session:
            row, _ = lock_running(session, job_id, run_id)
            write()
            end_job(session, row, "needs_review", by="run", stage=stage, what=what, hint=hint, output=output)
            session.execute(
                update(ResultRow)
                .where(ResultRow.job_id == job_id, ResultRow.stage == stage)
                .values(output=output, milliseconds=milliseconds)
            )
            put_images(session, job_id, images)

    def complete(self, job_id: str, *, run_id: str) -> bool:
        """End a job well. False: it is not running with this run; unchanged."""
        return self._end(job_id, run_id, "completed")

    def review(self, job_id: str, *, run_id: str, stage: str | None, what: str, hint: str) -> bool:
        """Stop a job until a person has looked at it. False: it is not running with this run; unchanged."""
        return self._end(job_id, run_id, "needs_review", stage=stage, what=what, hint=hint)

    def reject(self, job_id: str, *, run_id: str, stage: str | None, what: str, hint: str) -> bool:
        """End a job whose request is wrong. False: it is not running with this run; unchanged."""
        return self._end(job_id, run_id, "rejected", stage=stage, what=what, hint=hint)

    def fail(
        self, job_id: str, *, run_id: str, stage: str | None, what: str, hint: str, fault: Fault = "permanent"
    ) -> bool:
        """End a job that could not be done. False: it is not running with this run; unchanged."""
        return self._end(job_id, run_id, "failed", stage=stage, what=what, hint=hint, fault=fault)

    def note_failure(self, job_id: str, *, run_id: str, stage: str | None, what: str, fault: Fault) -> None:
        """Keep that a run failed before it had the job: in the log and, if there is such a job, in its history.

        The job stays as it is. What the run already has in the job's history is not noted again.
        """
        with self._database.session() as session:
            found = lock(session, JobRow.id == job_id)
            for row, state in found:
                mine = select(AttemptRow.id).where(AttemptRow.job_id == job_id, AttemptRow.run_id == run_id).limit(1)
                if run_id in state.run_ids or session.scalars(mine).first() is not None:
                    return
                plan = JOB_TYPES[cast("JobType", row.job_type)].stages
                at = stage or next_stage(cast("JobType", row.job_type), state.stages_completed) or plan[-1]
                add_attempt(session, job_id, at, "failed", what, run_id=run_id, fault=fault)
            message = f"failed before it began: {what}"
            log(session, [job_id], message, level="warning", run_id=run_id, stage=stage)

    def _end(
        self,
        job_id: str,
        run_id: str,
        status: JobStatus,
        *,
        stage: str | None = None,
        what: str | None = None,
        hint: str | None = None,
        fault: Fault | None = None,
    ) -> bool:
        with self._database.session() as session:
            rows = lock(session, JobRow.id == job_id, can_become(status, by="run"), JobRow.run_id == run_id)
            for row, _ in rows:
                end_job(session, row, status, by="run", stage=stage, what=what, hint=hint, fault=fault)
            return bool(rows)

    def retry_later(
        self,
        job_id: str,
        *,
        run_id: str,
        stage: str | None,
        what: str,
        hint: str,
        fault: Fault,
        max_attempts: int,
        retry_after: float | None = None,
    ) -> JobStatus:
        """Count a failed attempt: below `max_attempts` of this kind the job waits, then runs alone; else it has failed.

        How long it waits: `jobs.model.faults`.

        Returns:
            The status that the job has now; that of the other run or person when it is no longer this run's.
        """
        with self._database.session() as session:
            rows = lock(session, JobRow.id == job_id, JobRow.status == "running", JobRow.run_id == run_id)
            if not rows:
                return get_job(session, job_id).status
            row, state = rows[0]
            return try_again(
                session,
                row,
                by="run",
                stage=None if stage in state.stages_completed else stage,  # a commit whose answer was lost
                what=what,
                hint=hint,
                fault=fault,
                max_attempts=max_attempts,
                retry_after=retry_after,
                run_id=run_id,
            )

    def release(self, job_ids: Collection[str], *, run_id: str, status: Literal["pending", "held"]) -> list[str]:
        """Let go of jobs that this run has, as if it had not taken them; returns those that it had."""
        with self._database.session() as session:
            rows = lock(session, JobRow.id.in_(set(job_ids)), can_become(status, by="run"), JobRow.run_id == run_id)
            now = utc_now()
            for row, _ in rows:
                set_status(row, now, status, by="run", **NO_RUN)
                end_stages(session, row.id, "cancelled", None, "The run let go of the job.")
            released = [row.id for row, _ in rows]
            log(session, released, f"let go: {status}", run_id=run_id)
            return [job_id for job_id in dict.fromkeys(job_ids) if job_id in released]


def _not_startable(job: Job) -> JobBusyError:
    hint = {
        "running": f"Wait for run {job.run_id}, or cancel it in the Dagster UI.",
        "claimed": "The sensor will start it; wait for that run.",
        "rejected": "Submit a corrected request as a new job.",
    }.get(job.status, BY_HAND_HINT)
    owner = f" with run {job.run_id}" if job.status == "running" else ""
    batch = f" in batch {job.batch_id}" if job.status == "claimed" and job.batch_id else ""
    return JobBusyError(f"Job {job.id} is {job.status}{owner}{batch} and cannot be started here.", hint)

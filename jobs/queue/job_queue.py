"""The queue: every change of a job's status, each in one short transaction that states what it changes from.

Every method that changes jobs first locks exactly the rows whose state allows the change, in id order
(Postgres: `SELECT ... FOR UPDATE`; SQLite: the one write lock), so two processes can never both make it. Each
change of a status leaves a row in `controller_log`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Final, Literal, cast

from sqlalchemy import ColumnElement, and_, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from imaging.errors import RejectedError
from jobs.model.faults import Fault
from jobs.model.job import ImageRow, Job, JobBusyError, NewJob
from jobs.model.job_types import JOB_TYPES, JobType
from jobs.model.request import JobRequest
from jobs.model.stages import next_stage
from jobs.model.transitions import FINAL, JOB_STATUSES, Actor, JobStatus, sources
from jobs.queue import families
from jobs.queue.endings import BY_HAND_HINT, end_job, settle, try_again
from jobs.queue.job_rows import fresh_job, get_job, job_columns, lock_running, select_jobs, to_job
from jobs.queue.rows import chunks, lock, log, may, move, set_columns
from jobs.queue.stage_records import StageRecords, add_attempt, end_stages, put_images
from resources.database import AttemptRow, JobRow, ResultRow, StateRow, utc_now

_REVIEWED: Final[tuple[JobStatus, ...]] = ("needs_review",)


class JobQueue(StageRecords):
    """The queue and the records over one database. Cheap to make; safe to share between threads."""

    # ---- adding and reading

    def add(self, new: Sequence[NewJob]) -> list[Job]:
        """Add jobs, all or none, in the order given: `held` or `waiting` where asked for, `pending` otherwise.

        Raises:
            RejectedError: a `job_id` is taken or given twice, or a job that is named is unknown, no group, or waits for
                the one that names it; nothing was added.
        """
        if not new:
            return []
        ids = [one.job_id for one in new]
        twice = [job_id for job_id, times in Counter(ids).items() if times > 1]
        if twice:
            raise _taken(twice)
        first = utc_now()
        children = Counter(one.parent_id for one in new)
        jobs = [
            fresh_job(one, first + timedelta(microseconds=index), children[one.job_id]) for index, one in enumerate(new)
        ]
        try:
            with self._database.session() as session:
                families.check_new(session, jobs)
                session.execute(insert(JobRow), [job_columns(job) for job in families.parents_first(jobs)])
                session.execute(
                    insert(StateRow),
                    [{"job_id": job_id, "stages_completed": [], "run_ids": []} for job_id in ids],
                )
                log(session, ids, f"added by {new[0].origin}")
        except IntegrityError:
            known = self.get_many(ids)
            if known:
                raise _taken(sorted(known)) from None
            raise
        return jobs

    def get(self, job_id: str) -> Job:
        """Read one job.

        Raises:
            UnknownJobError: there is none with this id.
        """
        with self._database.reader() as session:
            return get_job(session, job_id)

    def get_many(self, ids: Collection[str]) -> dict[str, Job]:
        """Read the jobs with these ids; an id without a job is left out."""
        jobs: dict[str, Job] = {}
        with self._database.reader() as session:
            for some in chunks(ids):
                jobs.update((job.id, job) for job in select_jobs(session, JobRow.id.in_(some)))
        return jobs

    def find(
        self,
        *,
        statuses: Collection[JobStatus] | None = None,
        job_types: Collection[JobType] | None = None,
        parent_id: str | None = None,
        after_id: str | None = None,
        limit: int | None = None,
        newest_first: bool = True,
    ) -> list[Job]:
        """List jobs without changing any. None matches all; an empty collection matches none."""
        wanted: list[ColumnElement[bool]] = []
        if statuses is not None:
            wanted.append(JobRow.status.in_(statuses))
        if job_types is not None:
            wanted.append(JobRow.job_type.in_(job_types))
        if parent_id is not None:
            wanted.append(JobRow.parent_id == parent_id)
        if after_id is not None:
            wanted.append(JobRow.after_id == after_id)
        order = (JobRow.created_at, JobRow.id)
        with self._database.reader() as session:
            return select_jobs(
                session,
                *wanted,
                order=[column.desc() for column in order] if newest_first else order,
                limit=limit,
            )

    def last_changed(self, statuses: Collection[JobStatus], limit: int) -> list[Job]:
        """The `limit` jobs of these statuses that changed last, the newest change first."""
        order = (JobRow.updated_at.desc(), JobRow.id.desc())
        with self._database.reader() as session:
            return select_jobs(session, JobRow.status.in_(statuses), order=order, limit=limit)

    def waiting_again(self, limit: int) -> list[Job]:
        """Jobs that wait to be tried again after a fault, the next one first."""
        order = (JobRow.not_before, JobRow.id)
        with self._database.reader() as session:
            wanted = (JobRow.status == "pending", JobRow.fault.is_not(None))
            return select_jobs(session, *wanted, order=order, limit=limit)

    def ended(self, ids: Collection[str]) -> dict[str, datetime]:
        """When those of the jobs that are over ended, or got their partition back later; the others are left out."""
        when = func.coalesce(JobRow.finished_at, JobRow.updated_at)
        ended: dict[str, datetime] = {}
        with self._database.reader() as session:
            for some in chunks(ids):
                # The status is looked at here: asked for in SQL, SQLite reads every job of these statuses instead.
                query = select(JobRow.id, JobRow.status, when, JobRow.restored_at).where(JobRow.id.in_(some))
                for job_id, status, moment, restored_at in session.execute(query).tuples():
                    if status in FINAL:
                        ended[job_id] = max(moment, restored_at or moment)
        return ended

    def ended_before(self, moment: datetime) -> list[str]:
        """The jobs that ended before then and ask nothing of a person any more, the oldest first."""
        when = func.coalesce(JobRow.finished_at, JobRow.updated_at)
        statuses = FINAL - {"archived", "needs_review"}
        with self._database.reader() as session:
            query = select(JobRow.id).where(JobRow.status.in_(statuses), when < moment)
            return list(session.scalars(query.order_by(when, JobRow.id)))

    @contextmanager
    def kept_over(self, ids: Collection[str]) -> Iterator[list[str]]:
        """Those of the jobs that are over; nobody can start or retry them until the block ends. Keep it short."""
        with self._database.session() as session:
            yield [row.id for row, _ in lock(session, JobRow.id.in_(set(ids))) if row.status in FINAL]

    def counts(self) -> dict[JobStatus, int]:
        """How many jobs are in each status; every status is there."""
        with self._database.reader() as session:
            found = dict(session.execute(select(JobRow.status, func.count()).group_by(JobRow.status)).tuples().all())
        return {status: found.get(status, 0) for status in JOB_STATUSES}

    def ping(self) -> None:
        """Ask the database for an answer.

        Raises:
            SettingsError: it does not answer; says why.
        """
        self._database.ping()

    # ---- from pending to running

    def claim(self, limit: int) -> list[Job]:
        """Take up to `limit` pending jobs whose time has come: most urgent first, then oldest."""
        if limit < 1:
            return []
        now = utc_now()
        with self._database.session() as session:
            rows = session.scalars(
                select(JobRow)
                .where(may("claimed", by="sensor"), or_(JobRow.not_before.is_(None), JobRow.not_before <= now))
                .order_by(*_CLAIM_ORDER)
                .limit(limit)
                .with_for_update(skip_locked=True)
            ).all()
            for row in rows:
                move(row, now, "claimed", by="sensor", claimed_at=now, batch_id=None)
            ids = [row.id for row in rows]
            log(session, ids, "claimed")
            session.flush()
            return select_jobs(session, JobRow.id.in_(ids), order=_CLAIM_ORDER)

    def unbatched(self) -> list[Job]:
        """The claimed jobs that are in no batch yet, in claim order."""
        with self._database.reader() as session:
            return select_jobs(session, JobRow.status == "claimed", JobRow.batch_id.is_(None), order=_CLAIM_ORDER)

    def assign_batch(self, batch_id: str, job_ids: Sequence[str]) -> bool:
        """Put claimed jobs into a batch: all, or none when one is not claimed any more or has a batch."""
        wanted = set(job_ids)
        with self._database.session() as session:
            rows = lock(session, JobRow.id.in_(wanted), JobRow.status == "claimed", JobRow.batch_id.is_(None))
            if not rows or len(rows) < len(wanted):
                return False
            now = utc_now()
            for row, _ in rows:
                set_columns(row, now, batch_id=batch_id)
            log(session, [row.id for row, _ in rows], f"put into batch {batch_id}")
            return True

    def open_batches(self) -> dict[str, list[Job]]:
        """The claimed jobs of each batch, in claim order."""
        with self._database.reader() as session:
            jobs = select_jobs(session, JobRow.status == "claimed", JobRow.batch_id.is_not(None), order=_CLAIM_ORDER)
        batches: dict[str, list[Job]] = {}
        for job in jobs:
            batches.setdefault(cast("str", job.batch_id), []).append(job)
        return batches

    def give_back(self, job_ids: Collection[str], *, reason: str) -> list[str]:
        """Put claimed jobs back into the queue, as if they had not been claimed; returns those that were."""
        with self._database.session() as session:
            rows = lock(session, JobRow.id.in_(set(job_ids)), JobRow.status == "claimed")
            for row, _ in rows:
                move(row, utc_now(), "pending", by="sensor", batch_id=None)
            ids = [row.id for row, _ in rows]
            log(session, ids, reason)
            return ids

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
        allowed = and_(may("running", by=by), JobRow.job_type != "group")
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
            move(row, now, "running", by=by, run_id=run_id, batch_id=batch_id, started_at=row.started_at or now)
            set_columns(
                row, now, finished_at=None, not_before=None, error=None, error_stage=None, error_hint=None, fault=None
            )
            if by == "person":
                set_columns(row, now, attempts=0, faults={})
            if recipe is not None:
                set_columns(row, now, recipe=recipe)
            if was_over:
                families.reopen_waiters(session, job_id, locked)
            if run_id not in state.run_ids:
                state.run_ids = [*state.run_ids, run_id]
            log(session, [job_id], "started" if batch_id else "started by hand", run_id=run_id)
            return to_job(row, state)

    # ---- the stages of a running job

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

    # ---- endings

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
            rows = lock(session, JobRow.id == job_id, may(status, by="run"), JobRow.run_id == run_id)
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
            rows = lock(session, JobRow.id.in_(set(job_ids)), may(status, by="run"), JobRow.run_id == run_id)
            now = utc_now()
            for row, _ in rows:
                move(row, now, status, by="run", batch_id=None, run_id=None)
                end_stages(session, row.id, "cancelled", None, "The run let go of the job.")
            released = [row.id for row, _ in rows]
            log(session, released, f"let go: {status}", run_id=run_id)
            return [job_id for job_id in dict.fromkeys(job_ids) if job_id in released]

    def settle_run(
        self,
        run_id: str,
        *,
        batch_id: str | None,
        outcome: Literal["success", "failure", "cancelled"],
        error: str,
        max_attempts: int,
    ) -> dict[str, JobStatus]:
        """Decide about the jobs that an ended run left behind; safe to repeat. A failure is a `crash` of each.

        Those it was running: cancelled with it; completed if every stage of their plan is; else after a
        failure tried again alone, or failed at the limit, and after a success held for a person. Those of its
        batch that it never started: cancelled with it, else pending again with one more attempt, or failed at
        the limit.

        Returns:
            The new status of each job that was changed.
        """
        mine = and_(JobRow.status == "running", JobRow.run_id == run_id)
        if batch_id is not None:
            mine = or_(mine, and_(JobRow.status == "claimed", JobRow.batch_id == batch_id))
        settled: dict[str, JobStatus] = {}
        with self._database.session() as session:
            for row, state in lock(session, mine):
                settled[row.id] = settle(
                    session, row, state, run_id=run_id, outcome=outcome, error=error, max_attempts=max_attempts
                )
        return settled

    def settle_waiting(self) -> dict[str, JobStatus]:
        """Let waiting jobs go on, or end, for which that is decided: see `jobs.queue.families.settle_waiting`."""
        return families.settle_waiting(self._database)

    # ---- what a person does with a job

    def cancel(self, job_ids: Collection[str], *, reason: str = "Cancelled by a person.") -> list[Job]:
        """End jobs that have not ended, and the jobs of groups with them; returns those that it ended, as they were.

        A run that is at work on one may record nothing more of it, and leaves it at its next step.

        Raises:
            UnknownJobError: one of them does not exist; nothing was changed.
        """
        with self._database.session() as session:
            for job_id in job_ids:
                get_job(session, job_id)
            wanted = set(job_ids) | families.descendants(session, job_ids)
            rows = lock(session, JobRow.id.in_(wanted), may("cancelled", by="person"))
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
    ) -> Job:
        """Put a job that has ended back into the queue, with no failed attempts.

        Args:
            job_id: the job.
            request: the changed request; its stages are looked at from the first on, and only those that it changes
                are made anew.
            source: the imported source image of a changed request.
            from_stage: make this stage and those behind it anew, even where nothing that decides them changed.
            user_mask: a stored mask (`SourceInfo` as JSON) in place of the automatic one.

        Raises:
            UnknownJobError: there is no such job.
            JobBusyError: it has not ended, was archived, or is a group.
            RejectedError: the changed request works on the picture of a job that is unknown or waits for this one.
        """
        with self._database.session() as session:
            if request is not None and request.result_of is not None:
                families.check_after(session, job_id, request.result_of)
            row, state, locked = _lock_for_person(
                session, job_id, "pending", "retried", sources("pending", by="person")
            )
            row.recipe = None  # a person tries again, perhaps after changing the settings
            again = set[str]()
            plan = JOB_TYPES[cast("JobType", row.job_type)].stages
            if row.job_type == "group":
                raise JobBusyError(f"Job {job_id} is a group.", "Retry its jobs.")
            if request is not None:
                if request.result_of != JobRequest.model_construct(**row.request).result_of:
                    row.started_at = None
                _take_request(row, request, source)
                again |= set(plan)
            if user_mask is not None:
                row.user_mask = user_mask
                again |= set(plan[plan.index("mask") :])
            if from_stage is not None:
                anew = plan[plan.index(from_stage) :]
                old = row.salts or {}
                row.salts = old | {stage: old.get(stage, 0) + 1 for stage in anew}
                again |= set(anew)
            state.stages_completed = [stage for stage in state.stages_completed if stage not in again]
            _back_to_queue(session, row, locked, "retried" if from_stage is None else f"retried from {from_stage}")
            return to_job(row, state)

    def change_request(
        self, job_id: str, *, run_id: str, request: JobRequest, source: dict[str, Any] | None, fields: Sequence[str]
    ) -> None:
        """Give a job another request while a run has it; its stages are looked at again, from the first on.

        Raises:
            JobBusyError: the job is not running with this run (it was cancelled or taken over).
        """
        with self._database.session() as session:
            row, state = lock_running(session, job_id, run_id)
            _take_request(row, request, source)
            state.stages_completed = []
            log(session, [job_id], f"request changed by run config: {', '.join(fields)}", run_id=run_id)

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
        with self._database.session() as session:
            row, state, locked = _lock_for_person(session, job_id, "pending", "approved", _REVIEWED)
            stage = row.error_stage
            result = session.get(ResultRow, (job_id, stage)) if stage else None
            if stage is None or result is None or not result.output:
                raise JobBusyError(
                    f"Job {job_id} cannot be approved: {stage or 'it'} made nothing that could be taken.",
                    "`fc retry JOB --set FIELD=VALUE` or `--seed N` tries it with another request."
                    if stage
                    else row.error_hint or "",
                )
            result.status, result.error = "completed", None
            result.output = {**result.output, "metadata": {**result.output["metadata"], "approved": True}}
            newest = select(func.max(AttemptRow.id)).where(AttemptRow.job_id == job_id, AttemptRow.stage == stage)
            session.execute(
                update(AttemptRow).where(AttemptRow.id == newest.scalar_subquery()).values(verdict="approved")
            )
            _back_to_queue(session, row, locked, f"approved by a person at {stage}")
            return to_job(row, state)

    def turn_down(self, job_id: str, *, reason: str) -> None:
        """End a job that waits for review as rejected, because a person says so.

        Raises:
            UnknownJobError: there is no such job.
            JobBusyError: it does not wait for review.
        """
        with self._database.session() as session:
            row, _, _ = _lock_for_person(session, job_id, "rejected", "rejected", _REVIEWED)
            end_job(session, row, "rejected", by="person", stage=row.error_stage, what=reason, hint=BY_HAND_HINT)

    def archive(self, job_ids: Collection[str]) -> list[str]:
        """Put jobs that have ended away for good; returns those that it put away."""
        archived: list[str] = []
        for some in chunks(dict.fromkeys(job_ids)):
            with self._database.session() as session:
                rows = lock(session, JobRow.id.in_(some), may("archived", by="person"))
                now = utc_now()
                for row, _ in rows:
                    move(row, now, "archived", by="person")
                log(session, [row.id for row, _ in rows], "archived")
                archived += [row.id for row, _ in rows]
        return archived

    def restore(self, job_id: str) -> None:
        """Note that a job's partition is back: retention counts from now on, as if the job had just ended.

        Raises:
            UnknownJobError: there is no such job.
        """
        with self._database.session() as session:
            get_job(session, job_id)
            for row, _ in lock(session, JobRow.id == job_id):
                row.restored_at = utc_now()
            log(session, [job_id], "partition restored")

    @contextmanager
    def removing(self, job_id: str) -> Iterator[None]:
        """Remove a job that has ended, with all its records, when the block ends well; the log keeps its lines.

        Nobody can start or retry the job inside the block. Keep it short.

        Raises:
            UnknownJobError: there is no such job.
            JobBusyError: it has not ended.
        """
        with self._database.session() as session:
            job = get_job(session, job_id)
            rows = lock(session, JobRow.id == job_id, JobRow.status.in_(FINAL))
            if not rows:
                raise JobBusyError(
                    f"Job {job_id} is {job.status}, so it cannot be removed.", "`fc cancel` it first, or wait."
                )
            yield
            session.delete(rows[0][0])
            log(session, [job_id], "removed by a person")

    def running_runs(self) -> dict[str, list[str]]:
        """Which jobs each run is running, oldest first."""
        runs: dict[str, list[str]] = {}
        with self._database.reader() as session:
            rows = session.execute(
                select(JobRow.run_id, JobRow.id).where(JobRow.status == "running").order_by(*_CLAIM_ORDER)
            )
            for run_id, job_id in rows:
                runs.setdefault(cast("str", run_id), []).append(job_id)
        return runs


_CLAIM_ORDER: Final = (JobRow.priority, JobRow.created_at, JobRow.id)


# ---- reading and locking inside a transaction


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


# ---- changes inside a transaction


def _take_request(row: JobRow, request: JobRequest, source: dict[str, Any] | None) -> None:
    if request.result_of != JobRequest.model_construct(**row.request).result_of:
        row.after_id = request.result_of
    row.request, row.priority, row.source, row.recipe = request.as_given(), request.priority, source, None


def _back_to_queue(session: Session, row: JobRow, locked: Mapping[str, JobRow], message: str) -> None:
    status: JobStatus = "waiting" if row.after_id and row.started_at is None else "pending"
    move(row, utc_now(), status, by="person", attempts=0, faults={}, fault=None, solo=False, not_before=None)
    set_columns(row, row.updated_at, batch_id=None, run_id=None, error=None, error_stage=None, error_hint=None)
    set_columns(row, row.updated_at, finished_at=None)
    log(session, [row.id], message)
    families.reopen_waiters(session, row.id, locked)


def _taken(ids: Sequence[str]) -> RejectedError:
    return RejectedError(
        f"job_id: {', '.join(ids[:5])} {'is' if len(ids) == 1 else 'are'} taken.",
        "Choose another id, or leave it out and one is made.",
    )


def _not_startable(job: Job) -> JobBusyError:
    hint = {
        "running": f"Wait for run {job.run_id}, or cancel it in the Dagster UI.",
        "claimed": "The sensor will start it; wait for that run.",
        "rejected": "Submit a corrected request as a new job.",
    }.get(job.status, BY_HAND_HINT)
    owner = f" with run {job.run_id}" if job.status == "running" else ""
    batch = f" in batch {job.batch_id}" if job.status == "claimed" and job.batch_id else ""
    return JobBusyError(f"Job {job.id} is {job.status}{owner}{batch} and cannot be started here.", hint)

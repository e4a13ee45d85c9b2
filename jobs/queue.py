"""The queue: every change of a job's status, each in one short transaction that states what it changes from.

Belongs here: who may take a job, how it ends, and the records of its stages. Does not: which changes there are
(`jobs.transitions`), table definitions (`resources.database`), checking a request (`jobs.submit`), running anything.

Every method that changes jobs first locks exactly the rows whose state allows the change, in id order
(Postgres: `SELECT ... FOR UPDATE`; SQLite: the one write lock), so two processes can never both make it. Each
change of a status leaves a row in `controller_log`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal, cast

from sqlalchemy import (
    ColumnElement,
    Table,
    and_,
    case,
    delete,
    false,
    func,
    insert,
    not_,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from imaging.errors import FaceChangerError, RejectedError
from jobs import families
from jobs.faults import Fault, seconds_before_next
from jobs.request import JobRequest, JobType
from jobs.rows import LogLevel
from jobs.rows import chunks as _chunks
from jobs.rows import lock as _lock
from jobs.rows import log as _log
from jobs.rows import may as _may
from jobs.rows import move as _move
from jobs.rows import set_columns as _set
from jobs.stages import PLANS, STAGES, next_stage
from jobs.transitions import FINAL, JOB_STATUSES, Actor, JobStatus, sources
from resources.database import (
    AttemptRow,
    Database,
    IdeationRow,
    ImageMetadataRow,
    JobRow,
    LogRow,
    ResultRow,
    StateRow,
    utc_now,
)

StageStatus = Literal["running", "completed", "failed", "needs_review", "rejected", "cancelled"]
Origin = Literal["cli", "inbox", "ui", "api", "schedule"]

_REVIEWED: Final[tuple[JobStatus, ...]] = ("needs_review",)
_BY_HAND_MEND: Final = "To start it again: `fc retry JOB`, or materialise its partition in the Dagster UI."


class UnknownJobError(FaceChangerError):
    """There is no job with this id."""


class JobBusyError(FaceChangerError):
    """The job is not this run's to work on: another run has it, or its status does not allow it."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A checked request, ready to be added. `request` has its seed; `source` is a `SourceInfo` as JSON."""

    job_id: str
    request: JobRequest
    source: dict[str, Any] | None
    origin: Origin
    parent_id: str | None = None
    after_id: str | None = None
    not_before: datetime | None = None
    hold: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """One job as it stood when it was read. Times are aware UTC.

    `salts` says how often a person had a stage made anew, by stage; `user_mask` is a `SourceInfo` as JSON; `fault` is
    the kind of the last fault, None when it was mended, and `faults` how often each kind ended an attempt; `children`
    counts the jobs that were ever added to a group.
    """

    id: str
    job_type: JobType
    status: JobStatus
    priority: int
    request: JobRequest
    source: dict[str, Any] | None
    attempts: int
    parent_id: str | None
    after_id: str | None
    children: int
    origin: Origin
    error: str | None
    error_stage: str | None
    error_mend: str | None
    batch_id: str | None
    run_id: str | None
    solo: bool
    not_before: datetime | None
    created_at: datetime
    claimed_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime
    current_stage: str | None
    stages_completed: tuple[str, ...]
    run_ids: tuple[str, ...]
    final_image: str | None
    salts: Mapping[str, int]
    user_mask: dict[str, Any] | None
    fault: str | None
    faults: Mapping[str, int]
    restored_at: datetime | None

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
class LogEntry:
    """One row of `controller_log`."""

    at: datetime
    level: LogLevel
    job_id: str | None
    run_id: str | None
    stage: str | None
    message: str
    data: dict[str, Any] | None


class JobQueue:
    """The queue and the records over one database. Cheap to make; safe to share between threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
            _fresh_job(one, first + timedelta(microseconds=index), children[one.job_id])
            for index, one in enumerate(new)
        ]
        try:
            with self._database.session() as session:
                families.check_new(session, jobs)
                session.execute(insert(JobRow), [_job_columns(job) for job in families.parents_first(jobs)])
                session.execute(
                    insert(StateRow),
                    [{"job_id": job_id, "stages_completed": [], "run_ids": []} for job_id in ids],
                )
                _log(session, ids, f"added by {new[0].origin}")
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
            return _get(session, job_id)

    def get_many(self, ids: Collection[str]) -> dict[str, Job]:
        """Read the jobs with these ids; an id without a job is left out."""
        jobs: dict[str, Job] = {}
        with self._database.reader() as session:
            for some in _chunks(ids):
                jobs.update((job.id, job) for job in _select(session, JobRow.id.in_(some)))
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
            return _select(
                session,
                *wanted,
                order=[column.desc() for column in order] if newest_first else order,
                limit=limit,
            )

    def last_changed(self, statuses: Collection[JobStatus], limit: int) -> list[Job]:
        """The `limit` jobs of these statuses that changed last, the newest change first."""
        order = (JobRow.updated_at.desc(), JobRow.id.desc())
        with self._database.reader() as session:
            return _select(session, JobRow.status.in_(statuses), order=order, limit=limit)

    def waiting_again(self, limit: int) -> list[Job]:
        """Jobs that wait to be tried again after a fault, the next one first."""
        order = (JobRow.not_before, JobRow.id)
        with self._database.reader() as session:
            wanted = (JobRow.status == "pending", JobRow.fault.is_not(None))
            return _select(session, *wanted, order=order, limit=limit)

    def ended(self, ids: Collection[str]) -> dict[str, datetime]:
        """When those of the jobs that are over ended, or got their partition back later; the others are left out."""
        when = func.coalesce(JobRow.finished_at, JobRow.updated_at)
        ended: dict[str, datetime] = {}
        with self._database.reader() as session:
            for some in _chunks(ids):
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
            yield [row.id for row, _ in _lock(session, JobRow.id.in_(set(ids))) if row.status in FINAL]

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
                .where(_may("claimed", by="sensor"), or_(JobRow.not_before.is_(None), JobRow.not_before <= now))
                .order_by(*_CLAIM_ORDER)
                .limit(limit)
                .with_for_update(skip_locked=True)
            ).all()
            for row in rows:
                _move(row, now, "claimed", by="sensor", claimed_at=now, batch_id=None)
            ids = [row.id for row in rows]
            _log(session, ids, "claimed")
            session.flush()
            return _select(session, JobRow.id.in_(ids), order=_CLAIM_ORDER)

    def unbatched(self) -> list[Job]:
        """The claimed jobs that are in no batch yet, in claim order."""
        with self._database.reader() as session:
            return _select(session, JobRow.status == "claimed", JobRow.batch_id.is_(None), order=_CLAIM_ORDER)

    def assign_batch(self, batch_id: str, job_ids: Sequence[str]) -> bool:
        """Put claimed jobs into a batch: all, or none when one is not claimed any more or has a batch."""
        wanted = set(job_ids)
        with self._database.session() as session:
            rows = _lock(session, JobRow.id.in_(wanted), JobRow.status == "claimed", JobRow.batch_id.is_(None))
            if not rows or len(rows) < len(wanted):
                return False
            now = utc_now()
            for row, _ in rows:
                _set(row, now, batch_id=batch_id)
            _log(session, [row.id for row, _ in rows], f"put into batch {batch_id}")
            return True

    def open_batches(self) -> dict[str, list[Job]]:
        """The claimed jobs of each batch, in claim order."""
        with self._database.reader() as session:
            jobs = _select(session, JobRow.status == "claimed", JobRow.batch_id.is_not(None), order=_CLAIM_ORDER)
        batches: dict[str, list[Job]] = {}
        for job in jobs:
            batches.setdefault(cast("str", job.batch_id), []).append(job)
        return batches

    def give_back(self, job_ids: Collection[str], *, reason: str) -> list[str]:
        """Put claimed jobs back into the queue, as if they had not been claimed; returns those that were."""
        with self._database.session() as session:
            rows = _lock(session, JobRow.id.in_(set(job_ids)), JobRow.status == "claimed")
            for row, _ in rows:
                _move(row, utc_now(), "pending", by="sensor", batch_id=None)
            ids = [row.id for row, _ in rows]
            _log(session, ids, reason)
            return ids

    def start(self, job_id: str, *, run_id: str, batch_id: str | None) -> Job:
        """Give a job to a run: from its batch, or (`batch_id` None) by hand from any rest but rejected.

        A job that this run already has is returned as it is.

        Raises:
            UnknownJobError: there is no such job.
            JobBusyError: another run has it, or its status does not allow it; says what to do.
        """
        by: Actor = "person" if batch_id is None else "run"
        allowed = and_(_may("running", by=by), JobRow.job_type != "group")
        if batch_id is not None:
            allowed = and_(allowed, JobRow.batch_id == batch_id)
        with self._database.session() as session:
            locked = families.lock_with_waiters(session, [job_id]) if batch_id is None else {}
            rows = _lock(session, JobRow.id == job_id, allowed)
            if not rows:
                job = _get(session, job_id)
                if job.status == "running" and job.run_id == run_id:
                    return job
                raise _not_startable(job)
            row, state = rows[0]
            now = utc_now()
            was_over = row.status in FINAL
            _move(row, now, "running", by=by, run_id=run_id, batch_id=batch_id, started_at=row.started_at or now)
            _set(row, now, finished_at=None, not_before=None, error=None, error_stage=None, error_mend=None, fault=None)
            if by == "person":
                _set(row, now, attempts=0, faults={})
            if was_over:
                families.reopen_waiters(session, job_id, locked)
            if run_id not in state.run_ids:
                state.run_ids = [*state.run_ids, run_id]
            _log(session, [job_id], "started" if batch_id else "started by hand", run_id=run_id)
            return _to_job(row, state)

    # ---- the stages of a running job

    def begin_stage(
        self,
        job_id: str,
        stage: str,
        *,
        run_id: str,
        content_key: str,
        input: dict[str, Any],  # noqa: A002
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Record that a run begins a stage, as a new attempt. It counts as not completed until `finish_stage`.

        Raises:
            JobBusyError: the job is not running with this run (it was cancelled or taken over).
        """
        now = utc_now()
        with self._database.session() as session:
            _, state = _lock_running(session, job_id, run_id)
            begun = {
                "status": "running", "input": input, "output": None, "error": None, "milliseconds": None,
                "run_id": run_id, "content_key": content_key, "cached": False,
                "started_at": now, "finished_at": None,
            }  # fmt: skip
            _put_result(session, job_id, stage, begun | {"runs": ResultRow.runs + 1}, new=begun | {"runs": 1})
            session.execute(
                insert(AttemptRow).values(
                    job_id=job_id, stage=stage, verdict="running", input=input, settings=settings and dict(settings),
                    run_id=run_id, content_key=content_key, started_at=now,
                )
            )  # fmt: skip
            state.current_stage = stage
            state.stages_completed = [done for done in state.stages_completed if done != stage]

    def finish_stage(
        self,
        job_id: str,
        stage: str,
        *,
        run_id: str,
        output: dict[str, Any],
        milliseconds: int,
        cached: bool = False,
        content_key: str,
        images: Sequence[ImageRow] = (),
        final_image: str | None = None,
        write: Callable[[], None] = lambda: None,
    ) -> None:
        """Record a stage's output and its images. A cached one is not counted in `runs`, begun or not.

        `write` puts the files away. It is called when the job is this run's, and nobody can cancel the job until the
        record is made, so a job that was cancelled writes nothing. Keep it short: on SQLite all other writers wait.

        Raises:
            JobBusyError: the job is not running with this run (it was cancelled or taken over).
        """
        now = utc_now()
        with self._database.session() as session:
            _, state = _lock_running(session, job_id, run_id)
            write()
            done = {
                "status": "completed", "output": output, "error": None, "milliseconds": milliseconds,
                "run_id": run_id, "content_key": content_key, "cached": cached, "finished_at": now,
            }  # fmt: skip
            mine = and_(ResultRow.status == "running", ResultRow.run_id == run_id)
            runs = case((mine, ResultRow.runs - 1), else_=ResultRow.runs) if cached else ResultRow.runs
            new: dict[str, Any] = {"input": {}, "runs": 0 if cached else 1, "started_at": now}
            _put_result(session, job_id, stage, done | {"runs": runs}, new=done | new)
            _end_attempts(session, job_id, "completed", None, stage=stage, output=output)
            state.current_stage = stage
            state.stages_completed = [one for one in STAGES if one == stage or one in state.stages_completed]
            if final_image is not None:
                state.final_image = final_image
            _put_images(session, job_id, images)

    def hold_for_review(
        self,
        job_id: str,
        stage: str,
        *,
        run_id: str,
        output: dict[str, Any],
        milliseconds: int,
        what: str,
        mend: str,
        images: Sequence[ImageRow] = (),
        write: Callable[[], None] = lambda: None,
    ) -> None:
        """Stop a job at a stage that made something which was turned down; the output is kept, for `approve`.

        `write` as in `finish_stage`.

        Raises:
            JobBusyError: the job is not running with this run (it was cancelled or taken over).
        """
        with self._database.session() as session:
            row, _ = _lock_running(session, job_id, run_id)
            write()
            _end_job(session, row, "needs_review", by="run", stage=stage, what=what, mend=mend, output=output)
            session.execute(
                update(ResultRow)
                .where(ResultRow.job_id == job_id, ResultRow.stage == stage)
                .values(output=output, milliseconds=milliseconds)
            )
            _put_images(session, job_id, images)

    def attempts(self, job_id: str) -> list[Attempt]:
        """Every attempt of a job at every stage that did real work or failed before it could, oldest first.

        Raises:
            UnknownJobError: there is no such job.
        """
        with self._database.reader() as session:
            _get(session, job_id)
            rows = session.scalars(select(AttemptRow).where(AttemptRow.job_id == job_id).order_by(AttemptRow.id))
            return [Attempt(**{name: getattr(row, name) for name in Attempt.__slots__}) for row in rows]

    def stage_results_of(self, job_ids: Collection[str]) -> dict[str, dict[str, StageResult]]:
        """The newest attempt at every stage that each of the jobs got to: by job id, then by stage."""
        found: dict[str, dict[str, StageResult]] = {job_id: {} for job_id in job_ids}
        with self._database.reader() as session:
            for some in _chunks(found):
                for row in session.scalars(select(ResultRow).where(ResultRow.job_id.in_(some))):
                    found[row.job_id][row.stage] = _to_result(row)
        return found

    def set_source(self, job_id: str, source: dict[str, Any], *, run_id: str) -> None:
        """Give a running job the picture that it works on: a `SourceInfo` as JSON.

        Raises:
            JobBusyError: the job is not running with this run (it was cancelled or taken over).
        """
        with self._database.session() as session:
            row, _ = _lock_running(session, job_id, run_id)
            _set(row, utc_now(), source=source)

    def stage_result(self, job_id: str, stage: str) -> StageResult | None:
        """The newest attempt of a job at a stage; None when it never got there."""
        with self._database.reader() as session:
            row = session.get(ResultRow, (job_id, stage))
            return None if row is None else _to_result(row)

    def stage_results(self, job_id: str) -> list[StageResult]:
        """The newest attempt at every stage that the job got to, in the order of the stages."""
        with self._database.reader() as session:
            rows = session.scalars(select(ResultRow).where(ResultRow.job_id == job_id)).all()
        return sorted(map(_to_result, rows), key=lambda result: STAGES.index(result.stage))

    # ---- endings

    def complete(self, job_id: str, *, run_id: str) -> bool:
        """End a job well. False: it is not running with this run; unchanged."""
        return self._end(job_id, run_id, "completed")

    def review(self, job_id: str, *, run_id: str, stage: str | None, what: str, mend: str) -> bool:
        """Stop a job until a person has looked at it. False: it is not running with this run; unchanged."""
        return self._end(job_id, run_id, "needs_review", stage=stage, what=what, mend=mend)

    def reject(self, job_id: str, *, run_id: str, stage: str | None, what: str, mend: str) -> bool:
        """End a job whose request is wrong. False: it is not running with this run; unchanged."""
        return self._end(job_id, run_id, "rejected", stage=stage, what=what, mend=mend)

    def fail(
        self, job_id: str, *, run_id: str, stage: str | None, what: str, mend: str, fault: Fault = "permanent"
    ) -> bool:
        """End a job that could not be done. False: it is not running with this run; unchanged."""
        return self._end(job_id, run_id, "failed", stage=stage, what=what, mend=mend, fault=fault)

    def note_failure(self, job_id: str, *, run_id: str, stage: str | None, what: str, fault: Fault) -> None:
        """Keep that a run failed before it had the job: in the log and, if there is such a job, in its history.

        The job stays as it is. What the run already has in the job's history is not noted again.
        """
        with self._database.session() as session:
            found = _lock(session, JobRow.id == job_id)
            for row, state in found:
                mine = select(AttemptRow.id).where(AttemptRow.job_id == job_id, AttemptRow.run_id == run_id).limit(1)
                if run_id in state.run_ids or session.scalars(mine).first() is not None:
                    return
                plan = PLANS[cast("JobType", row.job_type)]
                at = stage or next_stage(cast("JobType", row.job_type), state.stages_completed) or plan[-1]
                _add_attempt(session, job_id, at, "failed", what, run_id=run_id, fault=fault)
            message = f"failed before it began: {what}"
            _log(session, [job_id], message, level="warning", run_id=run_id, stage=stage)

    def _end(
        self,
        job_id: str,
        run_id: str,
        status: JobStatus,
        *,
        stage: str | None = None,
        what: str | None = None,
        mend: str | None = None,
        fault: Fault | None = None,
    ) -> bool:
        with self._database.session() as session:
            rows = _lock(session, JobRow.id == job_id, _may(status, by="run"), JobRow.run_id == run_id)
            for row, _ in rows:
                _end_job(session, row, status, by="run", stage=stage, what=what, mend=mend, fault=fault)
            return bool(rows)

    def retry_later(
        self,
        job_id: str,
        *,
        run_id: str,
        stage: str | None,
        what: str,
        mend: str,
        fault: Fault,
        max_attempts: int,
        retry_after: float | None = None,
    ) -> JobStatus:
        """Count a failed attempt: below `max_attempts` of this kind the job waits, then runs alone; else it has failed.

        How long it waits: `jobs.faults`.

        Returns:
            The status that the job has now; that of the other run or person when it is no longer this run's.
        """
        with self._database.session() as session:
            rows = _lock(session, JobRow.id == job_id, JobRow.status == "running", JobRow.run_id == run_id)
            if not rows:
                return _get(session, job_id).status
            row, state = rows[0]
            return _try_again(
                session,
                row,
                by="run",
                stage=None if stage in state.stages_completed else stage,  # a commit whose answer was lost
                what=what,
                mend=mend,
                fault=fault,
                max_attempts=max_attempts,
                retry_after=retry_after,
                run_id=run_id,
            )

    def release(self, job_ids: Collection[str], *, run_id: str, status: Literal["pending", "held"]) -> list[str]:
        """Let go of jobs that this run has, as if it had not taken them; returns those that it had."""
        with self._database.session() as session:
            rows = _lock(session, JobRow.id.in_(set(job_ids)), _may(status, by="run"), JobRow.run_id == run_id)
            now = utc_now()
            for row, _ in rows:
                _move(row, now, status, by="run", batch_id=None, run_id=None)
                _end_stages(session, row.id, "cancelled", None, "The run let go of the job.")
            released = [row.id for row, _ in rows]
            _log(session, released, f"let go: {status}", run_id=run_id)
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
            for row, state in _lock(session, mine):
                settled[row.id] = _settle(
                    session, row, state, run_id=run_id, outcome=outcome, error=error, max_attempts=max_attempts
                )
        return settled

    def settle_waiting(self) -> dict[str, JobStatus]:
        """Let waiting jobs go on, or end, for which that is decided: see `jobs.families.settle_waiting`."""
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
                _get(session, job_id)
            wanted = set(job_ids) | families.descendants(session, job_ids)
            rows = _lock(session, JobRow.id.in_(wanted), _may("cancelled", by="person"))
            before = [_to_job(row, state) for row, state in rows]
            for row, _ in rows:
                _end_job(session, row, "cancelled", by="person", what=reason, mend=_BY_HAND_MEND)
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
            again = set[str]()
            plan = PLANS[cast("JobType", row.job_type)]
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
            return _to_job(row, state)

    def change_request(
        self, job_id: str, *, run_id: str, request: JobRequest, source: dict[str, Any] | None, fields: Sequence[str]
    ) -> None:
        """Give a job another request while a run has it; its stages are looked at again, from the first on.

        Raises:
            JobBusyError: the job is not running with this run (it was cancelled or taken over).
        """
        with self._database.session() as session:
            row, state = _lock_running(session, job_id, run_id)
            _take_request(row, request, source)
            state.stages_completed = []
            _log(session, [job_id], f"request changed by run config: {', '.join(fields)}", run_id=run_id)

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
            plan = PLANS[cast("JobType", row.job_type)]
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
                    else row.error_mend or "",
                )
            result.status, result.error = "completed", None
            result.output = {**result.output, "metadata": {**result.output["metadata"], "approved": True}}
            newest = select(func.max(AttemptRow.id)).where(AttemptRow.job_id == job_id, AttemptRow.stage == stage)
            session.execute(
                update(AttemptRow).where(AttemptRow.id == newest.scalar_subquery()).values(verdict="approved")
            )
            _back_to_queue(session, row, locked, f"approved by a person at {stage}")
            return _to_job(row, state)

    def turn_down(self, job_id: str, *, reason: str) -> None:
        """End a job that waits for review as rejected, because a person says so.

        Raises:
            UnknownJobError: there is no such job.
            JobBusyError: it does not wait for review.
        """
        with self._database.session() as session:
            row, _, _ = _lock_for_person(session, job_id, "rejected", "rejected", _REVIEWED)
            _end_job(session, row, "rejected", by="person", stage=row.error_stage, what=reason, mend=_BY_HAND_MEND)

    def archive(self, job_ids: Collection[str]) -> list[str]:
        """Put jobs that have ended away for good; returns those that it put away."""
        archived: list[str] = []
        for some in _chunks(dict.fromkeys(job_ids)):
            with self._database.session() as session:
                rows = _lock(session, JobRow.id.in_(some), _may("archived", by="person"))
                now = utc_now()
                for row, _ in rows:
                    _move(row, now, "archived", by="person")
                _log(session, [row.id for row, _ in rows], "archived")
                archived += [row.id for row, _ in rows]
        return archived

    def restore(self, job_id: str) -> None:
        """Note that a job's partition is back: retention counts from now on, as if the job had just ended.

        Raises:
            UnknownJobError: there is no such job.
        """
        with self._database.session() as session:
            _get(session, job_id)
            for row, _ in _lock(session, JobRow.id == job_id):
                row.restored_at = utc_now()
            _log(session, [job_id], "partition restored")

    @contextmanager
    def removing(self, job_id: str) -> Iterator[None]:
        """Remove a job that has ended, with all its records, when the block ends well; the log keeps its lines.

        Nobody can start or retry the job inside the block. Keep it short.

        Raises:
            UnknownJobError: there is no such job.
            JobBusyError: it has not ended.
        """
        with self._database.session() as session:
            job = _get(session, job_id)
            rows = _lock(session, JobRow.id == job_id, JobRow.status.in_(FINAL))
            if not rows:
                raise JobBusyError(
                    f"Job {job_id} is {job.status}, so it cannot be removed.", "`fc cancel` it first, or wait."
                )
            yield
            session.delete(rows[0][0])
            _log(session, [job_id], "removed by a person")

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

    # ---- what a crash may have left; `jobs.mend` asks for it

    def cut_stages(self, since: datetime | None) -> list[tuple[str, str]]:
        """(job, stage) of the stages that count as running, of jobs that do not and changed since; None: of all."""
        jobs = select(JobRow.id).where(JobRow.status != "running")
        if since is not None:
            jobs = jobs.where(JobRow.updated_at >= since)
        cut = set[tuple[str, str]]()
        with self._database.reader() as session:
            for some in _chunks(session.scalars(jobs)):
                for table, status in ((ResultRow, ResultRow.status), (AttemptRow, AttemptRow.verdict)):
                    query = select(table.job_id, table.stage).where(table.job_id.in_(some), status == "running")
                    cut.update(session.execute(query).tuples())
        return sorted(cut)

    def end_cut_stages(self, job_ids: Collection[str], *, reason: str) -> None:
        """End the running stages of those of the jobs that do not run."""
        with self._database.session() as session:
            for row, _ in _lock(session, JobRow.id.in_(set(job_ids)), JobRow.status != "running"):
                _end_stages(session, row.id, "cancelled", None, reason)
                _end_attempts(session, row.id, "cancelled", reason)
                _log(session, [row.id], reason, level="warning")

    def stages_completed(self, ids: Collection[str]) -> dict[str, list[str]]:
        """The completed stages of each of the jobs; an id without a job is left out."""
        found: dict[str, list[str]] = {}
        with self._database.reader() as session:
            for some in _chunks(ids):
                query = select(StateRow.job_id, StateRow.stages_completed).where(StateRow.job_id.in_(some))
                found.update(session.execute(query).tuples().all())
        return found

    def final_images(self, since: datetime | None) -> list[tuple[str, ImageRow]]:
        """(job, its picture to deliver) of the completed jobs that changed since then; None: of all."""
        return self._images(
            since,
            ImageMetadataRow.path == StateRow.final_image,
            JobRow.status == "completed",
        )

    def other_images(self, since: datetime | None) -> list[tuple[str, ImageRow]]:
        """(job, image) of every other image, of jobs that are over and changed since then; None: of all."""
        is_final = and_(ImageMetadataRow.path == StateRow.final_image, JobRow.status == "completed")
        return self._images(since, not_(func.coalesce(is_final, false())), JobRow.status.in_(FINAL))

    def _images(self, since: datetime | None, *wanted: ColumnElement[bool]) -> list[tuple[str, ImageRow]]:
        query = (
            select(JobRow.id, ImageMetadataRow)
            .join(StateRow, StateRow.job_id == JobRow.id)
            .join(ImageMetadataRow, ImageMetadataRow.job_id == JobRow.id)
            .where(*wanted)
            .order_by(ImageMetadataRow.id)
        )
        if since is not None:
            query = query.where(JobRow.updated_at >= since)
        with self._database.reader() as session:
            return [(job_id, _to_image(row)) for job_id, row in session.execute(query).tuples()]

    def forget_images(self, paths: Collection[str]) -> None:
        """Remove the records of images; no file is touched."""
        with self._database.session() as session:
            for some in _chunks(paths):
                session.execute(delete(ImageMetadataRow).where(ImageMetadataRow.path.in_(some)))

    # ---- records

    def log(
        self,
        level: LogLevel,
        message: str,
        *,
        job_id: str | None = None,
        run_id: str | None = None,
        stage: str | None = None,
        data: dict[str, Any] | None = None,
    ) -> None:
        """Write one row of `controller_log`."""
        with self._database.session() as session:
            _log(session, [job_id], message, level=level, run_id=run_id, stage=stage, data=data)

    def logs(self, job_id: str | None, limit: int) -> list[LogEntry]:
        """The newest `limit` rows about a job (None: about anything), oldest first."""
        query = select(LogRow).order_by(LogRow.id.desc()).limit(limit)
        if job_id is not None:
            query = query.where(LogRow.job_id == job_id)
        with self._database.reader() as session:
            rows = session.scalars(query).all()
        return [
            LogEntry(row.at, cast("LogLevel", row.level), row.job_id, row.run_id, row.stage, row.message, row.data)
            for row in reversed(rows)
        ]

    def images(self, job_id: str) -> list[ImageRow]:
        """The images that a job's stages stored, in the order in which they were first stored."""
        query = select(ImageMetadataRow).where(ImageMetadataRow.job_id == job_id).order_by(ImageMetadataRow.id)
        with self._database.reader() as session:
            return [_to_image(row) for row in session.scalars(query)]

    def record_ideation(
        self,
        job_id: str,
        iteration: int,
        *,
        prompt: str,
        enhanced_prompt: str,
        score: float | None,
        selected: bool,
    ) -> None:
        """Keep one candidate prompt; the same iteration again replaces it.

        Raises:
            UnknownJobError: there is no such job.
        """
        candidate = {
            "prompt": prompt,
            "enhanced_prompt": enhanced_prompt,
            "score": score,
            "selected": selected,
        }
        with self._database.session() as session:
            _get(session, job_id)
            make = postgresql.insert if self._database.dialect == "postgresql" else sqlite.insert
            session.execute(
                make(IdeationRow)
                .values(job_id=job_id, iteration=iteration, **candidate)
                .on_conflict_do_update(index_elements=["job_id", "iteration"], set_=candidate)
            )


# What is written at every stage goes past the ORM, which takes longer to look for objects to keep in step.
_RESULTS, _ATTEMPTS, _IMAGES = (cast("Table", row.__table__) for row in (ResultRow, AttemptRow, ImageMetadataRow))
_CLAIM_ORDER: Final = (JobRow.priority, JobRow.created_at, JobRow.id)


# ---- rows to dataclasses and back


def _fresh_job(new: NewJob, created_at: datetime, children: int) -> Job:
    request = new.request
    waits = request.job_type == "group" or (new.after_id is not None and not new.hold)
    status: JobStatus = "waiting" if waits else "held" if new.hold else "pending"
    return Job(
        id=new.job_id, job_type=request.job_type, status=status, priority=request.priority, request=request,
        source=new.source, attempts=0, parent_id=new.parent_id, after_id=new.after_id, children=children,
        origin=new.origin, error=None, error_stage=None, error_mend=None, batch_id=None, run_id=None,
        solo=False, not_before=new.not_before, created_at=created_at, claimed_at=None, started_at=None,
        finished_at=None, updated_at=created_at, current_stage=None, stages_completed=(), run_ids=(),
        final_image=None, salts={}, user_mask=None, fault=None, faults={}, restored_at=None,
    )  # fmt: skip


_JOB_COLUMNS: Final = tuple(column.key for column in JobRow.__table__.columns)
_RESULT_COLUMNS: Final = tuple(column.key for column in ResultRow.__table__.columns)


def _job_columns(job: Job) -> dict[str, Any]:
    return {name: getattr(job, name) for name in _JOB_COLUMNS} | {"request": job.request.model_dump(mode="json")}


def _to_job(row: JobRow, state: StateRow) -> Job:
    columns = {name: getattr(row, name) for name in _JOB_COLUMNS}
    columns |= {"salts": row.salts or {}, "faults": row.faults or {}}
    columns["request"] = JobRequest.model_construct(**row.request)  # it was checked when it was added
    return Job(
        **columns,
        current_stage=state.current_stage,
        stages_completed=tuple(state.stages_completed),
        run_ids=tuple(state.run_ids),
        final_image=state.final_image,
    )


def _to_result(row: ResultRow) -> StageResult:
    columns = {name: getattr(row, name) for name in _RESULT_COLUMNS}
    return StageResult(**columns | {"input": row.input or {}})


def _to_image(row: ImageMetadataRow) -> ImageRow:
    return ImageRow(**{name: getattr(row, name) for name in ImageRow.__slots__})


def _image_columns(job_id: str, image: ImageRow) -> dict[str, Any]:
    return {"job_id": job_id} | {name: getattr(image, name) for name in ImageRow.__slots__}


# ---- reading and locking inside a transaction


def _select(
    session: Session,
    *wanted: ColumnElement[bool],
    order: Sequence[Any] = (),
    limit: int | None = None,
) -> list[Job]:
    query = select(JobRow, StateRow).join(StateRow, StateRow.job_id == JobRow.id).where(*wanted)
    rows = session.execute(query.order_by(*order).limit(limit)).tuples()
    return [_to_job(row, state) for row, state in rows]


def _get(session: Session, job_id: str) -> Job:
    jobs = _select(session, JobRow.id == job_id)
    if not jobs:
        raise UnknownJobError(f"There is no job {job_id!r}.", "`fc list` shows the jobs.")
    return jobs[0]


def _lock_running(session: Session, job_id: str, run_id: str) -> tuple[JobRow, StateRow]:
    rows = _lock(session, JobRow.id == job_id, JobRow.status == "running", JobRow.run_id == run_id)
    if not rows:
        raise _lost(_get(session, job_id), run_id)
    return rows[0]


def _lost(job: Job, run_id: str) -> JobBusyError:
    owner = f"run {job.run_id} has it" if job.status == "running" else f"it is {job.status}"
    return JobBusyError(
        f"Job {job.id} is no longer run {run_id}'s: {owner}.",
        "It was cancelled or taken over; nothing was recorded, and this run should leave it.",
    )


def _lock_for_person(
    session: Session, job_id: str, status: JobStatus, done: str, before: Collection[JobStatus]
) -> tuple[JobRow, StateRow, dict[str, JobRow]]:
    """The job, and all that wait for it, which a person may bring back with it."""
    locked = families.lock_with_waiters(session, [job_id])
    row = locked.get(job_id)
    if row is None or row.status not in before or row.status not in sources(status, by="person"):
        job = _get(session, job_id)
        mend = {
            "running": "Wait until it has ended, or `fc cancel` it first.",
            "archived": "Submit its request as a new job.",
        }.get(job.status, f"`fc list` shows the jobs that are {' or '.join(before)}.")
        raise JobBusyError(f"Job {job_id} is {job.status}, so it cannot be {done}.", mend)
    return row, session.get_one(StateRow, job_id), locked


# ---- changes inside a transaction


def _take_request(row: JobRow, request: JobRequest, source: dict[str, Any] | None) -> None:
    if request.result_of != JobRequest.model_construct(**row.request).result_of:
        row.after_id = request.result_of
    row.request, row.priority, row.source = request.model_dump(mode="json"), request.priority, source


def _back_to_queue(session: Session, row: JobRow, locked: Mapping[str, JobRow], message: str) -> None:
    status: JobStatus = "waiting" if row.after_id and row.started_at is None else "pending"
    _move(row, utc_now(), status, by="person", attempts=0, faults={}, fault=None, solo=False, not_before=None)
    _set(row, row.updated_at, batch_id=None, run_id=None, error=None, error_stage=None, error_mend=None)
    _set(row, row.updated_at, finished_at=None)
    _log(session, [row.id], message)
    families.reopen_waiters(session, row.id, locked)


def _end_job(
    session: Session,
    row: JobRow,
    status: JobStatus,
    *,
    by: Actor,
    stage: str | None = None,
    what: str | None = None,
    mend: str | None = None,
    fault: Fault | None = None,
    output: dict[str, Any] | None = None,
    run_id: str | None = None,
) -> None:
    now = utc_now()
    if fault is not None:
        row.faults = _one_more(row, fault)
    _move(row, now, status, by=by, finished_at=now, error=what, error_stage=stage, error_mend=mend, fault=fault)
    begun = _end_stages(session, row.id, cast("StageStatus", status), stage, what, fault=fault, output=output)
    if stage is not None and not begun and by != "person":
        _add_attempt(session, row.id, stage, status, what, run_id=run_id or row.run_id, fault=fault)
    level: LogLevel = "info" if status in ("completed", "cancelled") else "warning"
    message = status if what is None else f"{status}: {what}"
    _log(session, [row.id], message, level=level, run_id=row.run_id, stage=stage)


def _try_again(
    session: Session,
    row: JobRow,
    *,
    by: Actor,
    stage: str | None,
    what: str,
    mend: str,
    fault: Fault,
    max_attempts: int,
    retry_after: float | None = None,
    run_id: str,
) -> JobStatus:
    row.attempts += 1
    faults = _one_more(row, fault)
    failed = faults[fault]
    if failed >= max_attempts:
        _end_job(session, row, "failed", by=by, stage=stage, what=what, mend=mend, fault=fault, run_id=run_id)
        return "failed"
    now = utc_now()
    seconds = seconds_before_next(fault, failed, retry_after)
    not_before = now + timedelta(seconds=seconds) if seconds > 0 else None
    _move(row, now, "pending", by=by, solo=True, batch_id=None, run_id=None, not_before=not_before)
    _set(row, now, error=what, error_stage=stage, error_mend=mend, fault=fault, faults=faults)
    begun = _end_stages(session, row.id, "failed", stage, what, fault=fault)
    if stage is not None and not begun:
        _add_attempt(session, row.id, stage, "failed", what, run_id=run_id, fault=fault)
    message = f"{fault}: attempt {failed} of {max_attempts} failed, tried again in {seconds:.0f} s: {what}"
    _log(session, [row.id], message, level="warning", run_id=run_id, stage=stage)
    return "pending"


def _one_more(row: JobRow, fault: Fault) -> dict[str, int]:
    faults = row.faults or {}
    return faults | {fault: faults.get(fault, 0) + 1}


def _settle(
    session: Session,
    row: JobRow,
    state: StateRow,
    *,
    run_id: str,
    outcome: Literal["success", "failure", "cancelled"],
    error: str,
    max_attempts: int,
) -> JobStatus:
    started = row.status == "running"
    left = next_stage(cast("JobType", row.job_type), state.stages_completed)
    if outcome == "cancelled":
        what = error or "The run was cancelled."
        _end_job(session, row, "cancelled", by="sensor", what=what, mend=_BY_HAND_MEND)
        return "cancelled"
    if started and left is None:
        _end_job(session, row, "completed", by="sensor")
        return "completed"
    if outcome == "success" and started:
        _move(row, utc_now(), "held", by="sensor", batch_id=None, run_id=None)
        _end_stages(session, row.id, "cancelled", None, "The run ended first.")
        _log(session, [row.id], f"held: the run ended before stage {left}", run_id=run_id)
        return "held"
    at_work, was_solo = _running_stage(session, row.id), row.solo
    what = error or "The run ended before it started the job."
    mend = f"See the run's log in the Dagster UI. {_BY_HAND_MEND}"
    status = _try_again(
        session,
        row,
        by="sensor",
        stage=at_work or left,
        what=what,
        mend=mend,
        fault="crash",
        max_attempts=max_attempts,
        run_id=run_id,
    )
    # Only the job that was in hand may be why the run died. Its neighbours stay together, until their last attempt.
    row.solo = was_solo or at_work is not None or (started and (row.faults or {}).get("crash", 0) >= max_attempts - 1)
    return status


def _running_stage(session: Session, job_id: str) -> str | None:
    return session.scalars(
        select(ResultRow.stage).where(ResultRow.job_id == job_id, ResultRow.status == "running").limit(1)
    ).first()


def _end_stages(
    session: Session,
    job_id: str,
    status: StageStatus,
    stage: str | None,
    error: str | None,
    *,
    fault: Fault | None = None,
    output: dict[str, Any] | None = None,
) -> bool:
    """End the job's running stages, and `stage` even if it was never begun; whether an attempt was running."""
    now = utc_now()
    ended = {"status": status, "error": error, "finished_at": now}
    if stage is not None:
        _put_result(session, job_id, stage, ended, new=ended | {"cached": False, "runs": 0})
    session.execute(update(ResultRow).where(ResultRow.job_id == job_id, ResultRow.status == "running").values(**ended))
    return _end_attempts(session, job_id, status, error, fault=fault, output=output)


def _add_attempt(
    session: Session,
    job_id: str,
    stage: str,
    verdict: str,
    reason: str | None,
    *,
    run_id: str | None,
    fault: str | None,
) -> None:
    """An attempt that ended before the stage began."""
    now = utc_now()
    session.add(
        AttemptRow(
            job_id=job_id, stage=stage, verdict=verdict, reason=reason, run_id=run_id, fault=fault, started_at=now,
            finished_at=now,
        )
    )  # fmt: skip


def _end_attempts(
    session: Session,
    job_id: str,
    verdict: StageStatus,
    reason: str | None,
    *,
    stage: str | None = None,
    output: dict[str, Any] | None = None,
    fault: Fault | None = None,
) -> bool:
    """End the job's running attempts, or that at one stage; whether there was one."""
    running = [AttemptRow.job_id == job_id, AttemptRow.verdict == "running"]
    if stage is not None:
        running.append(AttemptRow.stage == stage)
    ended = {"verdict": verdict, "reason": reason, "output": output, "fault": fault, "finished_at": utc_now()}
    return session.connection().execute(update(_ATTEMPTS).where(*running).values(**ended)).rowcount > 0


def _put_result(
    session: Session, job_id: str, stage: str, change: Mapping[str, Any], *, new: Mapping[str, Any]
) -> None:
    """Change the newest attempt of a job at a stage, or add one with the columns `new`; the job is locked.

    SQLAlchemy compiles an upsert at every call; these two statements once.
    """
    here = (ResultRow.job_id == job_id, ResultRow.stage == stage)
    connection = session.connection()
    if connection.execute(update(_RESULTS).where(*here).values(**change)).rowcount == 0:
        connection.execute(insert(_RESULTS), {"job_id": job_id, "stage": stage, **new})


def _put_images(session: Session, job_id: str, images: Sequence[ImageRow]) -> None:
    """Record images in place of those that had the same paths; the job is locked."""
    rows = {image.path: _image_columns(job_id, image) for image in images}
    if rows:
        session.connection().execute(delete(_IMAGES).where(ImageMetadataRow.path.in_(rows)))
        session.connection().execute(insert(_IMAGES), list(rows.values()))


def _taken(ids: Sequence[str]) -> RejectedError:
    return RejectedError(
        f"job_id: {', '.join(ids[:5])} {'is' if len(ids) == 1 else 'are'} taken.",
        "Choose another id, or leave it out and one is made.",
    )


def _not_startable(job: Job) -> JobBusyError:
    mend = {
        "running": f"Wait for run {job.run_id}, or cancel it in the Dagster UI.",
        "claimed": "The sensor will start it; wait for that run.",
        "rejected": "Submit a corrected request as a new job.",
    }.get(job.status, _BY_HAND_MEND)
    owner = f" with run {job.run_id}" if job.status == "running" else ""
    batch = f" in batch {job.batch_id}" if job.status == "claimed" and job.batch_id else ""
    return JobBusyError(f"Job {job.id} is {job.status}{owner}{batch} and cannot be started here.", mend)

"""The queue: every change of a job's status, each in one short transaction that states what it changes from.

Belongs here: who may take a job, how it ends, and the records of its stages. Does not: which changes there are
(`jobs.transitions`), table definitions (`resources.database`), checking a request (`jobs.submit`), running anything.

Every method that changes jobs first locks exactly the rows whose state allows the change, in id order
(Postgres: `SELECT ... FOR UPDATE`; SQLite: the one write lock), so two processes can never both make it. Each
change of a status leaves a row in `controller_log`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal, cast

from sqlalchemy import ColumnElement, and_, delete, false, func, insert, not_, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from imaging.errors import FaceChangerError, RejectedError
from jobs.request import JobRequest, JobType
from jobs.stages import PLANS, STAGES, next_stage
from jobs.transitions import FINAL, JOB_STATUSES, TRANSITIONS, Actor, JobStatus, sources
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
Origin = Literal["cli", "inbox", "ui", "api"]
LogLevel = Literal["debug", "info", "warning", "error"]

_REVIEWED: Final[tuple[JobStatus, ...]] = ("needs_review",)
_BY_HAND_MEND: Final = "To start it again: `fc retry JOB`, or materialise its partition in the Dagster UI."
_CHUNK: Final = 500  # ids in one statement; SQLite allows 32766 parameters


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
    hold: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """One job as it stood when it was read. Times are aware UTC.

    `salts` says how often a person had a stage made anew, by stage; `user_mask` is a `SourceInfo` as JSON.
    """

    id: str
    job_type: JobType
    status: JobStatus
    priority: int
    request: JobRequest
    source: dict[str, Any] | None
    attempts: int
    parent_id: str | None
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

    `verdict` is a stage's status, or `approved`; `reason` says why it is not completed.
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
        """Add jobs, all or none, in the order given: `held` where asked for, `pending` otherwise.

        Raises:
            RejectedError: a `job_id` is taken or given twice, or a `parent_id` is unknown; nothing was added.
        """
        if not new:
            return []
        ids = [one.job_id for one in new]
        twice = [job_id for job_id, times in Counter(ids).items() if times > 1]
        if twice:
            raise _taken(twice)
        first = utc_now()
        jobs = [_fresh_job(one, first + timedelta(microseconds=index)) for index, one in enumerate(new)]
        try:
            with self._database.session() as session:
                session.execute(insert(JobRow), [_job_columns(job) for job in jobs])
                session.execute(
                    insert(StateRow),
                    [{"job_id": job_id, "stages_completed": [], "run_ids": []} for job_id in ids],
                )
                _log(session, ids, f"added by {new[0].origin}")
        except IntegrityError:
            known = self.get_many(ids)
            if known:
                raise _taken(sorted(known)) from None
            parents = {one.parent_id for one in new if one.parent_id} - set(ids)
            missing = sorted(parents - set(self.get_many(parents)))
            if not missing:
                raise
            raise RejectedError(
                f"parent_id: there is no job {', '.join(missing)}.",
                "Give the id of a job that `fc list` shows.",
            ) from None
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
        limit: int | None = None,
        newest_first: bool = True,
    ) -> list[Job]:
        """List jobs without changing any. None matches all; an empty collection matches none."""
        wanted: list[ColumnElement[bool]] = []
        if statuses is not None:
            wanted.append(JobRow.status.in_(statuses))
        if job_types is not None:
            wanted.append(JobRow.job_type.in_(job_types))
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

    def ended(self, ids: Collection[str]) -> dict[str, datetime]:
        """When those of the jobs that are over ended; the others are left out."""
        when = func.coalesce(JobRow.finished_at, JobRow.updated_at)
        ended: dict[str, datetime] = {}
        with self._database.reader() as session:
            for some in _chunks(ids):
                # The status is looked at here: asked for in SQL, SQLite reads every job of these statuses instead.
                rows = session.execute(select(JobRow.id, JobRow.status, when).where(JobRow.id.in_(some))).tuples()
                ended.update((job_id, moment) for job_id, status, moment in rows if status in FINAL)
        return ended

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
        allowed = _may("running", by=by)
        if batch_id is not None:
            allowed = and_(allowed, JobRow.batch_id == batch_id)
        with self._database.session() as session:
            rows = _lock(session, JobRow.id == job_id, allowed)
            if not rows:
                job = _get(session, job_id)
                if job.status == "running" and job.run_id == run_id:
                    return job
                raise _not_startable(job)
            row, state = rows[0]
            now = utc_now()
            _move(row, now, "running", by=by, run_id=run_id, batch_id=batch_id, started_at=row.started_at or now)
            _set(row, now, finished_at=None, not_before=None, error=None, error_stage=None, error_mend=None)
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
            _upsert(
                session,
                ResultRow,
                [{"job_id": job_id, "stage": stage, "runs": 1, **begun}],
                key=("job_id", "stage"),
                change={**begun, "runs": ResultRow.runs + 1},
            )
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
    ) -> None:
        """Record a stage's output and its images. A cached one is not counted in `runs`, begun or not.

        Raises:
            JobBusyError: the job is not running with this run (it was cancelled or taken over).
        """
        now = utc_now()
        with self._database.session() as session:
            _, state = _lock_running(session, job_id, run_id)
            done = {
                "status": "completed", "output": output, "error": None, "milliseconds": milliseconds,
                "run_id": run_id, "content_key": content_key, "cached": cached, "finished_at": now,
            }  # fmt: skip
            row = session.get(ResultRow, (job_id, stage))
            if row is None:
                row = ResultRow(job_id=job_id, stage=stage, input={}, runs=0 if cached else 1, started_at=now)
                session.add(row)
            elif cached and row.status == "running" and row.run_id == run_id:
                row.runs -= 1
            for name, value in done.items():
                setattr(row, name, value)
            _end_attempts(session, job_id, "completed", None, stage=stage, output=output)
            state.current_stage = stage
            state.stages_completed = [one for one in STAGES if one == stage or one in state.stages_completed]
            if final_image is not None:
                state.final_image = final_image
            rows = {image.path: _image_columns(job_id, image) for image in images}
            if rows:
                _upsert(session, ImageMetadataRow, list(rows.values()), key=("path",))

    def check_running(self, job_id: str, *, run_id: str) -> None:
        """Make sure that a run still has its job.

        Raises:
            JobBusyError: it does not (the job was cancelled or taken over).
        """
        with self._database.reader() as session:
            job = _get(session, job_id)
        if job.status != "running" or job.run_id != run_id:
            raise _lost(job, run_id)

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
    ) -> None:
        """Stop a job at a stage that made something which was turned down; the output is kept, for `approve`.

        Raises:
            JobBusyError: the job is not running with this run (it was cancelled or taken over).
        """
        with self._database.session() as session:
            row, _ = _lock_running(session, job_id, run_id)
            _end_attempts(session, job_id, "needs_review", what, stage=stage, output=output)
            _end_job(session, row, "needs_review", by="run", stage=stage, what=what, mend=mend)
            session.execute(
                update(ResultRow)
                .where(ResultRow.job_id == job_id, ResultRow.stage == stage)
                .values(output=output, milliseconds=milliseconds)
            )
            if images:
                rows = {image.path: _image_columns(job_id, image) for image in images}
                _upsert(session, ImageMetadataRow, list(rows.values()), key=("path",))

    def attempts(self, job_id: str) -> list[Attempt]:
        """Every attempt of a job at every stage that did real work, oldest first.

        Raises:
            UnknownJobError: there is no such job.
        """
        with self._database.reader() as session:
            _get(session, job_id)
            rows = session.scalars(select(AttemptRow).where(AttemptRow.job_id == job_id).order_by(AttemptRow.id))
            return [Attempt(**{name: getattr(row, name) for name in Attempt.__slots__}) for row in rows]

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

    def fail(self, job_id: str, *, run_id: str, stage: str | None, what: str, mend: str) -> bool:
        """End a job that could not be done. False: it is not running with this run; unchanged."""
        return self._end(job_id, run_id, "failed", stage=stage, what=what, mend=mend)

    def _end(
        self,
        job_id: str,
        run_id: str,
        status: JobStatus,
        *,
        stage: str | None = None,
        what: str | None = None,
        mend: str | None = None,
    ) -> bool:
        with self._database.session() as session:
            rows = _lock(session, JobRow.id == job_id, _may(status, by="run"), JobRow.run_id == run_id)
            for row, _ in rows:
                _end_job(session, row, status, by="run", stage=stage, what=what, mend=mend)
            return bool(rows)

    def retry_later(
        self,
        job_id: str,
        *,
        run_id: str,
        stage: str | None,
        what: str,
        mend: str,
        delay_seconds: float,
        max_attempts: int,
    ) -> JobStatus:
        """Count a failed attempt: below `max_attempts` the job waits and then runs alone, else it has failed.

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
                delay_seconds=delay_seconds,
                max_attempts=max_attempts,
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
        """Decide about the jobs that an ended run left behind; safe to repeat.

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
                settled[row.id] = _settle(session, row, state, outcome=outcome, error=error, max_attempts=max_attempts)
        return settled

    # ---- what a person does with a job

    def cancel(self, job_ids: Collection[str], *, reason: str = "Cancelled by a person.") -> list[Job]:
        """End jobs that have not ended; returns those that it ended, as they were before.

        A run that is at work on one may record nothing more of it, and leaves it at its next step.

        Raises:
            UnknownJobError: one of them does not exist; nothing was changed.
        """
        with self._database.session() as session:
            for job_id in job_ids:
                _get(session, job_id)
            rows = _lock(session, JobRow.id.in_(set(job_ids)), _may("cancelled", by="person"))
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
            JobBusyError: it has not ended, or was archived.
        """
        with self._database.session() as session:
            row, state = _lock_for_person(session, job_id, "pending", "retried", sources("pending", by="person"))
            again = set[str]()
            plan = PLANS[cast("JobType", row.job_type)]
            if request is not None:
                row.request, row.priority = request.model_dump(mode="json"), request.priority
                row.source = source
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
            _back_to_queue(session, row, "retried" if from_stage is None else f"retried from {from_stage}")
            return _to_job(row, state)

    def make_again(self, job_id: str, stage: str, *, reason: str) -> bool:
        """Put a completed job back into the queue, to make a stage and those behind it whose results are not whole.

        Nothing else is made anew: the content keys find what is there. False: the job is not completed (any more).
        """
        with self._database.session() as session:
            rows = _lock(session, JobRow.id == job_id, JobRow.status == "completed")
            for row, state in rows:
                plan = PLANS[cast("JobType", row.job_type)]
                before = plan[: plan.index(stage)]
                state.stages_completed = [done for done in state.stages_completed if done in before]
                _back_to_queue(session, row, reason)
            return bool(rows)

    def approve(self, job_id: str) -> Job:
        """Take what was turned down as it is: its stage counts as done, and the job goes back into the queue.

        Raises:
            UnknownJobError: there is no such job.
            JobBusyError: it does not wait for review, or its stage made nothing that could be taken.
        """
        with self._database.session() as session:
            row, state = _lock_for_person(session, job_id, "pending", "approved", _REVIEWED)
            stage = row.error_stage
            result = session.get(ResultRow, (job_id, stage)) if stage else None
            if stage is None or result is None or not result.output:
                raise JobBusyError(
                    f"Job {job_id} cannot be approved: {stage or 'its stage'} made nothing that could be taken.",
                    "`fc retry JOB --set FIELD=VALUE` or `--seed N` tries it with another request.",
                )
            result.status, result.error = "completed", None
            result.output = {**result.output, "metadata": {**result.output["metadata"], "approved": True}}
            newest = select(func.max(AttemptRow.id)).where(AttemptRow.job_id == job_id, AttemptRow.stage == stage)
            session.execute(
                update(AttemptRow).where(AttemptRow.id == newest.scalar_subquery()).values(verdict="approved")
            )
            _back_to_queue(session, row, f"approved by a person at {stage}")
            return _to_job(row, state)

    def turn_down(self, job_id: str, *, reason: str) -> None:
        """End a job that waits for review as rejected, because a person says so.

        Raises:
            UnknownJobError: there is no such job.
            JobBusyError: it does not wait for review.
        """
        with self._database.session() as session:
            row, _ = _lock_for_person(session, job_id, "rejected", "rejected", _REVIEWED)
            _end_job(session, row, "rejected", by="person", stage=row.error_stage, what=reason, mend=_BY_HAND_MEND)

    def archive(self, job_ids: Collection[str]) -> list[str]:
        """Put jobs that have ended away for good; returns those that it put away."""
        with self._database.session() as session:
            rows = _lock(session, JobRow.id.in_(set(job_ids)), _may("archived", by="person"))
            now = utc_now()
            for row, _ in rows:
                _move(row, now, "archived", by="person")
            _log(session, [row.id for row, _ in rows], "archived")
            return [row.id for row, _ in rows]

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
            _upsert(
                session,
                IdeationRow,
                [{"job_id": job_id, "iteration": iteration, **candidate}],
                key=("job_id", "iteration"),
            )


_CLAIM_ORDER: Final = (JobRow.priority, JobRow.created_at, JobRow.id)


# ---- rows to dataclasses and back


def _fresh_job(new: NewJob, created_at: datetime) -> Job:
    request = new.request
    return Job(
        id=new.job_id, job_type=request.job_type, status="held" if new.hold else "pending",
        priority=request.priority, request=request, source=new.source, attempts=0, parent_id=new.parent_id,
        origin=new.origin, error=None, error_stage=None, error_mend=None, batch_id=None, run_id=None,
        solo=False, not_before=None, created_at=created_at, claimed_at=None, started_at=None,
        finished_at=None, updated_at=created_at, current_stage=None, stages_completed=(), run_ids=(),
        final_image=None, salts={}, user_mask=None,
    )  # fmt: skip


_JOB_COLUMNS: Final = tuple(column.key for column in JobRow.__table__.columns)
_RESULT_COLUMNS: Final = tuple(column.key for column in ResultRow.__table__.columns)


def _job_columns(job: Job) -> dict[str, Any]:
    return {name: getattr(job, name) for name in _JOB_COLUMNS} | {"request": job.request.model_dump(mode="json")}


def _to_job(row: JobRow, state: StateRow) -> Job:
    columns = {name: getattr(row, name) for name in _JOB_COLUMNS}
    columns["salts"] = row.salts or {}
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


def _lock(session: Session, *allowed: ColumnElement[bool]) -> list[tuple[JobRow, StateRow]]:
    """The jobs in an allowed state, kept so until the transaction ends; in id order against deadlocks."""
    query = select(JobRow, StateRow).join(StateRow, StateRow.job_id == JobRow.id).where(*allowed)
    return list(session.execute(query.order_by(JobRow.id).with_for_update()).tuples())


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
) -> tuple[JobRow, StateRow]:
    rows = _lock(session, JobRow.id == job_id, _may(status, by="person"), JobRow.status.in_(before))
    if not rows:
        job = _get(session, job_id)
        mend = {
            "running": "Wait until it has ended, or `fc cancel` it first.",
            "archived": "Submit its request as a new job.",
        }.get(job.status, f"`fc list` shows the jobs that are {' or '.join(before)}.")
        raise JobBusyError(f"Job {job_id} is {job.status}, so it cannot be {done}.", mend)
    return rows[0]


def _chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    listed = list(ids)
    for start in range(0, len(listed), _CHUNK):
        yield listed[start : start + _CHUNK]


# ---- changes inside a transaction


def _set(row: JobRow, now: datetime, **columns: Any) -> None:  # noqa: ANN401 - the columns' own types
    for name, value in columns.items():
        setattr(row, name, value)
    row.updated_at = now


def _may(status: JobStatus, *, by: Actor) -> ColumnElement[bool]:
    """The jobs that `by` may bring to a status."""
    return JobRow.status.in_(sources(status, by=by))


def _move(row: JobRow, now: datetime, status: JobStatus, *, by: Actor, **columns: Any) -> None:  # noqa: ANN401
    """Change a status, and other columns with it; the one place where a status is written.

    Raises:
        ValueError: the table does not allow it: a fault of the caller, whose statement must ask for the right rows.
    """
    if by not in TRANSITIONS[cast("JobStatus", row.status)].get(status, ()):
        raise ValueError(f"A job that is {row.status} cannot become {status} by a {by}.")
    _set(row, now, status=status, **columns)


def _back_to_queue(session: Session, row: JobRow, message: str) -> None:
    _move(row, utc_now(), "pending", by="person", attempts=0, solo=False, not_before=None, finished_at=None)
    _set(row, row.updated_at, batch_id=None, run_id=None, error=None, error_stage=None, error_mend=None)
    _log(session, [row.id], message)


def _end_job(
    session: Session,
    row: JobRow,
    status: JobStatus,
    *,
    by: Actor,
    stage: str | None = None,
    what: str | None = None,
    mend: str | None = None,
) -> None:
    now = utc_now()
    _move(row, now, status, by=by, finished_at=now, error=what, error_stage=stage, error_mend=mend)
    _end_stages(session, row.id, cast("StageStatus", status), stage, what)
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
    delay_seconds: float,
    max_attempts: int,
) -> JobStatus:
    row.attempts += 1
    if row.attempts >= max_attempts:
        _end_job(session, row, "failed", by=by, stage=stage, what=what, mend=mend)
        return "failed"
    now = utc_now()
    run_id = row.run_id
    not_before = now + timedelta(seconds=delay_seconds) if delay_seconds > 0 else None
    _move(row, now, "pending", by=by, solo=True, batch_id=None, run_id=None, not_before=not_before)
    _set(row, now, error=what, error_stage=stage, error_mend=mend)
    _end_stages(session, row.id, "failed", stage, what)
    message = f"attempt {row.attempts} of {max_attempts} failed, will be tried again: {what}"
    _log(session, [row.id], message, level="warning", run_id=run_id, stage=stage)
    return "pending"


def _settle(
    session: Session,
    row: JobRow,
    state: StateRow,
    *,
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
        run_id = row.run_id
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
        delay_seconds=0,
        max_attempts=max_attempts,
    )
    # Only the job that was in hand may be why the run died. Its neighbours stay together, until their last attempt.
    row.solo = was_solo or at_work is not None or (started and row.attempts >= max_attempts - 1)
    return status


def _running_stage(session: Session, job_id: str) -> str | None:
    return session.scalars(
        select(ResultRow.stage).where(ResultRow.job_id == job_id, ResultRow.status == "running").limit(1)
    ).first()


def _end_stages(session: Session, job_id: str, status: StageStatus, stage: str | None, error: str | None) -> None:
    """End the job's running stages, and `stage` even if it was never begun."""
    now = utc_now()
    ended = {"status": status, "error": error, "finished_at": now}
    if stage is not None:
        new = {"job_id": job_id, "stage": stage, "cached": False, "runs": 0, **ended}
        _upsert(session, ResultRow, [new], key=("job_id", "stage"), change=ended)
    session.execute(update(ResultRow).where(ResultRow.job_id == job_id, ResultRow.status == "running").values(**ended))
    _end_attempts(session, job_id, status, error)


def _end_attempts(
    session: Session,
    job_id: str,
    verdict: StageStatus,
    reason: str | None,
    *,
    stage: str | None = None,
    output: dict[str, Any] | None = None,
) -> None:
    """End the job's running attempts, or that at one stage."""
    running = [AttemptRow.job_id == job_id, AttemptRow.verdict == "running"]
    if stage is not None:
        running.append(AttemptRow.stage == stage)
    ended = {"verdict": verdict, "reason": reason, "output": output, "finished_at": utc_now()}
    session.execute(update(AttemptRow).where(*running).values(**ended))


def _upsert(
    session: Session,
    table: type[ResultRow | ImageMetadataRow | IdeationRow],
    rows: Sequence[Mapping[str, Any]],
    *,
    key: Sequence[str],
    change: Mapping[str, Any] | None = None,
) -> None:
    """Insert rows; one whose key is taken gets the columns of `change` instead (default: its own)."""
    make = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    statement = make(table).values(list(rows))
    if change is None:
        change = {name: statement.excluded[name] for name in rows[0] if name not in key}
    session.execute(statement.on_conflict_do_update(index_elements=list(key), set_=dict(change)))


def _log(
    session: Session,
    job_ids: Sequence[str | None],
    message: str,
    *,
    level: LogLevel = "info",
    run_id: str | None = None,
    stage: str | None = None,
    data: dict[str, Any] | None = None,
) -> None:
    if not job_ids:
        return
    common = {
        "at": utc_now(),
        "level": level,
        "run_id": run_id,
        "stage": stage,
        "message": message,
        "data": data,
    }
    session.execute(insert(LogRow), [{"job_id": job_id, **common} for job_id in job_ids])


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

"""What the stages of a job leave behind in the database: results, attempts, images, and the log."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from sqlalchemy import ColumnElement, and_, case, delete, false, func, insert, not_, select
from sqlalchemy.dialects import postgresql, sqlite

from jobs.model.job import Attempt, ImageRow, LogEntry, LogLevel, StageResult
from jobs.model.stages import STAGES
from jobs.model.transitions import FINAL
from jobs.queue.job_rows import get_job, lock_running, to_image, to_result
from jobs.queue.rows import NO_DEATHS, QueueAccess, chunks, lock, log, set_columns
from jobs.queue.stage_rows import end_attempts, end_stages, put_images, put_result
from resources.database import (
    AttemptRow,
    IdeationRow,
    ImageMetadataRow,
    JobRow,
    LogRow,
    ResultRow,
    StateRow,
    utc_now,
)


class StageRecords(QueueAccess):
    """Writes and reads them."""

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
            _, state = lock_running(session, job_id, run_id)
            begun = {
                "status": "running", "input": input, "output": None, "error": None, "milliseconds": None,
                "run_id": run_id, "content_key": content_key, "cached": False,
                "started_at": now, "finished_at": None,
            }  # fmt: skip
            put_result(session, job_id, stage, begun | {"runs": ResultRow.runs + 1}, new=begun | {"runs": 1})
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
            row, state = lock_running(session, job_id, run_id)
            write()
            if not cached and (row.alone_deaths or row.idle_deaths):
                set_columns(row, now, **NO_DEATHS)
            done = {
                "status": "completed", "output": output, "error": None, "milliseconds": milliseconds,
                "run_id": run_id, "content_key": content_key, "cached": cached, "finished_at": now,
            }  # fmt: skip
            mine = and_(ResultRow.status == "running", ResultRow.run_id == run_id)
            runs = case((mine, ResultRow.runs - 1), else_=ResultRow.runs) if cached else ResultRow.runs
            new: dict[str, Any] = {"input": {}, "runs": 0 if cached else 1, "started_at": now}
            put_result(session, job_id, stage, done | {"runs": runs}, new=done | new)
            end_attempts(session, job_id, "completed", None, stage=stage, output=output)
            state.current_stage = stage
            state.stages_completed = [one for one in STAGES if one == stage or one in state.stages_completed]
            if final_image is not None:
                state.final_image = final_image
            put_images(session, job_id, images)

    def attempts(self, job_id: str) -> list[Attempt]:
        """Every attempt of a job at every stage that did real work or failed before it could, oldest first.

        Raises:
            UnknownJobError: there is no such job.
        """
        with self._database.reader() as session:
            get_job(session, job_id)
            rows = session.scalars(select(AttemptRow).where(AttemptRow.job_id == job_id).order_by(AttemptRow.id))
            return [Attempt(**{name: getattr(row, name) for name in Attempt.__slots__}) for row in rows]

    def stage_results_of(self, job_ids: Collection[str]) -> dict[str, dict[str, StageResult]]:
        """The newest attempt at every stage that each of the jobs got to: by job id, then by stage."""
        found: dict[str, dict[str, StageResult]] = {job_id: {} for job_id in job_ids}
        with self._database.reader() as session:
            for some in chunks(found):
                for row in session.scalars(select(ResultRow).where(ResultRow.job_id.in_(some))):
                    found[row.job_id][row.stage] = to_result(row)
        return found

    def stage_result(self, job_id: str, stage: str) -> StageResult | None:
        """The newest attempt of a job at a stage; None when it never got there."""
        with self._database.reader() as session:
            row = session.get(ResultRow, (job_id, stage))
            return None if row is None else to_result(row)

    def stage_results(self, job_id: str) -> list[StageResult]:
        """The newest attempt at every stage that the job got to, in the order of the stages."""
        with self._database.reader() as session:
            rows = session.scalars(select(ResultRow).where(ResultRow.job_id == job_id)).all()
        return sorted(map(to_result, rows), key=lambda result: STAGES.index(result.stage))

    def cut_stages(self, since: datetime | None) -> list[tuple[str, str]]:
        """(job, stage) of the stages that count as running, of jobs that do not and changed since; None: of all."""
        jobs = select(JobRow.id).where(JobRow.status != "running")
        if since is not None:
            jobs = jobs.where(JobRow.updated_at >= since)
        cut = set[tuple[str, str]]()
        with self._database.reader() as session:
            for some in chunks(session.scalars(jobs)):
                for table, status in ((ResultRow, ResultRow.status), (AttemptRow, AttemptRow.verdict)):
                    query = select(table.job_id, table.stage).where(table.job_id.in_(some), status == "running")
                    cut.update(session.execute(query).tuples())
        return sorted(cut)

    def end_cut_stages(self, job_ids: Collection[str], *, reason: str) -> None:
        """End the running stages of those of the jobs that do not run."""
        with self._database.session() as session:
            for row, _ in lock(session, JobRow.id.in_(set(job_ids)), JobRow.status != "running"):
                end_stages(session, row.id, "cancelled", None, reason)
                end_attempts(session, row.id, "cancelled", reason)
                log(session, [row.id], reason, level="warning")

    def stages_completed(self, ids: Collection[str]) -> dict[str, list[str]]:
        """The completed stages of each of the jobs; an id without a job is left out."""
        found: dict[str, list[str]] = {}
        with self._database.reader() as session:
            for some in chunks(ids):
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
        over = and_(JobRow.status.in_(FINAL), JobRow.removing_at.is_(None))
        return self._images(since, not_(func.coalesce(is_final, false())), over)

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
            return [(job_id, to_image(row)) for job_id, row in session.execute(query).tuples()]

    def forget_images(self, paths: Collection[str]) -> None:
        """Remove the records of images; no file is touched."""
        with self._database.session() as session:
            for some in chunks(paths):
                session.execute(delete(ImageMetadataRow).where(ImageMetadataRow.path.in_(some)))

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
            log(session, [job_id], message, level=level, run_id=run_id, stage=stage, data=data)

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
            return [to_image(row) for row in session.scalars(query)]

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
            get_job(session, job_id)
            make = postgresql.insert if self._database.dialect == "postgresql" else sqlite.insert
            session.execute(
                make(IdeationRow)
                .values(job_id=job_id, iteration=iteration, **candidate)
                .on_conflict_do_update(index_elements=["job_id", "iteration"], set_=candidate)
            )

"""Removing jobs from the database, and what must be asked about others before their files go."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import Text, cast, delete, or_, select
from sqlalchemy.orm import Session

from jobs.model.job import Job, JobBusyError
from jobs.model.transitions import FINAL
from jobs.queue.job_rows import get_job, to_job
from jobs.queue.rows import QueueAccess, lock, log, set_columns, set_status
from resources.database import JobRow, LogRow, StateRow, overwrite_deleted, utc_now


class JobRemoval(QueueAccess):
    """Removes jobs; what is removed with them outside of the database is `jobs.runs.retention`'s."""

    @contextmanager
    def lock_ended(self, ids: Collection[str]) -> Iterator[list[str]]:
        """Those of the jobs that are over; nobody can start or retry them until the block ends. Keep it short."""
        with self._database.session() as session:
            yield [row.id for row, _ in lock(session, JobRow.id.in_(set(ids))) if row.status in FINAL]

    def begin_removal(self, job_id: str) -> Job:
        """Put a job that has ended away, so that nothing starts it while its files go; a crash leaves it marked.

        Raises:
            UnknownJobError: there is no such job.
            JobBusyError: it has not ended.
        """
        self._look(_lock_to_remove, job_id)
        with self._database.session() as session:
            row, state = _lock_to_remove(session, job_id)
            now = utc_now()
            if row.status != "archived":
                set_status(row, now, "archived", by="person")
            set_columns(row, now, removing_at=now)
            return to_job(row, state)

    def cut_removals(self, before: datetime) -> list[str]:
        """The jobs whose removal began before then, and has not ended."""
        with self._database.reader() as session:
            return list(session.scalars(select(JobRow.id).where(JobRow.removing_at < before).order_by(JobRow.id)))

    def shared_runs(self, job_id: str, run_ids: Collection[str]) -> set[str]:
        """Those of the runs that other jobs had too."""
        others = select(StateRow.job_id).where(StateRow.job_id != job_id)
        with self._database.reader() as session:
            named = {run: others.where(cast(StateRow.run_ids, Text).contains(run)).limit(1) for run in run_ids}
            return {run_id for run_id, query in named.items() if session.scalar(query) is not None}

    def photo_users(self, job_id: str, photo: str) -> list[str]:
        """The other jobs that have an imported photo, mask or reference face, by its name in the store; at most 5."""
        columns = (JobRow.source, JobRow.user_mask, JobRow.request)
        named = or_(*(cast(column, Text).contains(photo, autoescape=True) for column in columns))
        with self._database.reader() as session:
            return list(session.scalars(select(JobRow.id).where(JobRow.id != job_id, named).limit(5)))

    @contextmanager
    def removing(self, job_id: str) -> Iterator[None]:
        """Remove a job that has ended, with all its records and its lines of the log, when the block ends well.

        Nobody can start or retry the job inside the block. Keep it short.

        Raises:
            UnknownJobError: there is no such job.
            JobBusyError: it has not ended.
        """
        self._look(_lock_to_remove, job_id)
        with self._database.session() as session:
            row, _ = _lock_to_remove(session, job_id)
            yield
            overwrite_deleted(session.connection())
            session.delete(row)
            session.execute(delete(LogRow).where(LogRow.job_id == job_id))
            log(session, [None], f"{job_id} was removed by a person")  # of no job: the id may be used again
        self._database.checkpoint()


def _lock_to_remove(session: Session, job_id: str) -> tuple[JobRow, StateRow]:
    job = get_job(session, job_id)
    rows = lock(session, JobRow.id == job_id, JobRow.status.in_(FINAL))
    if not rows:
        raise JobBusyError(f"Job {job_id} is {job.status}, so it cannot be removed.", "`fc cancel` it first, or wait.")
    return rows[0]

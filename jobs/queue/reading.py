"""Jobs read from the queue; nothing here changes one."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Final, cast

from sqlalchemy import ColumnElement, func, or_, select

from imaging.errors import RejectedError
from jobs.model.job import Job
from jobs.model.job_types import JobType
from jobs.model.transitions import FINAL, JOB_STATUSES, JobStatus
from jobs.queue import families
from jobs.queue.job_rows import get_job, select_jobs
from jobs.queue.rows import CLAIM_ORDER, QueueAccess, chunks
from resources.database import JobRow

_LEAST_OF_AN_ID: Final = 4  # characters that stand for a whole id, where only one begins or ends with them
_MOST_CANDIDATES: Final = 10


class JobReader(QueueAccess):
    """Reads jobs: one, many, by status, and what the daemon asks about runs and batches."""

    def get(self, job_id: str) -> Job:
        """Read one job.

        Raises:
            UnknownJobError: there is none with this id.
        """
        with self._database.reader() as session:
            return get_job(session, job_id)

    def resolve(self, text: str) -> str:
        """The id of the job that a person means by it: the whole id, or its beginning or end, of 4 characters or more.

        Raises:
            UnknownJobError: there is none.
            RejectedError: there are several; names them.
        """
        part = or_(JobRow.id.startswith(text, autoescape=True), JobRow.id.endswith(text, autoescape=True))
        newest = (JobRow.created_at.desc(), JobRow.id.desc())
        with self._database.reader() as session:
            if len(text) < _LEAST_OF_AN_ID or session.scalar(select(JobRow.id).where(JobRow.id == text)):
                return get_job(session, text).id
            found = list(session.scalars(select(JobRow.id).where(part).order_by(*newest).limit(_MOST_CANDIDATES + 1)))
            if len(found) > 1:
                more = " and more" if len(found) > _MOST_CANDIDATES else ""
                raise RejectedError(
                    f"JOB: {text} is a part of several ids: {', '.join(found[:_MOST_CANDIDATES])}{more}.",
                    "Give more of it.",
                )
            return found[0] if found else get_job(session, text).id

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
        least_stars: int | None = None,
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
        if least_stars is not None:
            wanted.append(JobRow.stars >= least_stars)
        order = (JobRow.created_at, JobRow.id)
        with self._database.reader() as session:
            return select_jobs(
                session,
                *wanted,
                order=[column.desc() for column in order] if newest_first else order,
                limit=limit,
            )

    def inside(self, group_id: str) -> set[str]:
        """The jobs of a group, and those of the groups in it.

        Raises:
            UnknownJobError: there is no such job.
            RejectedError: it is no group.
        """
        with self._database.reader() as session:
            job = get_job(session, group_id)
            if job.job_type != "group":
                raise RejectedError(f"Job {group_id} is no group.", "Name the job itself, or the group it is in.")
            return families.descendants(session, [group_id])

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

    def counts(self) -> dict[JobStatus, int]:
        """How many jobs are in each status; every status is there."""
        with self._database.reader() as session:
            found = dict(session.execute(select(JobRow.status, func.count()).group_by(JobRow.status)).tuples().all())
        return {status: found.get(status, 0) for status in JOB_STATUSES}

    def unbatched(self) -> list[Job]:
        """The claimed jobs that are in no batch yet, in claim order."""
        with self._database.reader() as session:
            return select_jobs(session, JobRow.status == "claimed", JobRow.batch_id.is_(None), order=CLAIM_ORDER)

    def open_batches(self) -> dict[str, list[Job]]:
        """The claimed jobs of each batch, in claim order."""
        with self._database.reader() as session:
            jobs = select_jobs(session, JobRow.status == "claimed", JobRow.batch_id.is_not(None), order=CLAIM_ORDER)
        batches: dict[str, list[Job]] = {}
        for job in jobs:
            batches.setdefault(cast("str", job.batch_id), []).append(job)
        return batches

    def running_runs(self) -> dict[str, list[str]]:
        """Which jobs each run is running, oldest first."""
        runs: dict[str, list[str]] = {}
        with self._database.reader() as session:
            rows = session.execute(
                select(JobRow.run_id, JobRow.id).where(JobRow.status == "running").order_by(*CLAIM_ORDER)
            )
            for run_id, job_id in rows:
                runs.setdefault(cast("str", run_id), []).append(job_id)
        return runs

    def ping(self) -> None:
        """Ask the database for an answer.

        Raises:
            SettingsError: it does not answer; says why.
        """
        self._database.ping()

"""From a new job to its batch, and what becomes of jobs when a run is over or a job that they wait for is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import timedelta

from sqlalchemy import and_, insert, or_, select
from sqlalchemy.exc import IntegrityError

from jobs.model.job import Job, JobIdTakenError, NewJob
from jobs.model.transitions import JobStatus
from jobs.queue import families
from jobs.queue.deaths import Outcome, RunEnd, carried_one, settle
from jobs.queue.job_rows import fresh_job, job_columns, select_jobs
from jobs.queue.pausing import is_paused
from jobs.queue.reading import JobReader
from jobs.queue.rows import CLAIM_ORDER, can_become, lock, log, set_columns, set_status
from jobs.queue.stage_rows import stages_in_hand
from resources.database import JobRow, StateRow, utc_now


class JobClaims(JobReader):
    """Adds jobs, and does what the sensor does: claims them, puts them into batches, settles runs that are over."""

    def add(self, new: Sequence[NewJob]) -> list[Job]:
        """Add jobs, all or none, in the order given: `held` or `waiting` where asked for, `pending` otherwise.

        Raises:
            JobIdTakenError: a `job_id` is taken or given twice; nothing was added.
            RejectedError: a job that is named is unknown, no group, or waits for
                the one that names it; nothing was added.
        """
        if not new:
            return []
        ids = [one.job_id for one in new]
        twice = [job_id for job_id, times in Counter(ids).items() if times > 1]
        if twice:
            raise JobIdTakenError(twice)
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
                raise JobIdTakenError(sorted(known)) from None
            raise
        return jobs

    def claim(self, limit: int) -> list[Job]:
        """Take up to `limit` pending jobs whose time has come: most urgent first, then oldest; none in a pause."""
        if limit < 1:
            return []
        now = utc_now()
        with self._database.session() as session:
            if is_paused(session):
                return []
            rows = session.scalars(
                select(JobRow)
                .where(can_become("claimed", by="sensor"), or_(JobRow.not_before.is_(None), JobRow.not_before <= now))
                .order_by(*CLAIM_ORDER)
                .limit(limit)
                .with_for_update(skip_locked=True)
            ).all()
            for row in rows:
                set_status(row, now, "claimed", by="sensor", claimed_at=now, batch_id=None)
            ids = [row.id for row in rows]
            log(session, ids, "claimed")
            session.flush()
            return select_jobs(session, JobRow.id.in_(ids), order=CLAIM_ORDER)

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

    def give_back(self, job_ids: Collection[str], *, reason: str) -> list[str]:
        """Put claimed jobs back into the queue, as if they had not been claimed; returns those that were."""
        with self._database.session() as session:
            rows = lock(session, JobRow.id.in_(set(job_ids)), JobRow.status == "claimed")
            for row, _ in rows:
                set_status(row, utc_now(), "pending", by="sensor", batch_id=None)
            ids = [row.id for row, _ in rows]
            log(session, ids, reason)
            return ids

    def settle_run(
        self,
        run_id: str,
        *,
        batch_id: str | None,
        outcome: Outcome,
        error: str,
        max_attempts: int,
    ) -> dict[str, JobStatus]:
        """Decide about the jobs that an ended run left behind; safe to repeat. See `jobs.queue.deaths`.

        Those it was running: cancelled with it; completed if every stage of their plan is; held for a person after a
        success. Those of its batch that it never started: cancelled with it. What is left is pending again, alone if it
        was in hand, or has failed at its limit.

        Returns:
            The new status of each job that was changed.
        """
        mine = and_(JobRow.status == "running", JobRow.run_id == run_id)
        if batch_id is not None:
            mine = or_(mine, and_(JobRow.status == "claimed", JobRow.batch_id == batch_id))
        with self._database.session() as session:
            found = lock(session, mine)
            in_hand = stages_in_hand(session, [row.id for row, _ in found])
            alone = bool(in_hand) and carried_one(session, run_id, batch_id)
            end = RunEnd(run_id, outcome, error, max_attempts, in_hand, alone, utc_now())
            return {row.id: settle(session, row, state, end) for row, state in found}

    def settle_waiting(self) -> dict[str, JobStatus]:
        """Let waiting jobs go on, or end, for which that is decided: see `jobs.queue.families.settle_waiting`."""
        return families.settle_waiting(self._database)

"""The queue: every change of a job's status, each in one short transaction that states what it changes from.

Every method that changes jobs first locks exactly the rows whose state allows the change, in id order
(Postgres: `SELECT ... FOR UPDATE`; SQLite: the one write lock), so two processes can never both make it. Each
change of a status leaves a row in `controller_log`.
"""

from __future__ import annotations

from jobs.queue.claiming import JobClaims
from jobs.queue.manual import ManualChanges
from jobs.queue.pausing import QueuePause
from jobs.queue.removal import JobRemoval
from jobs.queue.running import JobRuns
from jobs.queue.stage_records import StageRecords


class JobQueue(JobClaims, JobRuns, ManualChanges, QueuePause, JobRemoval, StageRecords):
    """The queue and the records over one database. Cheap to make; safe to share between threads."""

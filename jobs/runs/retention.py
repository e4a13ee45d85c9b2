"""Retention: finished jobs leave the partition set, so that the Dagster UI stays quick; and how a job goes for good.

Of a job that only loses its partition, rows, images and
Dagster's materialization events stay; one that is retried gets it back when it is claimed. The log lines of old runs
are another matter: `resources.dagster_events`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import dagster as dg

from jobs.model.job import JobBusyError
from jobs.model.stages import PARTITIONS
from jobs.queue.job_queue import JobQueue
from jobs.runs.lifecycle import OUTCOMES, PARTITION_TAG, RANGE_END_TAG, RANGE_START_TAG
from resources.artifacts.records import JOB_FOLDERS
from resources.database import utc_now
from resources.store.image_store import ImageStore

_UNFINISHED: Final = [status for status in dg.DagsterRunStatus if status not in OUTCOMES]
_AT_ONCE: Final = 20  # partitions removed while the queue is locked, which on SQLite keeps all other writers waiting


def expired(instance: dg.DagsterInstance, queue: JobQueue, *, days: int, jobs: int) -> list[str]:
    """The jobs whose partitions may go, those that ended first before the others.

    They are over, no unfinished run has their partition, and they ended more than `days` days ago or are not among
    the newest `jobs` finished jobs that have a partition. A partition that is no job's is left to whoever added it.
    """
    keys = instance.get_dynamic_partitions(PARTITIONS)
    ended = sorted(((moment, job_id) for job_id, moment in queue.ended(keys).items()), reverse=True)
    oldest = utc_now() - timedelta(days=days)
    over = [job_id for rank, (moment, job_id) in enumerate(ended) if rank >= jobs or moment < oldest]
    used = _in_use(instance, keys)
    return [job_id for job_id in reversed(over) if job_id not in used]


def retire(instance: dg.DagsterInstance, queue: JobQueue, job_ids: Sequence[str]) -> list[str]:
    """Take the partitions of finished jobs out of the set.

    Returns:
        The jobs whose partition is gone; one that has been started or retried meanwhile keeps it.
    """
    retired: list[str] = []
    keys = instance.get_dynamic_partitions(PARTITIONS)
    for start in range(0, len(job_ids), _AT_ONCE):
        with queue.lock_ended(job_ids[start : start + _AT_ONCE]) as over:
            used = _in_use(instance, keys)  # asked now: from here on only a person can start a run of these
            for job_id in over:
                if job_id not in used:
                    instance.delete_dynamic_partition(PARTITIONS, job_id)
                    retired.append(job_id)
    return retired


def restore(instance: dg.DagsterInstance, queue: JobQueue, job_id: str) -> bool:
    """Give a job its partition back, for as long as if it had just ended; False: it has one.

    Raises:
        UnknownJobError: there is no such job.
    """
    queue.restore(job_id)  # first: with an old end, the sensor could take the partition out again at once
    if instance.has_dynamic_partition(PARTITIONS, job_id):
        return False
    instance.add_dynamic_partitions(PARTITIONS, [job_id])
    return True


def remove(instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, job_id: str) -> None:
    """Remove a job that has ended: its files, its partition, its records. Imported photos, which jobs share, stay.

    The records go last: after a crash the job is still there, to be removed again.

    Raises:
        UnknownJobError: there is no such job.
        JobBusyError: it has not ended, or a run that is not over has its partition.
        BackendError: a file cannot be removed; the job stays.
    """
    with queue.removing(job_id):
        if job_id in _in_use(instance, instance.get_dynamic_partitions(PARTITIONS)):
            raise JobBusyError(
                f"Job {job_id} cannot be removed: a Dagster run that is not over has its partition.",
                "Wait for the run, or terminate it in the Dagster UI.",
            )
        for place in store.files_of(job_id, JOB_FOLDERS):
            store.remove(*place)
        if instance.has_dynamic_partition(PARTITIONS, job_id):
            instance.delete_dynamic_partition(PARTITIONS, job_id)


def _in_use(instance: dg.DagsterInstance, keys: Sequence[str]) -> set[str]:
    """The partitions of all runs that are queued or going on. A range is read again by every step of its run."""
    used: set[str] = set()
    for run in instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED)):
        if PARTITION_TAG in run.tags:
            used.add(run.tags[PARTITION_TAG])
        if RANGE_START_TAG in run.tags:
            first_key, last_key = run.tags[RANGE_START_TAG], run.tags.get(RANGE_END_TAG)
            start = keys.index(first_key) if first_key in keys else 0
            end = keys.index(last_key) if last_key in keys else len(keys)
            used.update(keys[start : end + 1])
    return used

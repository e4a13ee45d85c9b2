"""Retention: finished jobs leave the partition set, so that the Dagster UI stays quick; and how a job goes for good.

Of a job that only loses its partition, rows, images and
Dagster's materialization events stay; one that is retried gets it back when it is claimed. The log lines of old runs
are another matter: `resources.dagster_events`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import dagster as dg

from jobs.model.job import Job, JobBusyError
from jobs.model.stages import PARTITIONS
from jobs.queue.job_queue import JobQueue
from jobs.runs.lifecycle import OUTCOMES, PARTITION_TAG, RANGE_END_TAG, RANGE_START_TAG
from resources.artifacts.records import ARTIFACTS, JOB_FOLDERS
from resources.dagster_events import forget_partition
from resources.database import utc_now
from resources.store.image_store import SOURCES, ImageStore

_UNFINISHED: Final = [status for status in dg.DagsterRunStatus if status not in OUTCOMES]
_PHOTO: Final = re.compile(rb"[0-9a-f]{64}\.[a-z]{3,4}(?![a-z0-9])")  # a name in `sources`
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


@dataclass(frozen=True, slots=True)
class Belongings:
    """What goes with a job.

    Attributes:
        files: what its stages stored, with what was replaced.
        photos: the names in `sources` of its photo, mask and reference face, of now and of before its retries.
        users: by photo, the other jobs that have it, so that it stays.
    """

    files: list[tuple[str, ...]]
    photos: list[str]
    users: dict[str, list[str]]

    @property
    def own_photos(self) -> list[str]:
        """The photos that no other job has."""
        return [photo for photo in self.photos if not self.users[photo]]


def belongings(queue: JobQueue, store: ImageStore, job: Job) -> Belongings:
    """Find what goes with a job."""
    files = store.files_of(job.id, JOB_FOLDERS)
    told = [json.dumps([job.source, job.user_mask, job.request.reference_face]).encode()]
    told += [store.read(*place) for place in files if _tells_of_photos(place)]
    names = sorted({name.decode() for text in told for name in _PHOTO.findall(text)})
    photos = [name for name in names if store.exists(SOURCES, name)]
    return Belongings(files, photos, {photo: queue.photo_users(job.id, photo) for photo in photos})


def _tells_of_photos(place: tuple[str, ...]) -> bool:
    return ARTIFACTS["job_request"].folders[0] in place


def remove(instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, job_id: str) -> None:
    """Remove a job that has ended: files, photos that no other job has, what Dagster keeps of it, its records.

    It is put away first, so that nothing starts it, and its records go last: after a crash, at any place, the job is
    still there, to be removed again, and `fc doctor` names it.

    Raises:
        UnknownJobError: there is no such job.
        JobBusyError: it has not ended, or a run that is not over has its partition.
        BackendError: a file cannot be removed, or Dagster's storage is unknown; the job stays, archived.
    """
    if job_id in _in_use(instance, instance.get_dynamic_partitions(PARTITIONS)):
        raise JobBusyError(
            f"Job {job_id} cannot be removed: a Dagster run that is not over has its partition.",
            "Wait for the run, or terminate it in the Dagster UI.",
        )
    job = queue.begin_removal(job_id)
    own = belongings(queue, store, job)
    for place in own.files:
        if not _tells_of_photos(place):
            store.remove(*place)
    runs = {*job.run_ids, *(attempt.run_id for attempt in queue.attempts(job_id) if attempt.run_id)}
    forget_partition(instance, job_id, runs=runs, shared=queue.shared_runs(job_id, runs))
    if instance.has_dynamic_partition(PARTITIONS, job_id):
        instance.delete_dynamic_partition(PARTITIONS, job_id)
    with queue.removing(job_id):
        for photo in own.photos:
            if not queue.photo_users(job_id, photo):  # asked now, as jobs may have come
                store.remove(SOURCES, photo)
        for place in filter(_tells_of_photos, own.files):  # last: they name photos of before a retry
            store.remove(*place)


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

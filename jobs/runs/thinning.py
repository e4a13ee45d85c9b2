"""Thinning: of completed jobs the pictures to deliver stay, and those of the steps on the way go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from jobs.model.job_types import JOB_TYPES
from jobs.queue.job_queue import JobQueue
from resources.artifacts.artifact import JsonCodec
from resources.artifacts.records import ARTIFACTS
from resources.database import utc_now
from resources.store.image_store import HISTORY, ImageStore

_AT_ONCE: Final = 20  # jobs whose files go while the queue is locked, which on SQLite keeps all other writers waiting

_PICTURES: Final = sorted(
    folder
    for artifact in ARTIFACTS.values()
    if artifact.beside or not isinstance(artifact.codec, JsonCodec)
    for folder in artifact.folders
)
"""Where pictures lie, with the records that are of no use without them."""


@dataclass(frozen=True, slots=True)
class Thinned:
    """Files of steps on the way that were, or would be, removed: of how many jobs, how many, and how many bytes."""

    jobs: int = 0
    files: int = 0
    bytes: int = 0


def thin(queue: JobQueue, store: ImageStore, *, days: int, dry_run: bool = False) -> Thinned:
    """Remove the pictures of completed jobs but those to deliver, of jobs that ended more than `days` days ago.

    Requests, prompts and descriptions stay, so a retry makes the pictures again where it needs them. A file that has
    another name too, such as the final image's, gives no bytes back. A crash leaves records of pictures that are gone;
    `fc doctor --fix` removes them.

    Raises:
        BackendError: a file cannot be removed, or the store cannot be reached.
    """
    old = utc_now() - timedelta(days=days)
    delivered = {
        job.id: ARTIFACTS[stage].folder
        for job in queue.find(statuses=["completed"])
        if (stage := JOB_TYPES[job.job_type].delivers) and (job.finished_at or job.updated_at) < old
    }
    places: dict[str, list[tuple[str, ...]]] = {}
    for folder in [(one,) for one in _PICTURES] + [(HISTORY, one) for one in _PICTURES]:
        for name in store.names(*folder):
            job_id = name.partition(".")[0]
            if folder[-1] != delivered.get(job_id, folder[-1]):
                places.setdefault(job_id, []).append((*folder, name))
    ids = sorted(places)
    if dry_run:
        return _counted(store, [places[job_id] for job_id in ids])
    done = Thinned()
    for start in range(0, len(ids), _AT_ONCE):
        with queue.lock_ended(ids[start : start + _AT_ONCE]) as over:
            counted = _counted(store, [places[job_id] for job_id in over])
            files = [place for job_id in over for place in places[job_id]]
            for place in files:
                store.remove(*place)
        queue.forget_images([str(store.path(*place)) for place in files])
        done = Thinned(done.jobs + counted.jobs, done.files + counted.files, done.bytes + counted.bytes)
    return done


def _counted(store: ImageStore, jobs: Sequence[Sequence[tuple[str, ...]]]) -> Thinned:
    """How much the files of these jobs are."""
    files = [place for job in jobs for place in job]
    return Thinned(len(jobs), len(files), sum(store.bytes_of(*place) for place in files))

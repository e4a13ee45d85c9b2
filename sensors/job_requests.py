"""The sensor `job_requests`: pending jobs become partitions and runs.

What a tick does. A crash between any two steps loses nothing and runs nothing twice, because the next tick starts from
what the database says:

    1. inbox        files become pending jobs               a job's id follows from its file, so it is added once
    2. schedules    those that are due become pending jobs  a job's id follows from schedule and time
    3. lost runs    runs without a process have failed,
                    jobs of runs that are over are settled  guarded by the run's id
    4. waiting      those that need not wait go on or end   one transaction, looked at anew by every tick
    5. claim        pending -> claimed                      one transaction
    6. partitions   the claimed jobs' keys are added        adding twice adds once
    7. batches      claimed jobs get a batch id             one transaction a batch, all or nothing
    8. runs         one per batch that has not started      run_key = batch id, so Dagster runs it once

A claimed job that is in no batch (a crash after 5) is put into one by the next tick; a batch without a run (a crash
after 7) is asked for again by the next tick. A run starts a job only if the job still belongs to the run's batch.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

import dagster as dg

from imaging.errors import FaceChangerError, SettingsError
from jobs.model.job import Job
from jobs.model.job_types import JOB_TYPES
from jobs.model.stages import GPU_STAGES, PARTITIONS, needs_gpu
from jobs.queue.job_queue import JobQueue
from jobs.requests.inbox import take_inbox
from jobs.requests.schedules import make_due_jobs
from jobs.runs.lifecycle import BATCH_TAG, RANGE_END_TAG, RANGE_START_TAG, fail_dead_runs, settle_lost_runs
from jobs.runs.pipelines import PIPELINES
from resources.choose import face_generator_place, generator_place
from resources.connections import DatabaseResource, StoreResource
from resources.settings import Settings, load_settings
from resources.store.image_store import ImageStore
from sensors.inbox_thread import look_beside

MOST_CLAIMED_BATCHES = 4  # more waits in the queue, where priority still counts
LEAST_SHARED = 16  # jobs; a run takes 3 to 5 seconds to start, so for fewer a second one is not worth it
INTERVAL_SECONDS = 4  # less than the 5 s of the daemon's rounds: one that comes a little early skips no tick

MAX_RUNTIME_TAG = "dagster/max_runtime"
QUEUE_TAG = "dagster-celery/queue"  # which workers may take the run; other launchers take no notice of it


@dg.sensor(
    jobs=PIPELINES,
    description="Makes runs of pending jobs, most urgent first; takes the inbox in, and settles runs that died.",
    minimum_interval_seconds=INTERVAL_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def job_requests(
    context: dg.SensorEvaluationContext, database: DatabaseResource, store: StoreResource
) -> dg.SensorResult | dg.SkipReason:
    """Claims pending jobs in order of priority and age, and asks for runs that carry up to FC_BATCH_SIZE of them."""
    settings = load_settings()
    queue = JobQueue(database.get())
    if settings.inbox is not None:
        _look_into_inbox(context, settings.inbox, queue, store.get(), settings)
    for schedule_id, error in make_due_jobs(database.get(), store.get(), settings).items():
        context.log.error(f"Schedule {schedule_id}: {error}")
    for run_id in fail_dead_runs(context.instance):
        context.log.warning(f"The process of run {run_id} is gone; the run has failed.")
    for job_id, status in settle_lost_runs(context.instance, queue, settings).items():
        context.log.warning(f"{job_id}: its run is over; the job is {status} now.")
    for job_id, status in queue.settle_waiting().items():
        context.log.info(f"{job_id}: need not wait any longer; the job is {status} now.")

    room = MOST_CLAIMED_BATCHES - len(queue.open_batches())
    if room > 0:
        queue.claim(room * settings.batch_size)
    form_batches(context.instance, queue, settings.batch_size)
    on_gpu = gpu_stages(settings)
    requests = [
        run_request(batch_id, jobs, settings.stage_timeout, on_gpu) for batch_id, jobs in queue.open_batches().items()
    ]
    if not requests:
        return dg.SkipReason("The queue is paused." if queue.paused() else "No job is pending.")
    return dg.SensorResult(run_requests=requests)


def _look_into_inbox(
    context: dg.SensorEvaluationContext, inbox: Path, queue: JobQueue, store: ImageStore, settings: Settings
) -> None:
    """Take what lies in the inbox. One that cannot be used is an error in every tick's log, and stops no other job."""
    try:
        taken = look_beside(inbox, lambda: take_inbox(inbox, queue=queue, store=store, settings=settings))
    except FaceChangerError as error:
        context.log.error(str(error))  # noqa: TRY400 - the message says it all
        return
    if taken is None:
        context.log.info(f"Inbox: a look into {inbox} is still going on; the tick does not wait for it.")
        return
    for name, reason in taken.rejected.items():
        context.log.warning(f"Inbox: {name} was rejected: {reason}")


def form_batches(instance: dg.DagsterInstance, queue: JobQueue, batch_size: int) -> list[str]:
    """Give every claimed job a partition and a batch; the new batches' ids.

    The jobs of one batch have the same type and the same next stage, and their partitions follow one another in claim
    order: a run's range is told by the first and the last. What one batch could hold is shared out to as many as run
    at once.
    """
    claimed = queue.unbatched()
    if not claimed:
        return []
    at_once = runs_at_once(instance)
    # Jobs of one kind are added side by side, so that they can share a run; between kinds the queue's order stays.
    groups: dict[tuple[str, str | None], list[Job]] = {}
    for job in claimed:
        groups.setdefault((job.job_type, job.next_stage), []).append(job)
    instance.add_dynamic_partitions(PARTITIONS, [job.id for group in groups.values() for job in group])
    place = {key: index for index, key in enumerate(instance.get_dynamic_partitions(PARTITIONS))}
    batches = []
    for group in groups.values():
        share = max(LEAST_SHARED, math.ceil(len(group) / at_once))
        for jobs in contiguous(group, place, min(batch_size, share)):
            batch_id = uuid.uuid4().hex
            if queue.assign_batch(batch_id, [job.id for job in jobs]):
                batches.append(batch_id)
    return batches


def runs_at_once(instance: dg.DagsterInstance) -> int:
    """`max_concurrent_runs` of the instance; 1 where runs are not queued or not limited."""
    queue = instance.get_concurrency_config().run_queue_config
    return max(1, queue.max_concurrent_runs) if queue else 1


def contiguous(jobs: Sequence[Job], place: Mapping[str, int], most: int) -> Iterator[list[Job]]:
    """Runs of jobs whose partitions follow one another, at most `most` each; a job that must run alone is alone.

    Args:
        jobs: the jobs; each run keeps their order.
        place: where each job's partition stands in the set.
        most: the largest number of jobs together, at least 1.
    """
    for job in jobs:
        if job.solo:
            yield [job]
    others = [job for job in jobs if not job.solo]
    for _, chain in groupby(enumerate(others), key=lambda pair: place[pair[1].id] - pair[0]):
        together = [job for _, job in chain]
        for start in range(0, len(together), most):
            yield together[start : start + most]


def gpu_stages(settings: Settings) -> tuple[str, ...]:
    """The stages whose generator needs a GPU. All that generate, if that cannot be told: the run says what is wrong."""
    try:
        places = {"generated_image": generator_place(settings), "changed_face": face_generator_place(settings)}
    except SettingsError:
        return GPU_STAGES
    return tuple(stage for stage, place in places.items() if place == "gpu")


def run_request(
    batch_id: str, jobs: Sequence[Job], stage_timeout: float, on_gpu: Iterable[str] = GPU_STAGES
) -> dg.RunRequest:
    """The run that carries one batch, from its jobs' next stage on; the jobs in the order of their partitions.

    `on_gpu` names the stages whose generator needs a GPU.
    """
    first = jobs[0]
    plan = JOB_TYPES[first.job_type].stages
    stages = plan[plan.index(first.next_stage or plan[-1]) :]
    tags = {
        BATCH_TAG: batch_id,
        MAX_RUNTIME_TAG: str(round(stage_timeout * len(stages) * len(jobs))),
        QUEUE_TAG: "gpu" if needs_gpu(first.job_type, stages, on_gpu) else "cpu",
    }
    if len(jobs) > 1:
        tags |= {RANGE_START_TAG: first.id, RANGE_END_TAG: jobs[-1].id}
    return dg.RunRequest(
        run_key=batch_id,
        job_name=first.job_type,
        partition_key=first.id if len(jobs) == 1 else None,
        asset_selection=[dg.AssetKey(stage) for stage in stages],
        tags=tags,
    )

"""The sensor `retention`: what is old leaves Dagster's storage, a bit in every tick; a schedule by its interval."""

from __future__ import annotations

import dagster as dg

from jobs.queue.job_queue import JobQueue
from jobs.runs.retention import expired, retire
from resources.connections import DatabaseResource
from resources.dagster_events import prune_events
from resources.settings import load_settings

INTERVAL_SECONDS = 60
MOST_IN_A_TICK = 200  # with Dagster's storage on SQLite, each takes 2 to 25 ms
MOST_RUNS_IN_A_TICK = 50


@dg.sensor(
    description="Takes finished jobs out of the partition set, and log lines of old runs out of the event log.",
    minimum_interval_seconds=INTERVAL_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def retention(context: dg.SensorEvaluationContext, database: DatabaseResource) -> dg.SkipReason:
    """Removes partitions of jobs and log lines of runs that ended long ago.

    Beyond FC_KEEP_DAYS or FC_KEEP_JOBS a finished job leaves the partition set; beyond FC_KEEP_LOG_DAYS a run loses its
    log lines. Records, images and materializations stay.
    """
    settings = load_settings()
    queue = JobQueue(database.get())
    over = expired(context.instance, queue, days=settings.keep_days, jobs=settings.keep_jobs)
    told = "No finished job is beyond FC_KEEP_DAYS or FC_KEEP_JOBS."
    if over:
        retired = retire(context.instance, queue, over[:MOST_IN_A_TICK])
        told = f"Removed {len(retired)} of {len(over)} partitions of finished jobs; no run is asked for."
    pruned = prune_events(context.instance, days=settings.keep_log_days, most_runs=MOST_RUNS_IN_A_TICK)
    if pruned.events:
        told += f" Removed {pruned.events} log lines of {pruned.runs} old runs."
    return dg.SkipReason(told)

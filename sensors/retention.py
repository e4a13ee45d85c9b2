"""The sensor `retention`: finished jobs beyond FC_KEEP_DAYS or FC_KEEP_JOBS leave the partition set.

Belongs here: how much is done in one tick. Does not: which jobs, and how (`jobs.retention`).
"""

from __future__ import annotations

import dagster as dg

from jobs.queue import JobQueue
from jobs.retention import expired, retire
from resources.connections import DatabaseResource
from resources.settings import load_settings

INTERVAL_SECONDS = 60
MOST_IN_A_TICK = 200  # with Dagster's storage on SQLite, each takes 2 to 25 ms


@dg.sensor(minimum_interval_seconds=INTERVAL_SECONDS, default_status=dg.DefaultSensorStatus.RUNNING)
def retention(context: dg.SensorEvaluationContext, database: DatabaseResource) -> dg.SkipReason:
    """Removes the partitions of jobs that ended long ago. Their records, images and materializations stay."""
    settings = load_settings()
    queue = JobQueue(database.get())
    over = expired(context.instance, queue, days=settings.keep_days, jobs=settings.keep_jobs)
    if not over:
        return dg.SkipReason("No finished job is beyond FC_KEEP_DAYS or FC_KEEP_JOBS.")
    retired = retire(context.instance, queue, over[:MOST_IN_A_TICK])
    return dg.SkipReason(f"Removed {len(retired)} of {len(over)} partitions of finished jobs; no run is asked for.")

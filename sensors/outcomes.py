"""The outcome sensors: how a run ended, brought back to the queue.

The stages themselves record nearly everything; what is left is a run that ended without them: a crashed worker, a
cancelled run, a run that never started.
"""

from __future__ import annotations

import dagster as dg

from jobs.queue.job_queue import JobQueue
from jobs.runs.lifecycle import settle_run, was_interrupted, why_failed
from resources.connections import DatabaseResource
from resources.settings import load_settings
from sensors.job_requests import INTERVAL_SECONDS


def _outcome_sensor(name: str, status: dg.DagsterRunStatus, description: str) -> dg.SensorDefinition:
    @dg.run_status_sensor(
        run_status=status,
        name=name,
        description=description,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sensor(context: dg.RunStatusSensorContext, database: DatabaseResource) -> None:
        changed = settle_run(
            JobQueue(database.get()),
            context.dagster_run,
            reason=why_failed(context.instance, context.dagster_run) or _reason(context),
            interrupted=was_interrupted(context.instance, context.dagster_run),
            max_attempts=load_settings().max_attempts,
        )
        for job_id, job_status in changed.items():
            context.log.info(f"{job_id}: {job_status}")

    return sensor


def _reason(context: dg.RunStatusSensorContext) -> str:
    run = context.dagster_run
    message = (context.dagster_event.message or "").strip()
    return f"The Dagster run {run.run_id} ended as {context.dagster_event.event_type_value}. {message}".strip()


OUTCOME_SENSORS = [
    _outcome_sensor("runs_succeeded", dg.DagsterRunStatus.SUCCESS, "Completes the jobs of a run that succeeded."),
    _outcome_sensor(
        "runs_failed",
        dg.DagsterRunStatus.FAILURE,
        "Returns the jobs of a run that failed to the queue, or ends them.",
    ),
    _outcome_sensor("runs_cancelled", dg.DagsterRunStatus.CANCELED, "Cancels the jobs of a run that was cancelled."),
]

"""Where a Dagster run's end meets the queue."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import dagster as dg
from dagster._core.events import JobFailureData, RunFailureReason
from dagster._core.storage.tags import GRPC_INFO_TAG

from jobs.model.job import Job
from jobs.model.transitions import JobStatus
from jobs.queue.deaths import Outcome
from jobs.queue.job_queue import JobQueue
from jobs.runs.run_process import is_dead, server_is_gone
from resources.settings import Settings

BATCH_TAG: Final = "face-changer/batch"
PARTITION_TAG: Final = "dagster/partition"
RANGE_START_TAG: Final = "dagster/asset_partition_range_start"
RANGE_END_TAG: Final = "dagster/asset_partition_range_end"
_OUTSIDE_TAG: Final = "face-changer/ended-from-outside"
_TASK_TAG: Final = "dagster-celery/task_id"  # a run that a worker has, or will have

_AT_WORK: Final = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]

OUTCOMES: Final[dict[dg.DagsterRunStatus, Outcome]] = {
    dg.DagsterRunStatus.SUCCESS: "success",
    dg.DagsterRunStatus.FAILURE: "failure",
    dg.DagsterRunStatus.CANCELED: "cancelled",
}


def settle_run(
    queue: JobQueue, run: dg.DagsterRun, *, reason: str = "", interrupted: bool = False, max_attempts: int
) -> dict[str, JobStatus]:
    """Bring the end of a run to the jobs that it left unfinished; does nothing for a run that goes on.

    Args:
        queue: where the jobs are.
        run: the run.
        reason: why it ended, for people.
        interrupted: whether a failed run was ended from outside, as `was_interrupted` tells.
        max_attempts: how often a job may be alone with its run as that dies.

    Returns:
        The new status of each job that was changed. Settling a run twice changes nothing the second time.
    """
    outcome = OUTCOMES.get(run.status)
    if outcome is None:
        return {}
    error = reason or f"The Dagster run {run.run_id} ended as {run.status.value} before this job was done."
    if outcome == "failure" and BATCH_TAG not in run.tags and PARTITION_TAG in run.tags:
        # Started by hand, and perhaps over before a stage of ours began: a batch's jobs are settled, this one is not.
        queue.note_failure(run.tags[PARTITION_TAG], run_id=run.run_id, stage=None, what=error, fault="crash")
    if outcome == "failure" and interrupted:
        outcome = "interrupted"
    return queue.settle_run(
        run.run_id, batch_id=run.tags.get(BATCH_TAG), outcome=outcome, error=error, max_attempts=max_attempts
    )


def why_failed(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """What a failed run ended with, as Dagster recorded it, without Dagster's own wrapping; empty if it is unknown."""
    for event in _failures(instance, run):
        data = _failure_data(event)
        error = data.error if data else None  # none from run monitoring
        while error is not None and error.cause is not None and str(error.cls_name).startswith("Dagster"):
            error = error.cause
        said = (event.message or "") if error is None else error.message
        return f"The Dagster run {run.run_id} failed: {' '.join(said.split())}"
    return ""


def was_interrupted(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether a failed run was ended from outside: stopped by a signal, or killed together with its code server."""
    reasons = [data.failure_reason for data in map(_failure_data, _failures(instance, run)) if data]
    return _OUTSIDE_TAG in run.tags or RunFailureReason.UNEXPECTED_TERMINATION in reasons


def _failures(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[dg.DagsterEvent]:
    """How Dagster recorded that a run failed, the newest first."""
    if run.status != dg.DagsterRunStatus.FAILURE:
        return []
    records = reversed(instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE))
    return [record.get_dagster_event() for record in records]


def _failure_data(event: dg.DagsterEvent) -> JobFailureData | None:
    return event.job_failure_data if event.event_specific_data else None


def settle_if_over(
    instance: dg.DagsterInstance, queue: JobQueue, run_id: str, settings: Settings
) -> dict[str, JobStatus]:
    """Settle a run that the queue takes for running, if it is over or lost; the new status of each changed job.

    A run that this Dagster instance does not know may belong to another one (`dagster asset materialize` without a
    DAGSTER_HOME makes its own), so it counts as lost only when none of its jobs moved for longer than a stage may take.
    """
    run = instance.get_run_by_id(run_id)
    if run is not None:
        return _settle_recorded(instance, queue, run, settings)
    if not _is_silent(queue, run_id, settings.stage_timeout):
        return {}
    return queue.settle_run(
        run_id,
        batch_id=None,
        outcome="failure",
        error=f"Dagster does not know the run {run_id} any more.",
        max_attempts=settings.max_attempts,
    )


def lost_jobs(instance: dg.DagsterInstance, queue: JobQueue, settings: Settings) -> list[str]:
    """The jobs that `settle_lost_runs` would settle now, or that it will when their dead run has failed."""
    dead = {run.run_id for run in dead_runs(instance)}
    found: list[str] = []
    for run_id, jobs in queue.running_runs().items():
        run = instance.get_run_by_id(run_id)
        over = run.is_finished if run is not None else _is_silent(queue, run_id, settings.stage_timeout)
        found += jobs if over or run_id in dead else []
    for batch_id, batch in queue.open_batches().items():
        runs = instance.get_runs(dg.RunsFilter(tags={BATCH_TAG: batch_id}))
        if any(run.is_finished or run.run_id in dead for run in runs):
            found += [job.id for job in batch]
    return found


def settle_lost_runs(instance: dg.DagsterInstance, queue: JobQueue, settings: Settings) -> dict[str, JobStatus]:
    """Settle every run that the queue waits for and that is over or lost.

    The outcome sensors hear of nearly all ends; this finds those they missed: a run whose record was deleted, a
    Dagster storage that was lost, a run by hand while no daemon was up, an outcome sensor that is switched off.
    """
    changed: dict[str, JobStatus] = {}
    for run_id in queue.running_runs():
        changed |= settle_if_over(instance, queue, run_id, settings)
    for batch_id in queue.open_batches():
        for run in instance.get_runs(dg.RunsFilter(tags={BATCH_TAG: batch_id})):
            changed |= _settle_recorded(instance, queue, run, settings)
    return changed


def _settle_recorded(
    instance: dg.DagsterInstance, queue: JobQueue, run: dg.DagsterRun, settings: Settings
) -> dict[str, JobStatus]:
    why, interrupted = why_failed(instance, run), was_interrupted(instance, run)
    return settle_run(queue, run, reason=why, interrupted=interrupted, max_attempts=settings.max_attempts)


def fail_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Tell Dagster of runs whose process is gone that they have failed; their ids.

    Dagster's default launcher leaves it to the code server that started the process. When that was killed too, or its
    watching thread met a database that was down, such a run would stay STARTED, and hold its slot, for hours.
    """
    failed = []
    for run in dead_runs(instance):
        why = "The process of this run is gone: it was killed."
        if server_is_gone(run):
            why = "The process of this run is gone, and its code server too: killed, or the machine was restarted."
            instance.add_run_tags(run.run_id, {_OUTSIDE_TAG: "true"})
        instance.report_run_failed(run, why)
        failed.append(run.run_id)
    return failed


def dead_runs(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """The runs that Dagster takes for going on, and whose process on this machine is gone."""
    going_on = instance.get_runs(dg.RunsFilter(statuses=_AT_WORK))
    dead = [run.run_id for run in going_on if is_dead(instance, run)]
    again = [instance.get_run_by_id(run_id) for run_id in dead]  # one may have ended well between the two looks
    return [run for run in again if run is not None and not run.is_finished]


def stop_idle_runs(instance: dg.DagsterInstance, queue: JobQueue, cancelled: Sequence[Job]) -> list[str]:
    """Terminate the runs that have no job left, now that these were cancelled; the ids of those that were told so.

    A run that carries other jobs goes on, as does one that neither a Dagster code server nor a worker has
    (`dagster asset materialize`): such a run leaves the job at its next step.

    Args:
        instance: where the runs are.
        queue: says which jobs are left.
        cancelled: the jobs, as they were before they were cancelled.
    """
    batches, busy = queue.open_batches(), queue.running_runs()
    runs = [run for run in _runs_of(instance, cancelled) if run.run_id not in busy]
    idle = [run for run in runs if run.tags.get(BATCH_TAG) not in batches and _can_be_stopped(run)]
    return [run.run_id for run in idle if instance.run_coordinator.cancel_run(run.run_id)]


def _runs_of(instance: dg.DagsterInstance, jobs: Sequence[Job]) -> list[dg.DagsterRun]:
    """The runs that have the jobs, or will have them: those of their batches."""
    ids = {job.run_id for job in jobs if job.status == "running" and job.run_id}
    found = [run for run in map(instance.get_run_by_id, sorted(ids)) if run is not None]
    for batch_id in {job.batch_id for job in jobs if job.status == "claimed" and job.batch_id}:
        found += instance.get_runs(dg.RunsFilter(tags={BATCH_TAG: batch_id}))
    return found


def _can_be_stopped(run: dg.DagsterRun) -> bool:
    queued = run.status == dg.DagsterRunStatus.QUEUED
    return not run.is_finished and (queued or GRPC_INFO_TAG in run.tags or _TASK_TAG in run.tags)


def _is_silent(queue: JobQueue, run_id: str, seconds: float) -> bool:
    """Whether no job of the run was touched for that long."""
    since = datetime.now(UTC) - timedelta(seconds=seconds)
    for job in queue.get_many(queue.running_runs().get(run_id, [])).values():
        times = [job.updated_at]
        for result in queue.stage_results(job.id):
            times += [moment for moment in (result.started_at, result.finished_at) if moment is not None]
        if max(times) > since:
            return False
    return True

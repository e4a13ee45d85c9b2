"""How jobs leave a stage: to the next one, completed, waiting for a person, rejected, failed, or tried again later."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import dagster as dg

from fc_assets.engine.events import show_end
from fc_assets.engine.step import StageOutput, Step
from imaging.errors import FaceChangerError, NeedsReviewError, RejectedError, TransientError
from jobs.model.faults import fault_of, most_attempts
from jobs.model.job import Job, JobBusyError
from jobs.model.job_types import JOB_TYPES
from resources.store.image_store import StoredFile

# Dagster logs every partition of a range as materialized once a step yields its output, also those that this run left
# out. The stages log each job themselves, so the automatic event is turned off by the one key with which Dagster does
# so for its own observation assets. tests/graph/test_graph_runs.py holds this.
_NO_AUTOMATIC_EVENT: Final = {"__source_asset_observation__": True}


def close(step: Step, job: Job) -> None:
    """End a job whose last stage of this run this was."""
    selected = {key.path[-1] for key in step.context.job_def.asset_layer.executable_asset_keys}
    if step.name != [stage for stage in JOB_TYPES[job.job_type].stages if stage in selected][-1]:
        return
    if step.queue.get(job.id).next_stage is None:
        step.queue.complete(job.id, run_id=step.run_id)
    else:
        # A job that was just made or changed from the UI goes to the queue; any other waits for who runs it.
        made_here = step.is_first and (job.origin == "ui" or job.id in step.changed)
        step.queue.release([job.id], run_id=step.run_id, status="pending" if made_here else "held")


def settle(step: Step, stored: Mapping[str, StoredFile]) -> Iterator[StageOutput]:
    """End the jobs that failed in this step, and yield the step's output for the others.

    Raises:
        dagster.Failure: when a job failed, naming each and why.
    """
    failed = {job_id: error for job_id, error in step.failures.items() if not _ends_quietly(step, job_id, error)}
    for job_id, error in failed.items():
        _fail(step, job_id, error)
    if failed:
        released = step.queue.release(list(stored), run_id=step.run_id, status="pending" if step.batch_id else "held")
        note = f" The others go on in another run: {', '.join(released)}." if released else ""
        raise dg.Failure(
            "; ".join(f"{job_id}: {error}" for job_id, error in failed.items()) + note,
            metadata={"failed": list(failed), "released": released},
            allow_retries=False,
        )
    jobs = step.queue.get_many(list(step.context.partition_keys)).values()
    if not all(step.ended_here(job) for job in jobs):
        yield dg.Output(dict(stored), output_name=step.name, metadata=_NO_AUTOMATIC_EVENT)


def _ends_quietly(step: Step, job_id: str, error: Exception) -> bool:
    """End a job without failing the step, if its error is an outcome of its own; True if so."""
    if isinstance(error, NeedsReviewError):
        step.queue.review(job_id, run_id=step.run_id, stage=step.name, what=error.what, hint=error.hint)
        show_end(step, job_id, "needs_review", error)
    elif isinstance(error, RejectedError):
        step.queue.reject(job_id, run_id=step.run_id, stage=step.name, what=error.what, hint=error.hint)
        show_end(step, job_id, "rejected", error)
    elif not isinstance(error, JobBusyError):
        return False
    elif step.batch_id is None and not step.ended_here(step.queue.get(job_id)):
        return False  # a person asked this run for it; of a batch it was cancelled or taken
    else:
        step.context.log.warning(f"{job_id}: {error}")
    return True


def _fail(step: Step, job_id: str, error: Exception) -> None:
    if isinstance(error, JobBusyError):
        return  # its row belongs to another run
    step.context.log.error(f"{job_id}: {error}", exc_info=error)
    what, hint = _explain(error)
    fault = fault_of(error)
    if fault != "permanent":
        step.queue.retry_later(
            job_id,
            run_id=step.run_id,
            stage=step.name,
            what=what,
            hint=hint,
            fault=fault,
            max_attempts=most_attempts(fault, step.settings),
            retry_after=error.retry_after if isinstance(error, TransientError) else None,
        )
    elif not step.queue.fail(job_id, run_id=step.run_id, stage=step.name, what=what, hint=hint):
        step.queue.note_failure(job_id, run_id=step.run_id, stage=step.name, what=what, fault=fault)


def _explain(error: Exception) -> tuple[str, str]:
    """What is wrong, and the hint, for the job's row."""
    if isinstance(error, FaceChangerError):
        return error.what, error.hint
    return (
        f"{type(error).__name__}: {error}",
        "This is a fault of face-changer or of the machine; the run's log has the details.",
    )

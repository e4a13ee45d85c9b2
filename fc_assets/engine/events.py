"""What Dagster is shown of a job at a stage: its materialization, or why it stopped there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster_postgres.utils import DagsterPostgresException
from sqlalchemy.exc import SQLAlchemyError

from fc_assets.engine.outcome import Done, Item
from fc_assets.engine.step import Step
from imaging.errors import FaceChangerError, TransientError
from imaging.files.thumbnail import thumbnail_markdown
from jobs.runs.shown import materialization_of, shown_value
from resources.store.image_store import StoredFile


def metadata_of(stage: str, item: Item, done: Done, seconds: float, *, cached: bool) -> dict[str, Any]:
    """What is shown of a result, as JSON."""
    job = item.job
    preview = {} if done.picture is None else {"preview": thumbnail_markdown(done.picture, f"{stage} of {job.id}")}
    return {**preview, **done.metadata, "job_type": job.job_type, "seconds": round(seconds, 3), "cached": cached}


def show_materialization(step: Step, item: Item, file: StoredFile, metadata: Mapping[str, Any]) -> None:
    """Log that a job has its result of this stage.

    Raises:
        TransientError: Dagster's storage did not take it.
    """
    tags = {"dagster/code_version": step.stage.code_version}
    for stage, sha256 in item.input_hashes.items():
        tags[f"dagster/input_data_version/{stage}"] = sha256[:16]
        tags[f"dagster/input_event_pointer/{stage}"] = str(step.input_events[stage].get(item.job.id, "NULL"))
    output = {"path": file.path, "sha256": file.sha256, "metadata": metadata}
    _show(step, materialization_of(step.name, item.job.id, output, tags=tags))


def show_end(
    step: Step, job_id: str, status: str, error: FaceChangerError, metadata: Mapping[str, Any] | None = None
) -> None:
    """Show in the run's log, and among the asset's events, that a job stopped here without a result, and why.

    Raises:
        TransientError: Dagster's storage did not take it.
    """
    step.context.log.warning(f"{job_id}: {error}")
    said = {"status": status, "why": error.what, "hint": error.hint, **(metadata or {})}
    shown = {name: shown_value(name, value) for name, value in said.items()}
    why = f"{status}: {error.what}"
    _show(step, dg.AssetObservation(step.context.asset_key, partition=job_id, description=why, metadata=shown))


def _show(step: Step, event: dg.AssetMaterialization | dg.AssetObservation) -> None:
    try:
        step.context.log_event(event)
    except (SQLAlchemyError, DagsterPostgresException) as error:
        raise TransientError(
            f"Dagster's storage did not take the {step.name} of job {event.partition}: {type(error).__name__}.",
            "The job is tried again by itself; `fc doctor` says whether the storage answers.",
        ) from error

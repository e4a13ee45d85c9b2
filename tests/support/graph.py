"""Runs of the real asset graph inside a test."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
from dagster._core.events import EngineEventData
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._core.test_utils import create_run_for_test
from PIL import Image

from fc_assets.definitions import build_defs
from fc_assets.engine.asset import op_name
from jobs.model.job import Job
from jobs.model.request import parse_request
from jobs.model.stages import PARTITIONS
from jobs.queue.job_queue import JobQueue
from jobs.requests.accept import submit
from jobs.runs.lifecycle import BATCH_TAG, RANGE_END_TAG, RANGE_START_TAG
from resources.settings import load_settings
from resources.store.image_store import ImageStore

FULL_PLAN_FILES = ("0-generated", "1-portraits", "2-verified", "3-masks", "4-results", "6-final")


def add_jobs(queue: JobQueue, store: ImageStore, *requests: dict[str, Any], hold: bool = False) -> list[Job]:
    """Submit requests of small images; ids are a, b, c ..."""
    pairs = []
    for number, fields in enumerate(requests):
        small = {} if "source_image" in fields else {"width": 256, "height": 256, "seed": 7}
        pairs.append((chr(ord("a") + number), parse_request({**small, **fields})))
    return submit(pairs, queue=queue, store=store, settings=load_settings(), origin="cli", hold=hold)


def materialize(
    instance: dg.DagsterInstance,
    *keys: str,
    selection: Sequence[str] | None = None,
    batch: str | None = None,
    config: dict[str, Any] | None = None,
) -> dg.ExecuteInProcessResult:
    """Run stages of the partitions from the first key to the last, as the UI and the command line do."""
    instance.add_dynamic_partitions(PARTITIONS, list(keys))
    tags = {BATCH_TAG: batch} if batch else {}
    if len(keys) > 1:
        tags |= {RANGE_START_TAG: keys[0], RANGE_END_TAG: keys[-1]}
    defs = build_defs()
    assets = list(defs.assets or [])
    return dg.materialize(
        assets,
        selection=dg.AssetSelection.assets(*selection) if selection else None,
        instance=instance,
        resources=dict(defs.resources or {}),
        partition_key=keys[0] if len(keys) == 1 else None,
        tags=tags,
        run_config={"ops": {op_name("job_request"): {"config": config}}} if config else None,
        raise_on_error=False,
    )


def claim_batch(queue: JobQueue, batch: str) -> None:
    """Claim everything that is pending, as one batch."""
    assert queue.assign_batch(batch, [job.id for job in queue.claim(1000)])


def materialized(instance: dg.DagsterInstance, stage: str) -> set[str]:
    """The partitions that Dagster shows as materialized."""
    return set(instance.get_materialized_partitions(dg.AssetKey(stage)))


def pixels(store: ImageStore, folder: str, name: str) -> np.ndarray:
    """A stored image."""
    return np.array(Image.open(Path(str(store.path(folder, name)))))


def run_of(instance: dg.DagsterInstance, pid: int, **where: str) -> dg.DagsterRun:
    """A run that goes on, in a process of its own, as Dagster's code server starts it."""
    tags = {GRPC_INFO_TAG: json.dumps({"host": "localhost", **(where or {"socket": "code-server"})})}
    run = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED, tags=tags)
    instance.report_engine_event(f"Started process for run (pid: {pid}).", run, EngineEventData.in_process(pid))
    return run

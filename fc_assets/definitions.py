"""The definitions that Dagster loads; this module alone composes the product."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

import dagster as dg

from jobs.model.stages import STAGES
from jobs.runs.pipelines import PIPELINES
from resources.connections import (
    DatabaseResource,
    DetectorResource,
    EncoderResource,
    GeneratorResource,
    StageIOManagerResource,
    StoreResource,
    WriterResource,
)
from sensors.job_requests import job_requests
from sensors.outcomes import OUTCOME_SENSORS
from sensors.retention import retention

ASSETS: Final[list[dg.AssetsDefinition]] = [
    getattr(import_module(f"fc_assets.stages.{stage}"), stage) for stage in STAGES
]
"""The function of each stage is called as the stage, and so is its module."""


def build_defs(resource_overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """The whole product.

    Args:
        resource_overrides: resources to use in place of the real ones, by key; tests give their own.
    """
    resources = {
        "store": StoreResource(),
        "stage_io": StageIOManagerResource(),
        "database": DatabaseResource(),
        "generator": GeneratorResource(),
        "writer": WriterResource(),
        "detector": DetectorResource(),
        "encoder": EncoderResource(),
        **(resource_overrides or {}),
    }
    return dg.Definitions(
        assets=ASSETS,
        jobs=PIPELINES,
        sensors=[job_requests, *OUTCOME_SENSORS, retention],
        resources=resources,
        # A run carries many jobs and its stages pass images on, so it stays in one process: see docs/architecture.md.
        executor=dg.in_process_executor,
    )


defs = build_defs()

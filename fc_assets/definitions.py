"""The definitions that Dagster loads; this module alone composes the product."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from fc_assets.stages.changed_face import changed_face
from fc_assets.stages.description import description
from fc_assets.stages.enhanced_prompt import enhanced_prompt
from fc_assets.stages.final_image import final_image
from fc_assets.stages.generated_image import generated_image
from fc_assets.stages.job_request import job_request
from fc_assets.stages.mask import mask
from fc_assets.stages.portrait import portrait
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

ASSETS = [
    job_request,
    enhanced_prompt,
    generated_image,
    portrait,
    mask,
    changed_face,
    final_image,
    description,
]


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

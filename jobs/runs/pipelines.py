"""The Dagster jobs, one for each job type that has stages; each selects the assets of its stages by key."""

from __future__ import annotations

from typing import Final

import dagster as dg

from jobs.model.job_types import JOB_TYPES

PIPELINES: Final = [
    dg.define_asset_job(name, selection=dg.AssetSelection.assets(*one.stages), description=one.about)
    for name, one in JOB_TYPES.items()
    if one.stages
]

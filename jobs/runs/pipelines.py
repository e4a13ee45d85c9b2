"""The four Dagster jobs, named as the job types that have stages; each selects the assets of its plan by key."""

from __future__ import annotations

from typing import Final

import dagster as dg

from jobs.model.request import JobType
from jobs.model.stages import PLANS

DESCRIPTIONS: Final[dict[JobType, str]] = {
    "pony_flux": "Everything: improve the prompts, generate the scene, make its faces anew, describe the result.",
    "sdxl_generation": "Improve the prompt and generate the scene; no face work.",
    "face_processing": "Make the faces of an existing photo anew, and describe the result.",
    "description": "Describe an existing image; nothing is changed.",
}

PIPELINES: Final = [
    dg.define_asset_job(
        job_type, selection=dg.AssetSelection.assets(*PLANS[job_type]), description=DESCRIPTIONS[job_type]
    )
    for job_type in DESCRIPTIONS
]

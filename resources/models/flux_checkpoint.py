"""A Flux checkpoint as files: where it lies, whether it is whole, how large it is; and what kind any checkpoint is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, Literal

from resources.models.checkpoint import Family
from resources.models.folders import INDEX
from resources.models.places import HUB_ID, find_snapshot

FLUX: Final = Family(
    whole="a Flux checkpoint",
    pipelines=("FluxPipeline", "FluxInpaintPipeline", "FluxFillPipeline"),
    network="transformer",
    example="black-forest-labs/FLUX.1-dev",
)

Kind = Literal["sdxl", "flux", "unknown"]


def model_kind(model: str, revision: str = "") -> Kind:
    """What `model` names, by the pipeline that its `model_index.json` was made for.

    Args:
        model: a folder in diffusers format, a Hub id, or anything else.
        revision: branch, tag or commit of a Hub id; empty for `main`.

    Returns:
        `sdxl` and `flux` for every pipeline of that family, also for those that cannot be used here, so that their
        generator says why. `unknown` for other families, single files, what is not there, and Hub ids that are not in
        the Hub cache.
    """
    path = Path(model).expanduser()
    folder = path if path.is_absolute() else find_snapshot(model, revision) if HUB_ID.fullmatch(model) else None
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8")) if folder else None
    except (OSError, ValueError):
        return "unknown"  # the generator that is chosen then says what is wrong with it
    name = str(index.get("_class_name")) if isinstance(index, dict) else ""
    if name.startswith("StableDiffusionXL"):
        return "sdxl"
    return "flux" if name.startswith("Flux") else "unknown"

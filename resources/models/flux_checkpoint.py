"""A Flux checkpoint as files: where it lies, whether it is whole, how large it is; and what kind any checkpoint is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, Literal

from resources.models.checkpoint import Checkpoint, Family, find_checkpoint, told_of
from resources.models.weight_files import in_hub_cache

FLUX: Final = Family(
    whole="a Flux checkpoint",
    pipelines=("FluxPipeline", "FluxInpaintPipeline", "FluxFillPipeline"),
    network="transformer",
    example="black-forest-labs/FLUX.1-dev",
)

Kind = Literal["sdxl", "flux", "unknown"]

_HEADER_LIMIT: Final = 100_000_000  # bytes; the limit of the safetensors format


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
    folder: Path | None = Path(model).expanduser()
    if folder is not None and not folder.is_absolute():
        folder = _cached(model, revision)
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8")) if folder else None
    except (OSError, ValueError):
        return "unknown"  # the generator that is chosen then says what is wrong with it
    name = str(index.get("_class_name")) if isinstance(index, dict) else ""
    if name.startswith("StableDiffusionXL"):
        return "sdxl"
    return "flux" if name.startswith("Flux") else "unknown"


def _cached(model: str, revision: str) -> Path | None:
    from huggingface_hub.errors import HFValidationError

    try:
        index = in_hub_cache(model, "model_index.json", revision)
    except HFValidationError:  # neither a whole path nor a Hub id
        return None
    return index and index.parent


def find_flux_checkpoint(model: str, revision: str, setting: str) -> Checkpoint | None:
    """The Flux checkpoint that `model` names; None when it is a Hub id whose files are not all in the Hub cache.

    Args:
        model: a folder in diffusers format, or a Hub id such as `owner/name`.
        revision: branch, tag or commit of a Hub id; empty for `main`.
        setting: the variable that `model` comes from, for the errors.

    Raises:
        SettingsError: it is neither, or the folder is incomplete or holds what may not be loaded.
    """
    with told_of(setting):
        return find_checkpoint(model, revision, family=FLUX)

"""Bringing an SDXL checkpoint into memory, with what is added to it."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from imaging.errors import BackendError, SettingsError
from resources.generators.diffusion.loading import fetch, loading, without_progress_bars
from resources.generators.diffusion.sdxl_lora import add_lora
from resources.generators.diffusion.sdxl_words import add_word
from resources.models.addons import Addon, Addons
from resources.models.checkpoint import CONFIG_SETTING, Checkpoint
from resources.models.names import ModelNames

_log = logging.getLogger(__name__)

_CONFIG_FILES: Final = ["*.json", "*.txt"]  # of a diffusers folder and the folders in it; no weights


@dataclass(frozen=True, slots=True)
class Parts:
    """A checkpoint on its device.

    Attributes:
        parts: UNet, VAE, text encoders and tokenizers by their names in diffusers, without the scheduler.
        scheduler_config: of the checkpoint's own scheduler; a single file's marks of its noise schedule are in it.
        zero_negative: whether no negative prompt means zero embeddings, as the checkpoint says.
    """

    parts: dict[str, Any]
    scheduler_config: dict[str, Any]
    zero_negative: bool


def download(names: ModelNames) -> Checkpoint:
    """Fetch what `find_checkpoint` did not find into the Hub cache; what an earlier download left is used.

    For a single file that is the configs and tokenizers of `config`, without its weights.

    Raises:
        BackendError: it cannot be downloaded.
    """
    from diffusers import StableDiffusionXLPipeline
    from huggingface_hub import snapshot_download

    field, wanted, include = names.named("checkpoint"), names.checkpoint, ""
    revision = f" --revision {names.revision}" if names.revision else ""

    def get() -> object:
        return StableDiffusionXLPipeline.download(wanted, revision=names.revision or None, use_safetensors=True)

    if Path(names.checkpoint).expanduser().is_absolute():
        field, wanted, revision = CONFIG_SETTING, names.config, ""
        include = "".join(f" --include '{pattern}'" for pattern in _CONFIG_FILES)

        def get() -> object:
            return snapshot_download(wanted, allow_patterns=_CONFIG_FILES)

    hint = (
        f"Run, where the Hub can be reached: hf download {wanted}{revision}{include}; or set {field} to a folder in "
        "diffusers format."
    )
    fetch(field, wanted, get, hint)
    checkpoint = names.find_checkpoint()
    if checkpoint is None:
        raise BackendError(f"{field}={wanted}: the Hub gave no complete SDXL checkpoint.", hint)
    return checkpoint


def fetch_addons(addons: Addons) -> Addons:
    """The same with every file here: what is on the Hub only is fetched into the Hub cache.

    Raises:
        BackendError: it cannot be downloaded.
    """
    from huggingface_hub import hf_hub_download

    def complete(addon: Addon) -> Addon:
        if addon.files or addon.hub is None:
            return addon
        repository, names = addon.hub
        hint = f"Run, where the Hub can be reached: hf download {repository} {' '.join(names)}; or name a file."
        files = fetch(
            addon.field, addon.label, lambda: [Path(hf_hub_download(repository, name)) for name in names], hint
        )
        return replace(addon, files=tuple(files), path=files[0].parent if len(files) > 1 else files[0])

    return replace(
        addons, vae=addons.vae and complete(addons.vae), loras=tuple(complete(lora) for lora in addons.loras)
    )


def load_parts(checkpoint: Checkpoint, device: str, dtype: str, addons: Addons = Addons()) -> Parts:  # noqa: B008
    """Load a checkpoint onto a device, with what is added to it.

    Args:
        checkpoint: whose files are here.
        device: `cuda`, `mps` or `cpu`.
        dtype: `bfloat16`, `float16` or `float32`; of every weight.
        addons: whose files are here; see `fetch_addons`.

    Raises:
        SettingsError: an addon was not made for SDXL, or a single file has no VAE and none is added.
        BackendError: a file cannot be loaded.
    """
    without_progress_bars()
    logging.getLogger("diffusers.models.modeling_utils").addFilter(_is_worth_telling)
    if not addons.vae and not checkpoint.has_vae():
        raise SettingsError(
            f"{checkpoint.field}: {checkpoint.path} has no VAE in it.",
            "Set FC_SDXL_VAE, or the job's vae, to the VAE that its maker names.",
        )
    start = time.perf_counter()
    vae = {}
    if addons.vae:
        with loading(addons.vae.field, addons.vae.path, device, dtype):
            vae = {"vae": _load_vae(addons.vae, checkpoint, dtype)}
    with loading(checkpoint.field, checkpoint.path, device, dtype):
        pipeline = _load_pipeline(checkpoint, dtype, vae).to(device)
    parts = dict(pipeline.components)
    for lora in addons.loras:
        with loading(lora.field, lora.path, device, dtype):
            add_lora(parts, lora)
    for embedding in addons.embeddings:
        with loading(embedding.field, embedding.path, device, dtype):
            add_word(parts, embedding)
    seconds = time.perf_counter() - start
    _log.info("Loaded the SDXL checkpoint %s on %s as %s in %.1f s.", checkpoint.label, device, dtype, seconds)
    scheduler = parts.pop("scheduler")
    schedule = {**scheduler.config, **checkpoint.noise_schedule()}
    return Parts(parts, schedule, bool(pipeline.config.force_zeros_for_empty_prompt))


def _load_pipeline(checkpoint: Checkpoint, dtype: str, instead: dict[str, Any]) -> Any:  # noqa: ANN401 - of diffusers
    """The pipeline on the CPU, with some parts in place of the checkpoint's own."""
    import torch
    from diffusers import StableDiffusionXLPipeline

    common = {"dtype": getattr(torch, dtype), "local_files_only": True, "add_watermarker": False, **instead}
    if checkpoint.single is None:
        return StableDiffusionXLPipeline.from_pretrained(  # type: ignore[no-untyped-call]
            checkpoint.folder, variant=checkpoint.variant, use_safetensors=True, **common
        )
    return StableDiffusionXLPipeline.from_single_file(
        str(checkpoint.single), config=str(checkpoint.folder), num_in_channels=checkpoint.in_channels(), **common
    )


def _load_vae(vae: Addon, checkpoint: Checkpoint, dtype: str) -> Any:  # noqa: ANN401 - of diffusers
    """A VAE on the CPU. A single file has the architecture of the checkpoint's own VAE."""
    import torch
    from diffusers import AutoencoderKL

    common = {"dtype": getattr(torch, dtype), "local_files_only": True}
    assert vae.path is not None  # noqa: S101 - fetched before
    if vae.path.is_dir():
        variant = "fp16" if any(".fp16" in file.name for file in vae.files) else None
        return AutoencoderKL.from_pretrained(  # type: ignore[no-untyped-call]
            vae.path, variant=variant, use_safetensors=True, **common
        )
    return AutoencoderKL.from_single_file(str(vae.path), config=str(checkpoint.folder), subfolder="vae", **common)


def _is_worth_telling(record: logging.LogRecord) -> bool:
    """Not the warning of diffusers 0.42 that a cast leaves out an empty list of modules, on every inpainting call."""
    return "should be kept in float32: []" not in record.getMessage()

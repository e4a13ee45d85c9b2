"""Bringing an SDXL checkpoint into memory: device, dtype, download, load."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from imaging.errors import BackendError, FaceChangerError, SettingsError
from resources.generators.diffusion.sdxl_lora import add_lora
from resources.generators.diffusion.sdxl_words import add_word
from resources.models.addons import Addon, Addons
from resources.models.checkpoint import BASE, Checkpoint, find_checkpoint

_log = logging.getLogger(__name__)

_CONFIG_FILES: Final = ["*.json", "*.txt"]  # of a diffusers folder and the folders in it; no weights

Fetched = TypeVar("Fetched")


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


def pick_device(device: str) -> str:
    """`cuda`, `mps` or `cpu`; of `auto` the first of them that is there.

    Raises:
        SettingsError: the device is not there.
    """
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return next(name for name, found in there.items() if found)
    if not there[device]:
        raise SettingsError(
            f"FC_SDXL_DEVICE={device}, and torch {torch.__version__} finds no such device here.",
            f"Set it to auto or cpu, or install the driver and a torch build for {device}.",
        )
    return device


def pick_dtype(dtype: str, device: str) -> str:
    """`bfloat16`, `float16` or `float32`; `auto` is bfloat16 on cuda and float32 elsewhere."""
    if dtype != "auto":
        return dtype
    return "bfloat16" if device == "cuda" else "float32"


def download(model: str, revision: str, config: str = BASE) -> Checkpoint:
    """Fetch what `find_checkpoint` did not find into the Hub cache; what an earlier download left is used.

    For a single file that is the configs and tokenizers of `config`, without its weights.

    Raises:
        BackendError: it cannot be downloaded.
    """
    from diffusers import StableDiffusionXLPipeline
    from huggingface_hub import snapshot_download

    if Path(model).expanduser().is_absolute():
        setting, wanted, version = "FC_SDXL_CONFIG", config, ""
        include = "".join(f" --include '{pattern}'" for pattern in _CONFIG_FILES)

        def fetch() -> object:
            return snapshot_download(config, allow_patterns=_CONFIG_FILES)
    else:
        setting, wanted, include = "FC_SDXL_MODEL", model, ""
        version = f" --revision {revision}" if revision else ""

        def fetch() -> object:
            return StableDiffusionXLPipeline.download(model, revision=revision or None, use_safetensors=True)

    hint = (
        f"Run, where the Hub can be reached: hf download {wanted}{version}{include}; or set {setting} to a folder in "
        "diffusers format."
    )
    _fetch(setting, wanted, fetch, hint)
    checkpoint = find_checkpoint(model, revision, config)
    if checkpoint is None:
        raise BackendError(f"{setting}={wanted}: the Hub gave no complete SDXL checkpoint.", hint)
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

        def fetch() -> list[Path]:
            return [Path(hf_hub_download(repository, name)) for name in names]

        hint = f"Run, where the Hub can be reached: hf download {repository} {' '.join(names)}; or name a file."
        files = _fetch(addon.setting, addon.label, fetch, hint)
        return replace(addon, files=tuple(files), path=files[0].parent if len(files) > 1 else files[0])

    return replace(
        addons, vae=addons.vae and complete(addons.vae), loras=tuple(complete(lora) for lora in addons.loras)
    )


def _fetch(setting: str, wanted: str, fetch: Callable[[], Fetched], hint: str) -> Fetched:
    _log.info("Downloading %s (%s) into the Hub cache.", wanted, setting)
    try:
        return fetch()
    except Exception as error:
        raise BackendError(
            f"{setting}={wanted} is not on this machine, and as a Hub id it cannot be downloaded "
            f"({type(error).__name__}: {first_line(error)}).",
            hint,
        ) from error


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
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.getLogger("diffusers.models.modeling_utils").addFilter(_is_worth_telling)
    if not addons.vae and not checkpoint.has_vae():
        raise SettingsError(
            f"FC_SDXL_MODEL: {checkpoint.path} has no VAE in it.", "Set FC_SDXL_VAE to the VAE that its maker names."
        )
    start = time.perf_counter()
    vae = {}
    if addons.vae:
        with _told_as("FC_SDXL_VAE", addons.vae.path, device, dtype):
            vae = {"vae": _load_vae(addons.vae, checkpoint, dtype)}
    with _told_as("FC_SDXL_MODEL", checkpoint.path, device, dtype):
        pipeline = _load_pipeline(checkpoint, dtype, vae).to(device)
    parts = dict(pipeline.components)
    for lora in addons.loras:
        with _told_as("FC_SDXL_LORAS", lora.path, device, dtype):
            add_lora(parts, lora)
    for embedding in addons.embeddings:
        with _told_as("FC_SDXL_EMBEDDINGS", embedding.path, device, dtype):
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
        return AutoencoderKL.from_pretrained(  # type: ignore[no-untyped-call]
            vae.path, use_safetensors=True, **common
        )
    return AutoencoderKL.from_single_file(str(vae.path), config=str(checkpoint.folder), subfolder="vae", **common)


@contextlib.contextmanager
def _told_as(setting: str, path: Path | None, device: str, dtype: str) -> Iterator[None]:
    """What goes wrong inside, told with the file that it went wrong with."""
    try:
        yield
    except FaceChangerError:
        raise
    except Exception as error:
        raise BackendError(
            f"{setting}: {path} cannot be loaded on {device} as {dtype} ({type(error).__name__}: {first_line(error)}).",
            "Download or copy it again if it is damaged; free memory on the device if that was short.",
        ) from error


def _is_worth_telling(record: logging.LogRecord) -> bool:
    """Not the warning of diffusers 0.42 that a cast leaves out an empty list of modules, on every inpainting call."""
    return "should be kept in float32: []" not in record.getMessage()


def first_line(error: Exception) -> str:
    """What an error says in its first line; libraries add pages."""
    return (str(error).strip().splitlines() or [""])[0]

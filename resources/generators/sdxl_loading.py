"""Bringing an SDXL checkpoint into memory: device, dtype, download, load.

Belongs here: torch and diffusers until the weights lie on the device. Does not: calling the model
(`resources.generators.sdxl_model`), or what can be known of the files without torch (`sdxl_checkpoint`).
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

from imaging.errors import BackendError, SettingsError
from resources.generators.sdxl_checkpoint import Checkpoint, find_checkpoint

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """A checkpoint on its device.

    Attributes:
        parts: UNet, VAE, text encoders and tokenizers by their names in diffusers, without the scheduler.
        scheduler_config: of the checkpoint's own scheduler.
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


def download(model: str, revision: str) -> Checkpoint:
    """Fetch a Hub id into the Hub cache; what an earlier download left is used.

    Raises:
        BackendError: it cannot be downloaded.
    """
    from diffusers import StableDiffusionXLPipeline

    _log.info("Downloading the SDXL checkpoint %s into the Hub cache.", model)
    version = f" --revision {revision}" if revision else ""
    mend = (
        f"Run, where the Hub can be reached: hf download {model}{version}; or set FC_SDXL_MODEL to a folder in "
        "diffusers format."
    )
    try:
        StableDiffusionXLPipeline.download(model, revision=revision or None, use_safetensors=True)
    except Exception as error:
        raise BackendError(
            f"FC_SDXL_MODEL={model} is not a folder on this machine, and as a Hub id it cannot be downloaded "
            f"({type(error).__name__}: {_first_line(error)}).",
            mend,
        ) from error
    checkpoint = find_checkpoint(model, revision)
    if checkpoint is None:
        raise BackendError(f"FC_SDXL_MODEL={model}: the Hub gave no complete SDXL checkpoint.", mend)
    return checkpoint


def load_parts(checkpoint: Checkpoint, device: str, dtype: str) -> Parts:
    """Load a checkpoint onto a device.

    Raises:
        BackendError: it cannot be loaded.
    """
    import diffusers
    import torch
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.getLogger("diffusers.models.modeling_utils").addFilter(_is_worth_telling)
    start = time.perf_counter()
    try:
        pipeline = diffusers.StableDiffusionXLPipeline.from_pretrained(  # type: ignore[no-untyped-call]
            checkpoint.folder,
            dtype=getattr(torch, dtype),
            variant=checkpoint.variant,
            use_safetensors=True,
            local_files_only=True,
            add_watermarker=False,
        ).to(device)
    except Exception as error:
        raise BackendError(
            f"FC_SDXL_MODEL: the checkpoint {checkpoint.folder} cannot be loaded on {device} as {dtype} "
            f"({type(error).__name__}: {_first_line(error)}).",
            "Download or copy it again if it is damaged; free memory on the device if that was short.",
        ) from error
    seconds = time.perf_counter() - start
    _log.info("Loaded the SDXL checkpoint %s on %s as %s in %.1f s.", checkpoint.label, device, dtype, seconds)
    parts = dict(pipeline.components)
    scheduler = parts.pop("scheduler")
    return Parts(parts, dict(scheduler.config), bool(pipeline.config.force_zeros_for_empty_prompt))


def _is_worth_telling(record: logging.LogRecord) -> bool:
    """Not the warning of diffusers 0.42 that a cast leaves out an empty list of modules, on every inpainting call."""
    return "should be kept in float32: []" not in record.getMessage()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]

"""A loaded SDXL checkpoint: its weights, once per process, and one pipeline call over them.

Belongs here: torch and diffusers, device and dtype. Does not: which images share a call, or what becomes of an error
(`resources.generators.sdxl`).
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imaging.errors import BackendError
from resources.generators.base import ImageTask, InpaintTask
from resources.generators.sdxl_addons import Addons
from resources.generators.sdxl_checkpoint import BASE, find_checkpoint
from resources.generators.sdxl_loading import download, fetch_addons, load_parts, pick_device
from resources.generators.sdxl_schedulers import make_scheduler

_log = logging.getLogger(__name__)

_TEXT_CHANNELS: Final = 4  # of a UNet that starts from noise alone; 9 take a mask and a masked image beside it


@dataclass(frozen=True, slots=True)
class Model:
    """A checkpoint in memory. Calls from several threads wait for each other: fp16 changes the VAE during a call.

    Attributes:
        fingerprint: of the files it was loaded from.
        device: `cuda`, `mps` or `cpu`.
        gpu: the name of the graphics card on cuda, else None.
        dtype: `bfloat16`, `float16` or `float32`.
        parts: UNet, VAE, text encoders and tokenizers by their names in diffusers, without the scheduler.
        scheduler_config: of the checkpoint's own scheduler.
        zero_negative: whether no negative prompt means zero embeddings, as the checkpoint says.
    """

    fingerprint: str
    device: str
    gpu: str | None
    dtype: str
    parts: dict[str, Any]
    scheduler_config: dict[str, Any]
    zero_negative: bool
    lock: threading.Lock = field(default_factory=threading.Lock)

    def generate(self, tasks: Sequence[ImageTask]) -> NDArray[np.float32]:
        """Make one image per task in one call; all tasks share size, steps, CFG, scheduler, and having a negative.

        Returns:
            RGB of shape (tasks, height, width, 3), 0 to 1; NaN where the model overflowed.

        Raises:
            BackendError: the checkpoint can only inpaint, or cannot run the scheduler.
        """
        if self.parts["unet"].config.in_channels != _TEXT_CHANNELS:
            raise BackendError(
                "FC_SDXL_MODEL is an inpainting checkpoint, which cannot make an image from text alone.",
                "Set it to a text-to-image checkpoint; those can inpaint too.",
            )
        from diffusers import StableDiffusionXLPipeline

        return self._call(StableDiffusionXLPipeline, tasks, {})

    def inpaint(self, tasks: Sequence[InpaintTask]) -> NDArray[np.float32]:
        """Like `generate`, for masked areas; the tasks share the denoising strength too.

        Every cell of the latent grid that holds a pixel over 0 in the mask is made anew, so that the caller's soft edge
        blends from new pixels only. A strength of 0 gives the images back.

        Raises:
            ValueError: an image or a mask does not have its task's size.
            BackendError: the checkpoint cannot run the scheduler.
        """
        for task in tasks:
            _check(task)
        if tasks[0].denoising_strength == 0:
            return np.stack([task.image for task in tasks]).astype(np.float32) / np.float32(255)
        import torch
        from diffusers import StableDiffusionXLInpaintPipeline

        pixels = torch.from_numpy(np.stack([task.image for task in tasks])).permute(0, 3, 1, 2) / 255
        masks = torch.from_numpy(np.stack([task.mask for task in tasks]))[:, None] > 0
        cell = 2 ** (len(self.parts["vae"].config.block_out_channels) - 1)
        cells = torch.nn.functional.max_pool2d(masks.float(), cell)
        sampling = [task.task for task in tasks]
        steps = sampling[0].steps
        done = steps_done(tasks[0].denoising_strength, steps)
        inputs = {
            "image": pixels,
            "mask_image": cells.repeat_interleave(cell, 2).repeat_interleave(cell, 3),
            # diffusers cuts steps * strength to a whole number, and half a step keeps clear of its rounding errors
            "strength": min(1.0, (done + 0.5) / steps),
        }
        return self._call(StableDiffusionXLInpaintPipeline, sampling, inputs)

    def tokens_cut(self, text: str) -> int:
        """How many tokens of a text lie beyond CLIP's 77 and are not seen."""
        tokenizer = self.parts["tokenizer"]
        return max(0, len(tokenizer(text, verbose=False).input_ids) - int(tokenizer.model_max_length))

    def _call(self, kind: type[Any], tasks: Sequence[ImageTask], inputs: dict[str, Any]) -> NDArray[np.float32]:
        import torch

        first = tasks[0]
        # A pipeline of its own, as schedulers hold state; by `__init__`, as `from_pipe` casts the shared weights.
        pipeline = kind(
            **self.parts,
            scheduler=make_scheduler(first.scheduler, self.scheduler_config),
            force_zeros_for_empty_prompt=self.zero_negative,
            add_watermarker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        negatives = [task.negative_prompt for task in tasks]
        with self.lock, torch.inference_mode():
            try:
                images = pipeline(
                    prompt=[task.prompt for task in tasks],
                    negative_prompt=negatives if any(negatives) else None,
                    generator=[torch.Generator("cpu").manual_seed(task.seed) for task in tasks],
                    width=first.width,
                    height=first.height,
                    num_inference_steps=first.steps,
                    guidance_scale=first.cfg_scale,
                    output_type="np",
                    **inputs,
                ).images
            finally:
                # Diffusers runs some VAEs in float32 for a moment; an error in that moment would leave them there.
                if self.parts["vae"].dtype != getattr(torch, self.dtype):
                    self.parts["vae"].to(getattr(torch, self.dtype))
        return np.asarray(images, np.float32)


def steps_done(strength: float, steps: int) -> int:
    """How many of the steps an inpainting does: its strength's share of them, rounded down; 0 only at strength 0."""
    return max(1, math.floor(steps * strength + 1e-6)) if strength else 0


def free_memory() -> None:
    """Give memory that nothing uses any more back to the GPU, after a call has failed."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _check(task: InpaintTask) -> None:
    size = (task.task.height, task.task.width)
    if task.image.shape != (*size, 3) or task.mask.shape != size:
        raise ValueError(f"image {task.image.shape} and mask {task.mask.shape} do not have the task's size {size}")


_models: dict[tuple[Path, str, str], Model] = {}
_loading = threading.Lock()


def load_model(
    model: str,
    revision: str,
    device: str,
    dtype: str,
    config: str = BASE,
    addons: Addons = Addons(),  # noqa: B008 - it is frozen
) -> Model:
    """The checkpoint in memory, loaded when this process has not done so, and downloaded when it is a new Hub id.

    Args:
        model: a folder in diffusers format, a single .safetensors file, or a Hub id.
        revision: branch, tag or commit of a Hub id; empty for `main`.
        device: `cuda`, `mps`, `cpu`, or `auto` for the first of them that is there.
        dtype: `bfloat16`, `float16`, `float32`, or `auto` for bfloat16 on cuda and float32 elsewhere.
        config: a folder in diffusers format, or a Hub id; gives a single file's configs and tokenizers.
        addons: VAE, LoRAs and textual inversions.

    Raises:
        SettingsError: the checkpoint or the device is not there.
        BackendError: it cannot be downloaded or loaded.
    """
    device = pick_device(device)
    if dtype == "auto":
        dtype = "bfloat16" if device == "cuda" else "float32"
    with _loading:
        checkpoint = find_checkpoint(model, revision, config) or download(model, revision, config)
        addons = fetch_addons(addons)
        key = (checkpoint.path.resolve(), device, dtype)
        fingerprint = checkpoint.fingerprint() + addons.fingerprint()
        if key not in _models or _models[key].fingerprint != fingerprint:
            _models.pop(key, None)  # first, so that two never lie in the GPU's memory
            loaded = load_parts(checkpoint, device, dtype, addons)
            _models[key] = Model(
                fingerprint=fingerprint,
                device=device,
                gpu=_gpu(device),
                dtype=dtype,
                parts=loaded.parts,
                scheduler_config=loaded.scheduler_config,
                zero_negative=loaded.zero_negative,
            )
        return _models[key]


def _gpu(device: str) -> str | None:
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else None

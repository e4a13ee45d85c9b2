"""A loaded Flux checkpoint: its weights, and one pipeline call over them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imaging.errors import BackendError
from resources.generators.base import ImageTask, InpaintTask
from resources.generators.diffusion.calls import Watch
from resources.generators.diffusion.devices import gpu_name, pick_device, pick_dtype
from resources.generators.diffusion.loading import fetch, loading, without_progress_bars
from resources.generators.diffusion.memory import Memory
from resources.generators.diffusion.model_cache import MODELS, memory_budget
from resources.generators.diffusion.options import Options
from resources.generators.diffusion.outcomes import check_size, steps_done
from resources.models.checkpoint import Checkpoint
from resources.models.flux_checkpoint import FLUX
from resources.models.names import ModelNames
from resources.models.weights import parameters

_log = logging.getLogger(__name__)

DISTILLED_STEPS: Final = 4  # of schnell, as its model card says; more do not make it better
_GUIDANCE: Final = 3.5  # of dev, as its model card says
_FILL_GUIDANCE: Final = 30.0  # of Fill, likewise
_PACKED: Final = 2  # latents along each side of one cell that the transformer sees
_T5_TOKENS: Final = 512
_DISTILLED_T5_TOKENS: Final = 256


@dataclass(frozen=True, slots=True)
class FluxModel:
    """A checkpoint in memory. Calls from several threads wait for each other, as offloading moves the weights.

    Attributes:
        device: `cuda`, `mps` or `cpu`.
        gpu: the name of the graphics card on cuda, else None.
        dtype: `bfloat16`, `float16` or `float32`.
        memory: how it gets along with the memory of the device.
        fill: the checkpoint is one of Flux Fill, which sees the mask and can only inpaint.
        parts: transformer, VAE, text encoders and tokenizers by their names in diffusers, without the scheduler.
        scheduler_config: of the checkpoint's own scheduler.
    """

    device: str
    gpu: str | None
    dtype: str
    memory: Memory
    fill: bool
    parts: dict[str, Any]
    scheduler_config: dict[str, Any]
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def guided(self) -> bool:
        """Whether the model takes a guidance scale. One that does not, schnell, is made for 4 steps."""
        return bool(self.parts["transformer"].config.guidance_embeds)

    def guidance(self, asked: float) -> float | None:
        """The guidance scale that is used: `asked`, or the model's own for 0; None for a model that takes none."""
        if not self.guided:
            return None
        return asked or (_FILL_GUIDANCE if self.fill else _GUIDANCE)

    def steps(self, task: ImageTask) -> int:
        """The steps of a full run: those of the task, but never more than the model was made for."""
        return task.steps if self.guided else min(task.steps, DISTILLED_STEPS)

    def generate(self, tasks: Sequence[ImageTask], guidance: float, watch: Watch) -> NDArray[np.float32]:
        """Make one image per task in one call; all tasks share size and steps.

        A side that is no multiple of the model's cells, 16 pixels, is made larger and cut at its end.

        Returns:
            RGB of shape (tasks, height, width, 3), 0 to 1; NaN where the model overflowed.

        Raises:
            BackendError: the checkpoint can only inpaint.
        """
        if self.fill:
            raise BackendError(
                "Flux Fill is an inpainting checkpoint, which cannot make an image from text alone.",
                "Use it for the faces only, and a text-to-image checkpoint for the scene.",
            )
        from diffusers import FluxPipeline

        return self._call(FluxPipeline, tasks, guidance, {}, watch)

    def inpaint(self, tasks: Sequence[InpaintTask], guidance: float, watch: Watch) -> NDArray[np.float32]:
        """Like `generate`, for masked areas; the tasks share the denoising strength too.

        Every cell, 16 pixels square, that holds a pixel over 0 in the mask is made anew, so that the caller's soft edge
        blends from new pixels only. A strength of 0 gives the images back.

        Raises:
            ValueError: an image or a mask does not have its task's size.
        """
        for task in tasks:
            check_size(task)
        if tasks[0].denoising_strength == 0:
            return np.stack([task.image for task in tasks]).astype(np.float32) / np.float32(255)
        import torch
        from diffusers import FluxFillPipeline, FluxInpaintPipeline

        sampling = [task.task for task in tasks]
        steps = self.steps(sampling[0])
        done = steps_done(tasks[0].denoising_strength, steps)
        cell = self._cell()
        edges = [(0, -side % cell) for side in (sampling[0].height, sampling[0].width)]
        images = np.stack([np.pad(task.image, [*edges, (0, 0)], mode="edge") for task in tasks])
        masks = np.stack([np.pad(task.mask, edges) for task in tasks])
        cells = torch.nn.functional.max_pool2d(torch.from_numpy(masks)[:, None].gt(0).float(), cell)
        inputs = {
            "image": torch.from_numpy(images).permute(0, 3, 1, 2) / 255,
            "mask_image": cells.repeat_interleave(cell, 2).repeat_interleave(cell, 3),
            # diffusers brings steps * strength up to a whole number, and half a step keeps clear of rounding errors
            "strength": (done - 0.5) / steps,
        }
        return self._call(FluxFillPipeline if self.fill else FluxInpaintPipeline, sampling, guidance, inputs, watch)

    def tokens_cut(self, text: str) -> tuple[int, int]:
        """How many tokens of a text lie beyond T5's limit, and beyond CLIP's, and are not seen by that encoder."""
        clip, t5 = self.parts["tokenizer"], self.parts["tokenizer_2"]
        limits = {t5: self._t5_tokens(), clip: int(clip.model_max_length)}
        beyond_t5, beyond_clip = (
            max(0, len(tokenizer(text, verbose=False).input_ids) - limit) for tokenizer, limit in limits.items()
        )
        return beyond_t5, beyond_clip

    def _t5_tokens(self) -> int:
        return _T5_TOKENS if self.guided else _DISTILLED_T5_TOKENS

    def _cell(self) -> int:
        """The side in pixels of what the transformer sees as one."""
        halvings = len(self.parts["vae"].config.block_out_channels) - 1
        return int(_PACKED << halvings)

    def _call(
        self, kind: type[Any], tasks: Sequence[ImageTask], guidance: float, inputs: dict[str, Any], watch: Watch
    ) -> NDArray[np.float32]:
        import torch
        from diffusers import FlowMatchEulerDiscreteScheduler

        height, width = tasks[0].height, tasks[0].width
        cell = self._cell()
        with self.lock, torch.inference_mode(), self.memory.in_tiles(self.parts["vae"], tasks[0]):
            watch.begin(len(tasks), self.steps(tasks[0]))
            # A pipeline of its own, as schedulers hold state; by `__init__`, as `from_pipe` casts the shared weights.
            scheduler = FlowMatchEulerDiscreteScheduler.from_config(self.scheduler_config)  # type: ignore[no-untyped-call]
            pipeline = kind(**self.parts, scheduler=scheduler)
            pipeline.set_progress_bar_config(disable=True)
            if self.memory.offloaded:
                pipeline.enable_model_cpu_offload(device=self.device)
            images = pipeline(
                prompt=[task.prompt for task in tasks],
                generator=[torch.Generator("cpu").manual_seed(task.seed) for task in tasks],
                width=width + -width % cell,
                height=height + -height % cell,
                num_inference_steps=self.steps(tasks[0]),
                guidance_scale=self.guidance(guidance) or 0.0,
                max_sequence_length=self._t5_tokens(),
                output_type="np",
                callback_on_step_end=watch,
                **inputs,
            ).images
        return np.asarray(images, np.float32)[:, :height, :width]


def load_flux(names: ModelNames, options: Options) -> FluxModel:
    """The checkpoint in memory, loaded when this process has not done so, and downloaded when it is a new Hub id.

    Raises:
        SettingsError: the checkpoint or the device is not there.
        BackendError: it cannot be downloaded or loaded.
    """
    import torch

    device = pick_device(options.device)
    dtype = pick_dtype(options.dtype, device)
    checkpoint = names.find_checkpoint(FLUX) or _download(names)
    needs = parameters(checkpoint.paths()) * int(getattr(torch, dtype).itemsize)
    return MODELS.get(
        ("flux", checkpoint.folder.resolve(), device, dtype),
        lambda: _load(checkpoint, device, dtype, needs),
        version=checkpoint.fingerprint(),
        label=checkpoint.label,
        needs=needs,
        budget=options.budget or memory_budget(device),
    )


def _download(names: ModelNames) -> Checkpoint:
    from diffusers import FluxPipeline

    field, model = names.named("checkpoint"), names.checkpoint
    revision = f" --revision {names.revision}" if names.revision else ""
    hint = (
        f"Run, where the Hub can be reached: hf download {model}{revision}; some models ask for consent on their page "
        f"and for hf auth login first. Or set {field} to a folder in diffusers format."
    )
    fetch(
        field,
        model,
        lambda: FluxPipeline.download(model, revision=names.revision or None, use_safetensors=True),
        hint,
    )
    checkpoint = names.find_checkpoint(FLUX)
    if checkpoint is None:
        raise BackendError(f"{field}={model}: the Hub gave no complete Flux checkpoint.", hint)
    return checkpoint


def _load(checkpoint: Checkpoint, device: str, dtype: str, needs: int) -> FluxModel:
    import diffusers
    import torch

    without_progress_bars()
    offload = device == "cuda" and needs > torch.cuda.mem_get_info()[0]
    start = time.perf_counter()
    with loading(checkpoint.field, checkpoint.folder, device, dtype):
        pipeline = diffusers.DiffusionPipeline.from_pretrained(  # type: ignore[no-untyped-call]
            checkpoint.folder,
            dtype=getattr(torch, dtype),
            variant=checkpoint.variant,
            use_safetensors=True,
            local_files_only=True,
        )
        if not offload:
            pipeline.to(device)
    _log.info(
        "Loaded the Flux checkpoint %s, %.1f GiB, on %s as %s in %.1f s%s.",
        checkpoint.label,
        needs / 2**30,
        device,
        dtype,
        time.perf_counter() - start,
        ", part by part as it does not fit" if offload else "",
    )
    parts = dict(pipeline.components)
    scheduler = parts.pop("scheduler")
    return FluxModel(
        device=device,
        gpu=gpu_name(device),
        dtype=dtype,
        memory=Memory(device, offloaded=offload),
        fill=isinstance(pipeline, diffusers.FluxFillPipeline),
        parts=parts,
        scheduler_config=dict(scheduler.config),
    )

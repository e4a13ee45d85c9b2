"""A loaded SDXL checkpoint: one pipeline call over its weights, compiled or not, in as much memory as there is."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imaging.errors import BackendError
from resources.generators.base import ImageTask, InpaintTask
from resources.generators.diffusion.calls import Watch
from resources.generators.diffusion.devices import gpu_name, pick_device, pick_dtype
from resources.generators.diffusion.memory import Memory
from resources.generators.diffusion.model_cache import MODELS, memory_budget
from resources.generators.diffusion.options import Options
from resources.generators.diffusion.outcomes import check_size, steps_done
from resources.generators.diffusion.sdxl_loading import download, fetch_addons, load_parts
from resources.generators.diffusion.sdxl_prompts import PromptEncoder
from resources.generators.diffusion.sdxl_schedulers import make_scheduler
from resources.generators.diffusion.soft_mask import SoftMask, free_cells
from resources.models.names import ModelNames
from resources.models.weights import parameters
from resources.settings import dagster_home

COMPILER: Final = "inductor"  # the back end of torch.compile
COMPILE_MODES: Final = {"default": "default", "max": "max-autotune-no-cudagraphs"}
_CACHE_VARIABLE: Final = "TORCHINDUCTOR_CACHE_DIR"
COMPILED_BATCHES: Final = (1, 2, 4, 8, 16, 32, 64)
# The sizes that SDXL was trained at most (Podell et al. 2023, arXiv:2307.01952, appendix I) and that people use, as
# shares of its native 1024 pixels. Only these are compiled: each size costs a compilation of up to minutes.
_COMPILED_SIDES: Final = (
    (1024, 1024),
    (1152, 896),
    (1216, 832),
    (1344, 768),
    (1536, 640),
)
_TEXT_CHANNELS: Final = 4  # of a UNet that starts from noise alone; 9 take a mask and a masked image beside it


@dataclass(slots=True)
class Model:
    """A checkpoint in memory. Calls from several threads wait for each other: fp16 changes the VAE during a call.

    Attributes:
        device: `cuda`, `mps` or `cpu`.
        gpu: the name of the graphics card on cuda, else None.
        dtype: `bfloat16`, `float16` or `float32`.
        parts: UNet, VAE, text encoders and tokenizers by their names in diffusers, without the scheduler.
        scheduler_config: of the checkpoint's own scheduler.
        zero_negative: whether no negative prompt means zero embeddings, as the checkpoint says.
        native_size: side in pixels of the square that the UNet was made for.
        compile_mode: `off`, `default` or `max`.
        memory: how it gets along with the memory of the device.
    """

    device: str
    gpu: str | None
    dtype: str
    parts: dict[str, Any]
    scheduler_config: dict[str, Any]
    zero_negative: bool
    native_size: int
    memory: Memory
    compile_mode: str = "off"
    lock: threading.Lock = field(default_factory=threading.Lock)
    _compiled: dict[str, Any] = field(default_factory=dict)
    _encoders: dict[int, PromptEncoder] = field(default_factory=dict)

    def encoder(self, clip_skip: int, named: str = "FC_SDXL_CLIP_SKIP") -> PromptEncoder:
        """What makes the prompts' embeddings at a clip skip, over the parts that all share.

        Args:
            clip_skip: 1 to 12, as A1111 counts.
            named: the variable or the job's field that says it, for messages.

        Raises:
            SettingsError: a text encoder has fewer layers.
        """
        if clip_skip not in self._encoders:
            self._encoders[clip_skip] = PromptEncoder(
                self.parts, clip_skip=clip_skip, zero_negative=self.zero_negative, named=named
            )
        return self._encoders[clip_skip]

    def generate(self, tasks: Sequence[ImageTask], encoder: PromptEncoder, watch: Watch) -> NDArray[np.float32]:
        """Make one image per task in one call; all tasks share size, steps, CFG, scheduler, and length of the prompts.

        Returns:
            RGB of shape (tasks, height, width, 3), 0 to 1; NaN where the model overflowed.

        Raises:
            BackendError: the checkpoint can only inpaint, or cannot run the scheduler.
        """
        if self.parts["unet"].config.in_channels != _TEXT_CHANNELS:
            raise BackendError(
                "This is an inpainting checkpoint, which cannot make an image from text alone.",
                "Use a text-to-image checkpoint for the scene; those can inpaint too.",
            )
        from diffusers import StableDiffusionXLPipeline

        return self._call(StableDiffusionXLPipeline, tasks, {}, encoder, watch)

    def inpaint(
        self, tasks: Sequence[InpaintTask], encoder: PromptEncoder, watch: Watch, *, soft: bool = False
    ) -> NDArray[np.float32]:
        """Like `generate`, for masked areas; the tasks share the denoising strength too.

        Every cell of the latent grid that holds a pixel over 0 in the mask is made anew, so that the caller's soft edge
        blends from new pixels only. A strength of 0 gives the images back.

        Args:
            tasks: what to make.
            encoder: makes the prompts' embeddings.
            watch: told of every step.
            soft: whether each cell is made anew by as many of the steps as the highest pixel of its mask says, the last
                ones (`soft_mask`). A mask of 0 and 255 alone gives the same bytes either way. An inpainting checkpoint
                sees the mask itself, so it is always run with the whole one.

        Raises:
            ValueError: an image or a mask does not have its task's size.
            BackendError: the checkpoint cannot run the scheduler.
        """
        for task in tasks:
            check_size(task)
        if tasks[0].denoising_strength == 0:
            return np.stack([task.image for task in tasks]).astype(np.float32) / np.float32(255)
        import torch
        from diffusers import StableDiffusionXLInpaintPipeline

        pixels = torch.from_numpy(np.stack([task.image for task in tasks])).permute(0, 3, 1, 2) / 255
        masks = torch.from_numpy(np.stack([task.mask for task in tasks]))[:, None]
        cell = 2 ** (len(self.parts["vae"].config.block_out_channels) - 1)
        strengths = torch.nn.functional.max_pool2d(masks.float() / 255, cell)
        soft = soft and self.takes_soft_masks
        sampling = [task.task for task in tasks]
        steps = sampling[0].steps
        done = steps_done(tasks[0].denoising_strength, steps)
        cells = free_cells(strengths, 1 / done if soft else 1.0)
        inputs = {
            "image": pixels,
            "mask_image": cells.repeat_interleave(cell, 2).repeat_interleave(cell, 3),
            # diffusers cuts steps * strength to a whole number, and half a step keeps clear of its rounding errors
            "strength": min(1.0, (done + 0.5) / steps),
        }
        return self._call(
            StableDiffusionXLInpaintPipeline, sampling, inputs, encoder, watch, strengths if soft else None
        )

    @property
    def takes_soft_masks(self) -> bool:
        """Whether each cell can have a strength of its own: not so in an inpainting checkpoint."""
        return bool(self.parts["unet"].config.in_channels == _TEXT_CHANNELS)

    def is_compiled(self, task: ImageTask) -> bool:
        """Whether an image like this one is made by compiled parts."""
        eager = {"tiled VAE", "offload"} & set(self.memory.savings(task))
        return self.compile_mode != "off" and not eager and (task.width, task.height) in self._compiled_sizes()

    def _compiled_sizes(self) -> set[tuple[int, int]]:
        sides = {
            (width * self.native_size // 1024, height * self.native_size // 1024) for width, height in _COMPILED_SIDES
        }
        return sides | {(height, width) for width, height in sides}

    def _call(
        self,
        kind: type[Any],
        tasks: Sequence[ImageTask],
        inputs: dict[str, Any],
        encoder: PromptEncoder,
        watch: Watch,
        strengths: Any = None,  # noqa: ANN401 - a tensor: the strength of each cell of each image
    ) -> NDArray[np.float32]:
        import torch

        first = tasks[0]
        wanted = len(tasks)
        parts = self.parts
        if self.is_compiled(first):
            # A batch of another size would be compiled anew, so that the last image fills up a known one.
            missing = next((size for size in COMPILED_BATCHES if size >= wanted), wanted) - wanted
            tasks = [*tasks, *[tasks[-1]] * missing]
            inputs = {name: _padded(value, missing) for name, value in inputs.items()}
            strengths = _padded(strengths, missing)
            parts = self._compiled_parts()
        # A pipeline of its own, as schedulers hold state; by `__init__`, as `from_pipe` casts the shared weights.
        pipeline = kind(
            **parts,
            scheduler=make_scheduler(first.scheduler, self.scheduler_config),
            add_watermarker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        prompts, negatives = [task.prompt for task in tasks], [task.negative_prompt or None for task in tasks]
        with self.lock, torch.inference_mode(), self.memory.in_tiles(self.parts["vae"], first):
            watch.begin(wanted, first.steps, first_step_counts=parts is self.parts)
            if self.memory.offloaded:
                pipeline.enable_model_cpu_offload(device=self.device)
            try:
                images = pipeline(
                    **encoder.encode(prompts, negatives),
                    generator=[torch.Generator("cpu").manual_seed(task.seed) for task in tasks],
                    width=first.width,
                    height=first.height,
                    num_inference_steps=first.steps,
                    guidance_scale=first.cfg_scale,
                    output_type="np",
                    callback_on_step_end=watch if strengths is None else SoftMask(strengths, watch),
                    **inputs,
                ).images
            finally:
                # Diffusers runs some VAEs in float32 for a moment; an error in that moment would leave them there.
                if self.parts["vae"].dtype != getattr(torch, self.dtype):
                    self.parts["vae"].to(getattr(torch, self.dtype))
        return np.asarray(images[:wanted], np.float32)

    def _compiled_parts(self) -> dict[str, Any]:
        """The parts, those that take the time compiled; the weights are the same ones."""
        if not self._compiled:
            import torch

            _keep_compiled()
            # Beyond its limit (8), dynamo runs uncompiled without a word.
            torch._dynamo.config.recompile_limit = 256  # noqa: SLF001
            compiled = functools.partial(
                torch.compile, backend=COMPILER, dynamic=False, **_compiler_options(self.compile_mode)
            )
            if self.device == "cuda":  # the layout in which its convolutions are quickest
                self.parts["unet"].to(memory_format=torch.channels_last)
                self.parts["vae"].to(memory_format=torch.channels_last)
            vae = copy_of_module(self.parts["vae"])
            vae.decoder = compiled(vae.decoder)
            self._compiled = {**self.parts, "unet": compiled(self.parts["unet"]), "vae": vae}
        return self._compiled


def _keep_compiled() -> None:
    """Let the next process load what this one compiles, from the data folder, unless the user named another one."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    # Merely importing dynamo, as diffusers does, sets the variable to a folder for temporary files.
    if os.environ.get(_CACHE_VARIABLE) in (None, default_cache_dir()):
        os.environ[_CACHE_VARIABLE] = str(dagster_home() / "data" / "torch-compile")


def _compiler_options(mode: str) -> dict[str, Any]:
    return {"mode": COMPILE_MODES[mode]} if COMPILER == "inductor" else {}


def copy_of_module(module: Any) -> Any:  # noqa: ANN401 - a torch module, and torch must not be imported here
    """A module over the same weights whose children can be replaced without touching the first one's."""
    import copy

    twin = copy.copy(module)
    twin._modules = dict(module._modules)  # noqa: SLF001 - what torch's own `replicate` does
    return twin


def _padded(value: Any, more: int) -> Any:  # noqa: ANN401 - a tensor is padded along its first axis
    import torch

    if not more or not isinstance(value, torch.Tensor):
        return value
    return torch.cat([value, value[-1:].repeat(more, *[1] * (value.ndim - 1))])


_loading = threading.Lock()


def load_model(names: ModelNames, options: Options) -> Model:
    """The checkpoint in memory, loaded when this process has not done so, and downloaded when it is a new Hub id.

    One load serves every clip skip; other addons are another version of the same model, which then goes.

    Raises:
        SettingsError: the checkpoint or the device is not there.
        BackendError: it cannot be downloaded or loaded.
    """
    import torch

    device = pick_device(options.device)
    dtype = pick_dtype(options.dtype, device)
    with _loading:
        checkpoint = names.find_checkpoint() or download(names)
        addons = fetch_addons(names.find_addons())

        def load() -> Model:
            loaded = load_parts(checkpoint, device, dtype, addons)
            return Model(
                device=device,
                gpu=gpu_name(device),
                dtype=dtype,
                parts=loaded.parts,
                scheduler_config=loaded.scheduler_config,
                zero_negative=loaded.zero_negative,
                native_size=checkpoint.native_size(),
                memory=Memory(device),
                compile_mode=options.compile_mode,
            )

        return MODELS.get(
            ("sdxl", checkpoint.path.resolve(), device, dtype, options.compile_mode),
            load,
            version=checkpoint.fingerprint() + addons.fingerprint(),
            label=checkpoint.label,
            needs=parameters(checkpoint.paths()) * int(getattr(torch, dtype).itemsize),
            budget=options.budget or memory_budget(device),
        )

"""What SDXL and Flux have in common around a call: a task's share of the steps, one that failed, versions."""

from __future__ import annotations

import functools
import importlib.metadata
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from imaging.errors import BackendError, OutOfMemoryError
from resources.generators.base import Generated, ImageTask, InpaintTask, Outcome
from resources.generators.diffusion.memory import Memory, is_out_of_memory


@dataclass(slots=True, kw_only=True)
class Loaded:
    """A checkpoint in memory. Calls from several threads wait for each other, as a call may move or change weights.

    Attributes:
        family: what it is, for people.
        device: `cuda`, `mps` or `cpu`.
        gpu: the name of the graphics card on cuda, else None.
        dtype: `bfloat16`, `float16` or `float32`.
        parts: its models and tokenizers by their names in diffusers, without the scheduler.
        scheduler_config: of the checkpoint's own scheduler.
        memory: how it gets along with the memory of the device.
    """

    family: ClassVar[str]

    device: str
    gpu: str | None
    dtype: str
    parts: dict[str, Any]
    scheduler_config: dict[str, Any]
    memory: Memory
    lock: threading.Lock = field(default_factory=threading.Lock)


def finished(
    model: Loaded, task: ImageTask | InpaintTask, steps: int, image: NDArray[np.float32], details: Mapping[str, Any]
) -> Outcome:
    """The outcome of a task.

    Args:
        model: what made the image.
        task: what was asked for.
        steps: those of a full run.
        image: RGB of shape (height, width, 3), 0 to 1; NaN where the model overflowed.
        details: what is recorded beside device, dtype, steps and versions.
    """
    sampling = sampling_of(task)
    if not np.isfinite(image).all():
        return BackendError(
            f"Job {sampling.job_id}: the model's output in {model.dtype} is not finite (NaN), which shows as black.",
            f"Set FC_SDXL_DTYPE to bfloat16 or float32, as {model.family} may overflow in float16; if it is one of "
            "them already, try another CFG scale, prompt or checkpoint.",
        )
    made = {
        "device": model.device,
        "gpu": model.gpu,
        "dtype": model.dtype,
        "memory_savings": model.memory.savings(sampling),
        "denoising_steps": steps_done(task.denoising_strength, steps) if isinstance(task, InpaintTask) else steps,
    }
    return Generated(np.rint(image * 255).astype(np.uint8), {**made, **details, **versions()})


def failed(model: Loaded, task: ImageTask | InpaintTask, error: Exception) -> BackendError:
    """The error of one task, with its job and size named."""
    sampling = sampling_of(task)
    size = f"{sampling.width}x{sampling.height} pixels, {model.dtype} on {model.device}"
    if isinstance(error, BackendError):
        outcome: BackendError = error.prefixed(f"Job {sampling.job_id}: ")
    elif is_out_of_memory(error):
        outcome = OutOfMemoryError(
            f"Job {sampling.job_id}: the {model.device} is out of memory ({size}, one image alone).",
            "Ask for a smaller image, set a smaller FC_FACE_SIZE, stop other programs on the device, or set "
            "FC_SDXL_DTYPE=bfloat16.",
        )
    else:
        outcome = BackendError(
            f"Job {sampling.job_id}: {model.family} failed ({size}; {type(error).__name__}: {error}).",
            "Report it with the request; another size, scheduler or prompt may work.",
        )
    outcome.__cause__ = error
    return outcome


def check_size(task: InpaintTask) -> None:
    """Nothing when image and mask have the size of the task.

    Raises:
        ValueError: they do not.
    """
    size = (task.task.height, task.task.width)
    if task.image.shape != (*size, 3) or task.mask.shape != size:
        raise ValueError(f"image {task.image.shape} and mask {task.mask.shape} do not have the task's size {size}")


def sampling_of(task: ImageTask | InpaintTask) -> ImageTask:
    """Prompt, seed and sampling settings of a task of either kind."""
    return task.task if isinstance(task, InpaintTask) else task


def steps_done(strength: float, steps: int) -> int:
    """How many of the steps an inpainting does: its strength's share of them, rounded down; 0 only at strength 0."""
    return max(1, math.floor(steps * strength + 1e-6)) if strength else 0


@functools.cache
def versions() -> dict[str, str]:
    """The versions of the libraries that decide pixels."""
    return {package: importlib.metadata.version(package) for package in ("torch", "diffusers", "transformers")}

"""What SDXL and Flux have in common around a call: a task's share of the steps, one that failed, versions."""

from __future__ import annotations

import functools
import importlib.metadata
import math

from imaging.errors import BackendError, OutOfMemoryError
from resources.generators.base import ImageTask, InpaintTask
from resources.generators.diffusion.memory import is_out_of_memory


def failure(task: ImageTask | InpaintTask, error: Exception, *, model: str, device: str, dtype: str) -> BackendError:
    """The error of one task, with its job and size named; `model` is what failed, for people."""
    sampling = sampling_of(task)
    size = f"{sampling.width}x{sampling.height} pixels, {dtype} on {device}"
    if isinstance(error, BackendError):
        failed: BackendError = error.behind(f"Job {sampling.job_id}: ")
    elif is_out_of_memory(error):
        failed = OutOfMemoryError(
            f"Job {sampling.job_id}: the {device} is out of memory ({size}, one image alone).",
            "Ask for a smaller image, set a smaller FC_FACE_SIZE, stop other programs on the device, or set "
            "FC_SDXL_DTYPE=bfloat16.",
        )
    else:
        failed = BackendError(
            f"Job {sampling.job_id}: {model} failed ({size}; {type(error).__name__}: {error}).",
            "Report it with the request; another size, scheduler or prompt may work.",
        )
    failed.__cause__ = error
    return failed


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

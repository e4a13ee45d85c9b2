"""What SDXL and Flux have in common around a call: their settings, a task that failed, versions."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from pydantic import ValidationError

from imaging.errors import BackendError, OutOfMemoryError, SettingsError
from resources.generators.base import ImageTask, InpaintTask
from resources.generators.diffusion.memory import is_out_of_memory
from resources.settings import Settings

_VARIABLES: Final = {
    "compile_mode": "FC_SDXL_COMPILE",
    "face_size": "FC_FACE_SIZE",
    "image_timeout": "FC_IMAGE_TIMEOUT",
    "memory": "FC_MODEL_MEMORY",
    "soft_inpaint": "FC_FACE_SOFT_INPAINT",
}


def shared_values(settings: Settings, setting: str, generator: str, hint: str) -> dict[str, Any]:
    """What the settings say of the fields that every generator on diffusers has.

    Args:
        settings: all settings; device, dtype and batch size are those of SDXL.
        setting: the variable that holds the model. A revision can be set for `FC_SDXL_MODEL` only.
        generator: its name, for the error.
        hint: what may be put into the variable.

    Raises:
        SettingsError: the variable is not set.
    """
    faces = setting == "FC_FACE_MODEL"
    model = settings.face_model if faces else settings.sdxl_model
    if not model:
        raise SettingsError(f"{setting} is not set, and the generator {generator} needs a checkpoint.", hint)
    return {
        "model": model,
        "revision": "" if faces else settings.sdxl_revision,
        "device": settings.sdxl_device,
        "dtype": settings.sdxl_dtype,
        "batch_size": settings.sdxl_batch_size,
        "face_size": settings.face_size,
        "image_timeout": settings.image_timeout,
        "memory": settings.model_memory,
        "setting": setting,
    }


@contextmanager
def settings_told() -> Iterator[None]:
    """Inside, a field that a generator cannot take is told by its variable.

    Raises:
        SettingsError: names each one, and why.
    """
    try:
        yield
    except ValidationError as error:
        problems = [
            f"{_VARIABLES.get(field, f'FC_SDXL_{field.upper()}')}={problem['input']}: {problem['msg']}"
            for problem in error.errors()
            for field in [str(problem["loc"][0])]
        ]
        raise SettingsError(
            f"These settings cannot be used: {'; '.join(problems)}.",
            "Correct them in the environment or in .env; .env.example explains each.",
        ) from None


def failure(task: ImageTask | InpaintTask, error: Exception, *, model: str, device: str, dtype: str) -> BackendError:
    """The error of one task, with its job and size named; `model` is what failed, for people."""
    sampling = sampling_of(task)
    size = f"{sampling.width}x{sampling.height} pixels, {dtype} on {device}"
    if isinstance(error, BackendError):
        failed: BackendError = error.prefixed(f"Job {sampling.job_id}: ")
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


@functools.cache
def versions() -> dict[str, str]:
    """The versions of the libraries that decide pixels."""
    return {package: importlib.metadata.version(package) for package in ("torch", "diffusers", "transformers")}

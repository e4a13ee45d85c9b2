"""The generator `sdxl`: Stable Diffusion XL through diffusers, from text and inside masks.

Belongs here: which images share a pipeline call, and one outcome per image. Does not: the checkpoint's files
(`sdxl_checkpoint`), what is added to them (`sdxl_addons`), the weights and the call itself (`sdxl_model`), the samplers
(`sdxl_schedulers`).
"""

from __future__ import annotations

import functools
import importlib.metadata
import logging
import time
import traceback
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import dagster as dg
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from imaging.errors import BackendError, SettingsError
from resources.generators.base import Generated, ImageTask, InpaintTask, Outcome
from resources.generators.sdxl_addons import Addons
from resources.generators.sdxl_checkpoint import BASE, HUB_SIZE, Checkpoint, find_checkpoint
from resources.generators.sdxl_model import Model, free_memory, load_model, steps_done
from resources.generators.sdxl_schedulers import SCHEDULERS
from resources.settings import Settings

_log = logging.getLogger(__name__)

Task = TypeVar("Task", ImageTask, InpaintTask)


class SdxlGenerator(dg.ConfigurableResource):  # type: ignore[type-arg]
    """SDXL on a GPU, or slowly on a CPU. The weights are loaded at the first image, once per process.

    Text-to-image and inpainting run over the same weights. Each image draws its noise from a CPU generator of its own,
    so a seed means the same noise on every device and in every batch. The same tasks in the same batches give the same
    bytes on one device; in other batches a value may differ by 1 of 255.
    """

    name: ClassVar[str] = "sdxl"

    model: str = Field(description="SDXL checkpoint: Hub id, diffusers folder, or single .safetensors file.")
    revision: str = Field("", description="Branch, tag or commit of a Hub id; empty: main.")
    config: str = Field(BASE, description="Configs and tokenizers for a single file: Hub id or diffusers folder.")
    vae: str = Field("", description="Another VAE: Hub id, diffusers folder, or single .safetensors file.")
    loras: list[str] = Field([], description="LoRAs: .safetensors file or Hub id, then =WEIGHT when it is not 1.")
    embeddings: list[str] = Field([], description="Textual inversions, .safetensors files; a file's name is its word.")
    device: Literal["auto", "cuda", "mps", "cpu"] = Field(
        "auto", description="Where it runs; auto: cuda, else mps, else cpu."
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto", description="What it computes in; auto: bfloat16 on cuda, else float32."
    )
    batch_size: int = Field(8, ge=1, le=64, description="Most images that one pipeline call makes.")
    face_size: int = Field(
        0, ge=0, le=2048, multiple_of=8, description="Side of the face pass in pixels; 0: the model's own."
    )

    @classmethod
    def from_settings(cls, settings: Settings) -> SdxlGenerator:
        """The generator that the settings describe; nothing is loaded yet.

        Raises:
            SettingsError: names each variable that cannot be used, and why.
        """
        if not settings.sdxl_model:
            raise SettingsError(
                "FC_SDXL_MODEL is not set, and the generator sdxl needs a checkpoint.",
                "Set it to a .safetensors file, a folder in diffusers format or a Hub id, or set FC_GENERATOR=sketch.",
            )
        values: dict[str, Any] = {
            "model": settings.sdxl_model,
            "revision": settings.sdxl_revision,
            "config": settings.sdxl_config,
            "vae": settings.sdxl_vae,
            "loras": settings.sdxl_loras,
            "embeddings": [str(file) for file in settings.sdxl_embeddings],
            "device": settings.sdxl_device,
            "dtype": settings.sdxl_dtype,
            "batch_size": settings.sdxl_batch_size,
            "face_size": settings.face_size,
        }
        try:
            return cls(**values)
        except ValidationError as error:
            problems = [
                f"{'FC_' if problem['loc'] == ('face_size',) else 'FC_SDXL_'}{str(problem['loc'][0]).upper()}="
                f"{problem['input']}: {problem['msg']}"
                for problem in error.errors()
            ]
            raise SettingsError(
                f"These settings cannot be used: {'; '.join(problems)}.",
                "Correct them in the environment or in .env; .env.example explains each.",
            ) from None

    def describe(self) -> dict[str, Any]:
        """The checkpoint, what is added to it, device and dtype as they are set, and the versions of the libraries.

        Neither torch nor a network is touched. `auto` is told as `auto`: what it became stands in each image's details.
        For a Hub id that was never downloaded here, `weights` and `commit` are None.

        Raises:
            SettingsError: the checkpoint is not there or not whole.
        """
        checkpoint = self._checkpoint()
        return {
            "generator": self.name,
            "model": checkpoint.label if checkpoint else _own_name(self.model),
            "commit": checkpoint.commit if checkpoint else None,
            "weights": checkpoint.fingerprint() if checkpoint else None,
            **self._addons().describe(),
            "device": self.device,
            "dtype": self.dtype,
            **_versions(),
        }

    def native_size(self) -> int:
        """`face_size`, or the size that the UNet was made for; 1024 for a Hub id that was never downloaded here.

        Raises:
            SettingsError: the checkpoint is not there or not whole.
        """
        if self.face_size:
            return self.face_size
        checkpoint = self._checkpoint()
        return checkpoint.native_size() if checkpoint else HUB_SIZE

    def generate(self, tasks: Sequence[ImageTask]) -> Iterator[Outcome]:
        """Make one image per task; see `Generator.generate`.

        Raises:
            SettingsError: the checkpoint or the device is not there.
            BackendError: the checkpoint cannot be downloaded or loaded.
        """
        yield from self._run(tasks, _sampling, Model.generate)

    def inpaint(self, tasks: Sequence[InpaintTask]) -> Iterator[Outcome]:
        """Make one masked area anew per task; see `Generator.inpaint`. A strength of 0 gives the image back.

        Raises:
            SettingsError: the checkpoint or the device is not there.
            BackendError: the checkpoint cannot be downloaded or loaded.
        """
        yield from self._run(tasks, _inpaint_sampling, Model.inpaint)

    def _checkpoint(self) -> Checkpoint | None:
        return find_checkpoint(self.model, self.revision, self.config)

    def _addons(self) -> Addons:
        return Addons.find(self.vae, self.loras, self.embeddings)

    def _run(
        self,
        tasks: Sequence[Task],
        key: Callable[[Task], Hashable],
        call: Callable[[Model, Sequence[Task]], NDArray[np.float32]],
    ) -> Iterator[Outcome]:
        """One outcome per task, in order; a batch is made when the first of its tasks is due."""
        if not tasks:
            return
        model = load_model(self.model, self.revision, self.device, self.dtype, self.config, self._addons())
        batch_of = {
            index: batch for batch in batches([key(task) for task in tasks], self.batch_size) for index in batch
        }
        made: dict[int, Outcome] = {}
        for index in range(len(tasks)):
            if index not in made:
                batch = batch_of[index]
                made.update(zip(batch, _outcomes(model, [tasks[other] for other in batch], call), strict=True))
            yield made.pop(index)


def _own_name(model: str) -> str:
    """What a single file whose configs are not here, or a Hub id, is called: never a path of this machine."""
    path = Path(model).expanduser()
    return path.stem if path.is_absolute() else model


def batches(keys: Sequence[Hashable], size: int) -> list[list[int]]:
    """The indices of equal keys together, at most `size` in a batch, each batch in ascending order."""
    groups: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        groups.setdefault(key, []).append(index)
    return [group[start : start + size] for group in groups.values() for start in range(0, len(group), size)]


def _sampling(task: ImageTask) -> tuple[Hashable, ...]:
    """What the images of one call share. No negative prompt is another thing to SDXL than an empty one."""
    return (task.width, task.height, task.steps, task.cfg_scale, task.scheduler, bool(task.negative_prompt))


def _inpaint_sampling(task: InpaintTask) -> tuple[Hashable, ...]:
    return (*_sampling(task.task), task.denoising_strength)


def _outcomes(
    model: Model, tasks: Sequence[Task], call: Callable[[Model, Sequence[Task]], NDArray[np.float32]]
) -> list[Outcome]:
    """One batch; when it fails, its tasks one by one, so that only the bad ones fail."""
    start = time.perf_counter()
    try:
        images = call(model, tasks)
    except Exception as error:  # noqa: BLE001 - told as the outcome of each task that fails alone
        failure = error
    else:
        seconds = (time.perf_counter() - start) / len(tasks)
        return [
            _finished(
                model, task, image, {"batch_size": len(tasks), "batch_index": index, "seconds": round(seconds, 4)}
            )
            for index, (task, image) in enumerate(zip(tasks, images, strict=True))
        ]
    traceback.clear_frames(failure.__traceback__)  # they hold the call's tensors in the GPU's memory
    free_memory()
    if len(tasks) == 1:
        return [_failed(model, tasks[0], failure)]
    _log.warning("A batch of %d images failed, so they are made one by one: %s", len(tasks), failure)
    return [outcome for task in tasks for outcome in _outcomes(model, [task], call)]


def _finished(model: Model, task: Task, image: NDArray[np.float32], batch: Mapping[str, Any]) -> Outcome:
    sampling = _sampling_of(task)
    if not np.isfinite(image).all():
        return BackendError(
            f"Job {sampling.job_id}: the model's output in {model.dtype} is not finite (NaN), which shows as black.",
            "Set FC_SDXL_DTYPE to bfloat16 or float32, as the original VAE of SDXL overflows in float16; if it is one "
            "of them already, try another CFG scale, prompt or checkpoint.",
        )
    return Generated(
        np.rint(image * 255).astype(np.uint8),
        {
            "device": model.device,
            "gpu": model.gpu,
            "dtype": model.dtype,
            **batch,
            "scheduler_class": SCHEDULERS[sampling.scheduler][0],
            "denoising_steps": steps_done(task.denoising_strength, sampling.steps)
            if isinstance(task, InpaintTask)
            else sampling.steps,
            "prompt_tokens_cut": model.tokens_cut(sampling.prompt),
            "negative_tokens_cut": model.tokens_cut(sampling.negative_prompt),
            **_versions(),
        },
    )


def _failed(model: Model, task: Task, error: Exception) -> BackendError:
    sampling = _sampling_of(task)
    size = f"{sampling.width}x{sampling.height} pixels, {model.dtype} on {model.device}"
    if isinstance(error, BackendError):
        failed = type(error)(f"Job {sampling.job_id}: {error.what}", error.mend)
    elif any(words in str(error).lower() for words in ("out of memory", "can't allocate memory")):
        failed = BackendError(
            f"Job {sampling.job_id}: the {model.device} is out of memory ({size}, one image alone).",
            "Ask for a smaller image, stop other programs on the device, or set FC_SDXL_DTYPE=bfloat16.",
        )
    else:
        failed = BackendError(
            f"Job {sampling.job_id}: SDXL failed ({size}; {type(error).__name__}: {error}).",
            "Report it with the request; another size, scheduler or prompt may work.",
        )
    failed.__cause__ = error
    return failed


def _sampling_of(task: ImageTask | InpaintTask) -> ImageTask:
    return task.task if isinstance(task, InpaintTask) else task


@functools.cache
def _versions() -> dict[str, str]:
    return {package: importlib.metadata.version(package) for package in ("torch", "diffusers", "transformers")}

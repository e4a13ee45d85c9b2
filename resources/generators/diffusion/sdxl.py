"""The generator `sdxl`: Stable Diffusion XL through diffusers, from text and inside masks."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import dagster as dg
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from imaging.errors import BackendError
from resources.generators.base import NOTHING_CHOSEN, Generated, ImageTask, InpaintTask, ModelChoice, Outcome
from resources.generators.diffusion.calls import Calls, Watch, run_batches
from resources.generators.diffusion.outcomes import failure, sampling_of, settings_told, shared_values, versions
from resources.generators.diffusion.sdxl_model import Model, load_model, steps_done
from resources.generators.diffusion.sdxl_schedulers import SCHEDULERS
from resources.models.addons import Addons
from resources.models.checkpoint import BASE, HUB_SIZE, Checkpoint, find_checkpoint, told_of
from resources.settings import Settings

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
    clip_skip: int = Field(2, ge=1, le=12, description="Clip skip as A1111 counts; 2 is what SDXL was made with.")
    compile_mode: Literal["off", "default", "max"] = Field("off", description="torch.compile: off, default or max.")
    memory: float = Field(0.0, ge=0, description="GiB that all loaded models may take; 0: what the device has.")
    image_timeout: float = Field(300.0, gt=0, description="Seconds that one image may take.")
    batch_size: int = Field(8, ge=1, le=64, description="Most images that one pipeline call makes.")
    face_size: int = Field(
        0, ge=0, le=2048, multiple_of=8, description="Side of the face pass in pixels; 0: the model's own."
    )
    soft_inpaint: Literal["auto", "off"] = Field(
        "auto", description="auto: less is changed where the mask fades, where the model can; off: all alike."
    )

    setting: Literal["FC_SDXL_MODEL", "FC_FACE_MODEL"] = Field(
        "FC_SDXL_MODEL", description="The variable that `model` is from, for error messages."
    )

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        setting: Literal["FC_SDXL_MODEL", "FC_FACE_MODEL"] = "FC_SDXL_MODEL",
        choice: ModelChoice = NOTHING_CHOSEN,  # noqa: ARG003
    ) -> SdxlGenerator:
        """The generator that the settings describe; nothing is loaded yet.

        Args:
            settings: all settings; VAE, LoRAs and words are added to a model of the face pass too.
            setting: the variable that holds the model. A revision can be set for `FC_SDXL_MODEL` only.
            choice: what a job says of the model.

        Raises:
            SettingsError: names each variable that cannot be used, and why.
        """
        hint = "Set it to a .safetensors file, a folder in diffusers format or a Hub id, or set FC_GENERATOR=sketch."
        values = shared_values(settings, setting, "sdxl", hint) | {
            "config": settings.sdxl_config,
            "vae": settings.sdxl_vae,
            "loras": settings.sdxl_loras,
            "embeddings": [str(file) for file in settings.sdxl_embeddings],
            "soft_inpaint": settings.face_soft_inpaint,
            "clip_skip": settings.sdxl_clip_skip,
            "compile_mode": settings.sdxl_compile,
        }
        with settings_told():
            return cls(**values)

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
            "compile": self.compile_mode,
            "clip_skip": self.clip_skip,
            "soft_inpaint": self.soft_inpaint,
            "prompt_syntax": "A1111",
            **versions(),
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
        yield from self._run(tasks, _inpaint_sampling, partial(Model.inpaint, soft=self.soft_inpaint == "auto"))

    def _checkpoint(self) -> Checkpoint | None:
        with told_of(self.setting):
            return find_checkpoint(self.model, self.revision, self.config)

    def _addons(self) -> Addons:
        return Addons.find(self.vae, self.loras, self.embeddings)

    def _run(
        self,
        tasks: Sequence[Task],
        key: Callable[[Model, Task], Hashable],
        call: Callable[[Model, Sequence[Task], Watch], NDArray[np.float32]],
    ) -> Iterator[Outcome]:
        if not tasks:
            return
        budget = int(self.memory * 2**30) or None
        with told_of(self.setting):
            model = load_model(
                self.model,
                self.revision,
                self.device,
                self.dtype,
                config=self.config,
                addons=self._addons(),
                compile_mode=self.compile_mode,
                clip_skip=self.clip_skip,
                budget=budget,
            )
        calls = Calls(
            model,
            partial(call, model),
            sampling_of,
            finished=partial(_finished, model),
            failed=partial(failure, model="SDXL", device=model.device, dtype=model.dtype),
        )
        yield from run_batches(
            tasks, key=partial(key, model), size=self.batch_size, make=calls.outcomes, seconds=self.image_timeout
        )


def _own_name(model: str) -> str:
    """What a single file whose configs are not here, or a Hub id, is called: never a path of this machine."""
    path = Path(model).expanduser()
    return path.stem if path.is_absolute() else model


def _sampling(model: Model, task: ImageTask) -> tuple[Hashable, ...]:
    """What the images of one call share. The shorter of two prompts would be filled up, which shows in its picture."""
    chunks = model.encoder.chunk_count(task.prompt, task.negative_prompt or None)
    return (task.width, task.height, task.steps, task.cfg_scale, task.scheduler, chunks)


def _inpaint_sampling(model: Model, task: InpaintTask) -> tuple[Hashable, ...]:
    return (*_sampling(model, task.task), task.denoising_strength)


def _finished(model: Model, task: Task, image: NDArray[np.float32], batch: Mapping[str, Any]) -> Outcome:
    sampling = sampling_of(task)
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
            "compiled": model.is_compiled(sampling),
            "memory_savings": model.memory.savings(sampling),
            "scheduler_class": SCHEDULERS[sampling.scheduler][0],
            "denoising_steps": steps_done(task.denoising_strength, sampling.steps)
            if isinstance(task, InpaintTask)
            else sampling.steps,
            "prompt_tokens": model.encoder.token_count(sampling.prompt),
            "negative_tokens": model.encoder.token_count(sampling.negative_prompt),
            **versions(),
        },
    )

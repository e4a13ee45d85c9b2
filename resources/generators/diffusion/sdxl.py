"""The generator `sdxl`: Stable Diffusion XL through diffusers, from text and inside masks."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from resources.generators.base import NOTHING_CHOSEN, SAMPLING_FIELDS, ImageTask, InpaintTask, ModelChoice, Outcome
from resources.generators.choice import check_honoured
from resources.generators.diffusion.calls import Calls, Watch, run_batches
from resources.generators.diffusion.options import Options, Setting, model_names
from resources.generators.diffusion.outcomes import finished, sampling_of, versions
from resources.generators.diffusion.sdxl_model import Model, load_model
from resources.generators.diffusion.sdxl_prompts import PromptEncoder
from resources.generators.diffusion.sdxl_schedulers import SCHEDULERS
from resources.models.checkpoint import HUB_SIZE
from resources.models.hashes import infotext
from resources.models.names import ModelNames
from resources.settings import Settings

Task = TypeVar("Task", ImageTask, InpaintTask)


@dataclass(frozen=True, slots=True)
class SdxlGenerator:
    """SDXL on a GPU, or slowly on a CPU. The weights are loaded at the first image, once per process.

    Text-to-image and inpainting run over the same weights. Each image draws its noise from a CPU generator of its own,
    so a seed means the same noise on every device and in every batch. The same tasks in the same batches give the same
    bytes on one device; in other batches a value may differ by 1 of 255.

    Attributes:
        names: the checkpoint, and what is added to it.
        options: how it runs.
        soft_inpaint: `auto`: less is changed where the mask fades, where the model can; `off`: all alike.
    """

    name: ClassVar[str] = "sdxl"
    HONOURS: ClassVar[frozenset[str]] = frozenset(
        {"checkpoint", "revision", "vae", "loras", "embeddings", "clip_skip", "more_loras"}
    )

    names: ModelNames
    options: Options
    soft_inpaint: str = "auto"

    @classmethod
    def from_settings(
        cls, settings: Settings, setting: Setting = "FC_SDXL_MODEL", choice: ModelChoice = NOTHING_CHOSEN
    ) -> SdxlGenerator:
        """The generator that the settings describe; nothing is loaded yet.

        Args:
            settings: all settings; VAE, LoRAs and words are added to a model of the face pass too.
            setting: the variable that holds the model. A revision can be set for `FC_SDXL_MODEL` only.
            choice: what a job says in place of the settings.

        Raises:
            SettingsError: names each variable that cannot be used, and why.
        """
        check_honoured(cls.name, cls.HONOURS, choice)
        hint = "Set it to a .safetensors file, a folder in diffusers format or a Hub id, or set FC_GENERATOR=sketch."
        names = model_names(settings, setting, hint, choice, cls.name)
        return cls(names, Options.from_settings(settings), settings.face_soft_inpaint)

    def describe(self) -> dict[str, Any]:
        """The checkpoint, what is added to it, device and dtype as they are set, and the versions of the libraries.

        Neither torch nor a network is touched. `auto` is told as `auto`: what it became stands in each image's details.
        For a Hub id that was never downloaded here, `weights` and `commit` are None.

        Raises:
            SettingsError: the checkpoint is not there or not whole.
        """
        checkpoint = self.names.find_checkpoint()
        return {
            "generator": self.name,
            "model": checkpoint.label if checkpoint else _own_name(self.names.checkpoint),
            "commit": checkpoint.commit if checkpoint else None,
            "weights": checkpoint.fingerprint() if checkpoint else None,
            **self.names.find_addons().describe(),
            "device": self.options.device,
            "dtype": self.options.dtype,
            "compile": self.options.compile_mode,
            "clip_skip": self.names.clip_skip,
            "soft_inpaint": self.soft_inpaint,
            "prompt_syntax": "A1111",
            **versions(),
        }

    def native_size(self) -> int:
        """`face_size`, or the size that the UNet was made for; 1024 for a Hub id that was never downloaded here.

        Raises:
            SettingsError: the checkpoint is not there or not whole.
        """
        if self.options.face_size:
            return self.options.face_size
        checkpoint = self.names.find_checkpoint()
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

    def _run(
        self,
        tasks: Sequence[Task],
        key: Callable[[PromptEncoder, Task], Hashable],
        call: Callable[[Model, Sequence[Task], PromptEncoder, Watch], NDArray[np.float32]],
    ) -> Iterator[Outcome]:
        if not tasks:
            return
        model = load_model(self.names, self.options)
        encoder = model.encoder(self.names.clip_skip, self.names.named("clip_skip"))
        files = infotext(self.names.find_checkpoint(), self.names.find_addons())

        def run(batch: Sequence[Task], watch: Watch) -> NDArray[np.float32]:
            return call(model, batch, encoder, watch)

        calls = Calls(model, run, partial(_finished, model, encoder, files))
        options = self.options
        yield from run_batches(
            tasks,
            key=partial(key, encoder),
            size=options.batch_size,
            make=calls.outcomes,
            seconds=options.image_timeout,
        )


def _own_name(model: str) -> str:
    """What a single file whose configs are not here, or a Hub id, is called: never a path of this machine."""
    path = Path(model).expanduser()
    return path.stem if path.is_absolute() else model


def _sampling(encoder: PromptEncoder, task: ImageTask) -> tuple[Hashable, ...]:
    """What the images of one call share. The shorter of two prompts would be filled up, which shows in its picture."""
    chunks = encoder.chunk_count(task.prompt, task.negative_prompt or None)
    return (*(getattr(task, name) for name in SAMPLING_FIELDS), chunks)


def _inpaint_sampling(encoder: PromptEncoder, task: InpaintTask) -> tuple[Hashable, ...]:
    return (*_sampling(encoder, task.task), task.denoising_strength)


def _finished(
    model: Model,
    encoder: PromptEncoder,
    files: Mapping[str, Any],
    task: Task,
    image: NDArray[np.float32],
    batch: Mapping[str, Any],
) -> Outcome:
    sampling = sampling_of(task)
    details = {
        **batch,
        "compiled": model.is_compiled(sampling),
        "scheduler_class": SCHEDULERS[sampling.scheduler][0],
        "prompt_tokens": encoder.token_count(sampling.prompt),
        "negative_tokens": encoder.token_count(sampling.negative_prompt),
        **({"infotext": files} if files else {}),
    }
    return finished(model, task, sampling.steps, image, details)

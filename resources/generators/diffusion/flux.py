"""The generator `flux`: Flux.1 through diffusers, made for the face pass; from text too."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from imaging.errors import BackendError
from resources.generators.base import NOTHING_CHOSEN, Generated, ImageTask, InpaintTask, ModelChoice, Outcome
from resources.generators.choice import check_honoured
from resources.generators.diffusion.calls import Calls, Watch, run_batches
from resources.generators.diffusion.flux_model import FluxModel, load_flux
from resources.generators.diffusion.options import Options, Setting, model_names
from resources.generators.diffusion.outcomes import failure, sampling_of, steps_done, versions
from resources.models.flux_checkpoint import FLUX
from resources.models.names import ModelNames
from resources.settings import Settings

NATIVE_SIZE: Final = 1024  # pixels; diffusers' own default for Flux

Task = TypeVar("Task", ImageTask, InpaintTask)


@dataclass(frozen=True, slots=True)
class FluxGenerator:
    """Flux.1 dev, schnell or Fill on a GPU, or very slowly on a CPU. Loaded at the first image, once per process.

    Flux samples in its own way, so of a task only prompt, seed, size, steps and strength count. The scheduler is always
    flow matching with Euler steps; the negative prompt is not seen; and guidance is on another scale than the CFG scale
    of SDXL, so that of the task is left aside for `guidance`. Schnell takes no guidance and at most 4 steps. Each
    image's details tell what was used, and what of its task was not. Fill can only inpaint.

    Each image draws its noise from a CPU generator of its own, so a seed means the same noise on every device and in
    every batch. The same tasks in the same batches give the same bytes on one device; in other batches a value may
    differ by 1 of 255.

    Attributes:
        names: the checkpoint: a Hub id or a diffusers folder.
        options: how it runs.
        guidance: guidance scale of Flux, 0 to 100; 0: the model's own, 3.5, or 30 for Fill.
    """

    name: ClassVar[str] = "flux"
    HONOURS: ClassVar[frozenset[str]] = frozenset({"checkpoint", "revision"})

    names: ModelNames
    options: Options
    guidance: float = 0.0

    @classmethod
    def from_settings(
        cls, settings: Settings, setting: Setting = "FC_FACE_MODEL", choice: ModelChoice = NOTHING_CHOSEN
    ) -> FluxGenerator:
        """The generator over the model that a variable names; nothing is loaded yet.

        Args:
            settings: all settings; device, dtype and batch size are those of SDXL.
            setting: the variable that holds the model. A revision can be set for `FC_SDXL_MODEL` only.
            choice: what a job says in place of the settings.

        Raises:
            SettingsError: names each variable that cannot be used, and why.
        """
        check_honoured(cls.name, cls.HONOURS, choice)
        hint = "Set it to a folder in diffusers format or to a Hub id, as black-forest-labs/FLUX.1-dev."
        return cls(model_names(settings, setting, hint, choice, cls.name), Options.from_settings(settings))

    def describe(self) -> dict[str, Any]:
        """The checkpoint and its fingerprint, device, dtype and guidance as they are set, and the libraries' versions.

        Neither torch nor a network is touched. `auto` and a guidance of 0 are told as such: what they became stands in
        each image's details. For a Hub id that was never downloaded here, `weights` and `commit` are None.

        Raises:
            SettingsError: the checkpoint is not there or not whole.
        """
        checkpoint = self.names.find_checkpoint(FLUX)
        return {
            "generator": self.name,
            "model": checkpoint.label if checkpoint else self.names.checkpoint,
            "commit": checkpoint.commit if checkpoint else None,
            "weights": checkpoint.fingerprint() if checkpoint else None,
            "device": self.options.device,
            "dtype": self.options.dtype,
            "guidance": self.guidance,
            **versions(),
        }

    def native_size(self) -> int:
        """`face_size`, or 1024, which Flux is at home with."""
        return self.options.face_size or NATIVE_SIZE

    def generate(self, tasks: Sequence[ImageTask]) -> Iterator[Outcome]:
        """Make one image per task; see `Generator.generate`. Flux Fill cannot, and says so for each.

        Raises:
            SettingsError: the checkpoint or the device is not there.
            BackendError: the checkpoint cannot be downloaded or loaded.
        """
        yield from self._run(tasks, _sampling, FluxModel.generate)

    def inpaint(self, tasks: Sequence[InpaintTask]) -> Iterator[Outcome]:
        """Make one masked area anew per task; see `Generator.inpaint`. A strength of 0 gives the image back.

        Raises:
            SettingsError: the checkpoint or the device is not there.
            BackendError: the checkpoint cannot be downloaded or loaded.
        """
        yield from self._run(tasks, _inpaint_sampling, FluxModel.inpaint)

    def _run(
        self,
        tasks: Sequence[Task],
        key: Callable[[FluxModel, Task], Hashable],
        call: Callable[[FluxModel, Sequence[Task], float, Watch], NDArray[np.float32]],
    ) -> Iterator[Outcome]:
        if not tasks:
            return
        model = load_flux(self.names, self.options)

        def run(batch: Sequence[Task], watch: Watch) -> NDArray[np.float32]:
            return call(model, batch, self.guidance, watch)

        calls = Calls(
            model,
            run,
            sampling_of,
            finished=partial(self._finished, model),
            failed=partial(failure, model="Flux", device=model.device, dtype=model.dtype),
        )
        options = self.options
        yield from run_batches(
            tasks, key=partial(key, model), size=options.batch_size, make=calls.outcomes, seconds=options.image_timeout
        )

    def _finished(self, model: FluxModel, task: Task, image: NDArray[np.float32], batch: Mapping[str, Any]) -> Outcome:
        sampling = sampling_of(task)
        if not np.isfinite(image).all():
            return BackendError(
                f"Job {sampling.job_id}: the model's output in {model.dtype} is not finite (NaN), which shows as "
                "black.",
                "Set FC_SDXL_DTYPE to bfloat16 or float32, as Flux overflows in float16; if it is one of them already, "
                "try another prompt or checkpoint.",
            )
        steps = model.steps(sampling)
        not_used = ["cfg_scale", "scheduler"]
        not_used += ["negative_prompt"] if sampling.negative_prompt else []
        not_used += ["steps"] if steps != sampling.steps else []
        beyond_t5, beyond_clip = model.tokens_cut(sampling.prompt)
        return Generated(
            np.rint(image * 255).astype(np.uint8),
            {
                "device": model.device,
                "gpu": model.gpu,
                "dtype": model.dtype,
                "memory_savings": model.memory.savings(sampling),
                **batch,
                "scheduler_class": "FlowMatchEulerDiscreteScheduler",
                "steps": steps,
                "denoising_steps": steps_done(task.denoising_strength, steps)
                if isinstance(task, InpaintTask)
                else steps,
                "guidance_scale": model.guidance(self.guidance),
                "not_used": not_used,
                "prompt_tokens_cut": beyond_t5,
                "clip_tokens_cut": beyond_clip,
                **versions(),
            },
        )


def _sampling(model: FluxModel, task: ImageTask) -> tuple[Hashable, ...]:
    """What the images of one call share."""
    return (task.width, task.height, model.steps(task))


def _inpaint_sampling(model: FluxModel, task: InpaintTask) -> tuple[Hashable, ...]:
    return (*_sampling(model, task.task), task.denoising_strength)

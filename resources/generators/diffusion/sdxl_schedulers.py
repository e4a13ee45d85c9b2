"""The samplers that a request may name, as diffusers schedulers."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final

from imaging.errors import BackendError

if TYPE_CHECKING:
    from diffusers import SchedulerMixin

_ZERO_SNR: Final = "rescale_betas_zero_snr"
_EVEN: Final = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
_KARRAS: Final = {**_EVEN, "use_karras_sigmas": True}
_DPM: Final = {"solver_order": 2, "solver_type": "midpoint", "final_sigmas_type": "zero", "lower_order_final": True}

_SDE: Final = {**_DPM, "algorithm_type": "sde-dpmsolver++"}

# The name as A1111 or Forge shows it (`SGM Uniform` is its schedule type) -> the class in diffusers, and what of its
# config belongs to the name. Everything else (betas, prediction type, spacing of the time steps) comes from the
# checkpoint. `LMS` is not here: its class needs SciPy. `DPM++ SDE` is the single-step solver with its stochastic term,
# as in A1111; the class in diffusers that carries the name needs torchsde and draws its noise outside the images' own
# generators. Lightning checkpoints need `Euler SGM Uniform`; LCM needs its own LoRA or checkpoint.
SCHEDULERS: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "Euler": ("EulerDiscreteScheduler", _EVEN),
    "Euler a": ("EulerAncestralDiscreteScheduler", {}),
    "Euler SGM Uniform": ("EulerDiscreteScheduler", {**_EVEN, "timestep_spacing": "trailing"}),
    "DDIM": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False}),
    "DDPM": ("DDPMScheduler", {"clip_sample": False, "variance_type": "fixed_small"}),
    "DPM++ 2M": ("DPMSolverMultistepScheduler", {**_EVEN, **_DPM, "algorithm_type": "dpmsolver++"}),
    "DPM++ 2M Karras": ("DPMSolverMultistepScheduler", {**_KARRAS, **_DPM, "algorithm_type": "dpmsolver++"}),
    "DPM++ 2M SDE": ("DPMSolverMultistepScheduler", {**_EVEN, **_SDE}),
    "DPM++ 2M SDE Karras": ("DPMSolverMultistepScheduler", {**_KARRAS, **_SDE}),
    "DPM++ 3M SDE": ("DPMSolverMultistepScheduler", {**_EVEN, **_SDE, "solver_order": 3}),
    "DPM++ 3M SDE Karras": ("DPMSolverMultistepScheduler", {**_KARRAS, **_SDE, "solver_order": 3}),
    "DPM++ SDE": ("DPMSolverSinglestepScheduler", {**_EVEN, **_SDE}),
    "DPM++ SDE Karras": ("DPMSolverSinglestepScheduler", {**_KARRAS, **_SDE}),
    "DPM2": ("KDPM2DiscreteScheduler", _EVEN),
    "DPM2 a": ("KDPM2AncestralDiscreteScheduler", _EVEN),
    "Heun": ("HeunDiscreteScheduler", {**_EVEN, "clip_sample": False}),
    "LCM": ("LCMScheduler", {"clip_sample": False}),
    "UniPC": ("UniPCMultistepScheduler", {**_EVEN, "solver_order": 2, "solver_type": "bh2"}),
}


def make_scheduler(name: str, model_config: Mapping[str, Any]) -> SchedulerMixin:
    """A new scheduler, which holds no state of an earlier image.

    Args:
        name: a key of `SCHEDULERS`.
        model_config: the config of the checkpoint's own scheduler.

    Raises:
        BackendError: the name is not known, or the checkpoint's noise schedule cannot be run with it.
    """
    import diffusers

    if name not in SCHEDULERS:
        raise BackendError(
            f"The generator sdxl does not know the scheduler {name!r}.", f"Use one of: {', '.join(SCHEDULERS)}."
        )
    class_name, own = SCHEDULERS[name]
    kind = getattr(diffusers, class_name)
    if "beta_schedule" not in model_config:
        raise BackendError(
            f"The checkpoint's noise schedule ({model_config.get('_class_name')}) is not the one of SDXL, and "
            f"the scheduler {name} cannot run it.",
            "Use a checkpoint whose scheduler_config.json has a beta_schedule.",
        )
    if model_config.get(_ZERO_SNR) and _ZERO_SNR not in _fields(kind):
        able = [
            other
            for other, (its_class, _own) in SCHEDULERS.items()
            if _ZERO_SNR in _fields(getattr(diffusers, its_class))
        ]
        raise BackendError(
            f"The checkpoint was trained down to zero signal ({_ZERO_SNR}), which the scheduler {name} cannot run.",
            f"Use one of: {', '.join(able)}.",
        )
    # Names with an underscore tell diffusers what else is a default; other fields of the checkpoint's own class that
    # this one does not know would only be warned of, for every image.
    known = {field: value for field, value in model_config.items() if field[0] == "_" or field in _fields(kind)}
    scheduler: SchedulerMixin = kind.from_config(known, **own)
    return scheduler


def _fields(kind: type[Any]) -> Collection[str]:
    """The names in a scheduler's config."""
    return inspect.signature(kind.__init__).parameters.keys()

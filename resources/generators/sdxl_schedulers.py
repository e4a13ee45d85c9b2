"""The samplers that a request may name, as diffusers schedulers.

Belongs here: which scheduler a name means, and making a fresh one for a checkpoint. Does not: running it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from imaging.errors import BackendError

if TYPE_CHECKING:
    from diffusers import SchedulerMixin

_EVEN: Final = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
_KARRAS: Final = {**_EVEN, "use_karras_sigmas": True}
_DPM: Final = {"solver_order": 2, "solver_type": "midpoint", "final_sigmas_type": "zero", "lower_order_final": True}

# The name as A1111 shows it -> the class in diffusers, and what of its config belongs to the name. Everything that
# belongs to the model (betas, prediction type, spacing of the time steps) comes from the checkpoint. `LMS` is not here:
# its class needs SciPy. `DPM++ SDE` is the single-step solver with its stochastic term, as in A1111; the class in
# diffusers that carries the name needs torchsde and draws its noise outside the images' own generators.
SCHEDULERS: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "Euler": ("EulerDiscreteScheduler", _EVEN),
    "Euler a": ("EulerAncestralDiscreteScheduler", {}),
    "DDIM": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False}),
    "DPM++ 2M": ("DPMSolverMultistepScheduler", {**_EVEN, **_DPM, "algorithm_type": "dpmsolver++"}),
    "DPM++ 2M Karras": ("DPMSolverMultistepScheduler", {**_KARRAS, **_DPM, "algorithm_type": "dpmsolver++"}),
    "DPM++ SDE Karras": ("DPMSolverSinglestepScheduler", {**_KARRAS, **_DPM, "algorithm_type": "sde-dpmsolver++"}),
    "Heun": ("HeunDiscreteScheduler", {**_EVEN, "clip_sample": False}),
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
            "Set FC_SDXL_MODEL to a checkpoint whose scheduler_config.json has a beta_schedule.",
        )
    zero_snr = "rescale_betas_zero_snr"
    if model_config.get(zero_snr) and zero_snr not in inspect.signature(kind.__init__).parameters:
        raise BackendError(
            f"The checkpoint was trained down to zero signal ({zero_snr}), which the scheduler {name} cannot run.",
            "Use Euler, Euler a, DDIM, DPM++ 2M, DPM++ 2M Karras or UniPC.",
        )
    scheduler: SchedulerMixin = kind.from_config(model_config, **own)
    return scheduler

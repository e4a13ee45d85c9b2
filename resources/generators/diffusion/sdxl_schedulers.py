"""The samplers that a request may name, as diffusers schedulers."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final

from imaging.errors import BackendError
from resources.samplers import SAMPLERS

if TYPE_CHECKING:
    from diffusers import SchedulerMixin

_ZERO_SNR: Final = "rescale_betas_zero_snr"
SCHEDULERS: Final = {name: (sampler.diffusers, sampler.config) for name, sampler in SAMPLERS.items()}
"""The name in a request -> the class in diffusers, and what of its config belongs to the name."""


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

"""The samplers that a request may name, in A1111's words, and what each back end calls them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from imaging.errors import shortened

_EVEN: Final = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
_KARRAS: Final = {**_EVEN, "use_karras_sigmas": True}
_DPM: Final = {"solver_order": 2, "solver_type": "midpoint", "final_sigmas_type": "zero", "lower_order_final": True}
_ODE: Final = {**_DPM, "algorithm_type": "dpmsolver++"}
_SDE: Final = {**_DPM, "algorithm_type": "sde-dpmsolver++"}
_SDE_3: Final = {**_SDE, "solver_order": 3}
_TRAILING: Final = {**_EVEN, "timestep_spacing": "trailing"}
_DDIM: Final = {"clip_sample": False, "set_alpha_to_one": False}
_DDPM: Final = {"clip_sample": False, "variance_type": "fixed_small"}
_UNIPC: Final = {**_EVEN, "solver_order": 2, "solver_type": "bh2"}
_EULER, _MULTI, _SINGLE = "EulerDiscreteScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"


@dataclass(frozen=True, slots=True)
class Sampler:
    """What one sampler is called.

    Attributes:
        forge: sampler and schedule type, as A1111 1.9 and Forge split them. `Uniform` is the model's own spacing;
            `Automatic` would be Karras for DPM++.
        comfyui: sampler and scheduler of ComfyUI's KSampler.
        diffusers: the class in diffusers.
        config: what of its config belongs to the name. Everything else (betas, prediction type, spacing of the time
            steps) comes from the checkpoint.
    """

    forge: tuple[str, str]
    comfyui: tuple[str, str]
    diffusers: str
    config: Mapping[str, Any]


# By the name as A1111 or Forge shows it (`SGM Uniform` is its schedule type). `LMS` is not here: its class needs SciPy.
# `DPM++ SDE` is the single-step solver with its stochastic term, as in A1111; the class in diffusers that carries the
# name needs torchsde and draws its noise outside the images' own generators. Lightning checkpoints need
# `Euler SGM Uniform`; LCM needs its own LoRA or checkpoint. DDIM and UniPC have one spacing only. DDPM is Forge's
# alone; A1111 answers that it has no such sampler.
SAMPLERS: Final[Mapping[str, Sampler]] = {
    "Euler": Sampler(("Euler", "Uniform"), ("euler", "normal"), _EULER, _EVEN),
    "Euler a": Sampler(("Euler a", "Uniform"), ("euler_ancestral", "normal"), "EulerAncestralDiscreteScheduler", {}),
    "Euler SGM Uniform": Sampler(("Euler", "SGM Uniform"), ("euler", "sgm_uniform"), _EULER, _TRAILING),
    "DDIM": Sampler(("DDIM", "Automatic"), ("ddim", "ddim_uniform"), "DDIMScheduler", _DDIM),
    "DDPM": Sampler(("DDPM", "Automatic"), ("ddpm", "normal"), "DDPMScheduler", _DDPM),
    "DPM++ 2M": Sampler(("DPM++ 2M", "Uniform"), ("dpmpp_2m", "normal"), _MULTI, _EVEN | _ODE),
    "DPM++ 2M Karras": Sampler(("DPM++ 2M", "Karras"), ("dpmpp_2m", "karras"), _MULTI, _KARRAS | _ODE),
    "DPM++ 2M SDE": Sampler(("DPM++ 2M SDE", "Uniform"), ("dpmpp_2m_sde", "normal"), _MULTI, _EVEN | _SDE),
    "DPM++ 2M SDE Karras": Sampler(("DPM++ 2M SDE", "Karras"), ("dpmpp_2m_sde", "karras"), _MULTI, _KARRAS | _SDE),
    "DPM++ 3M SDE": Sampler(("DPM++ 3M SDE", "Uniform"), ("dpmpp_3m_sde", "normal"), _MULTI, _EVEN | _SDE_3),
    "DPM++ 3M SDE Karras": Sampler(("DPM++ 3M SDE", "Karras"), ("dpmpp_3m_sde", "karras"), _MULTI, _KARRAS | _SDE_3),
    "DPM++ SDE": Sampler(("DPM++ SDE", "Uniform"), ("dpmpp_sde", "normal"), _SINGLE, _EVEN | _SDE),
    "DPM++ SDE Karras": Sampler(("DPM++ SDE", "Karras"), ("dpmpp_sde", "karras"), _SINGLE, _KARRAS | _SDE),
    "DPM2": Sampler(("DPM2", "Uniform"), ("dpm_2", "normal"), "KDPM2DiscreteScheduler", _EVEN),
    "DPM2 a": Sampler(("DPM2 a", "Uniform"), ("dpm_2_ancestral", "normal"), "KDPM2AncestralDiscreteScheduler", _EVEN),
    "Heun": Sampler(("Heun", "Uniform"), ("heun", "normal"), "HeunDiscreteScheduler", _EVEN | {"clip_sample": False}),
    "LCM": Sampler(("LCM", "Automatic"), ("lcm", "sgm_uniform"), "LCMScheduler", {"clip_sample": False}),
    "UniPC": Sampler(("UniPC", "Automatic"), ("uni_pc", "normal"), "UniPCMultistepScheduler", _UNIPC),
}

SAMPLER_NAMES: Final[tuple[str, ...]] = tuple(SAMPLERS)
"""In A1111's words."""


def a1111_sampler(text: str) -> str:
    """A sampler's name in A1111's words.

    Args:
        text: its name in A1111's words, in any case (`dpm++ 2m karras`); ComfyUI's (`dpmpp_2m`, with its scheduler
            behind a space or a slash: `dpmpp_2m/karras`); k-diffusion's (`k_euler_a`, `k_dpmpp_2m_ka`); or the name of
            the class in diffusers (`EulerAncestralDiscreteScheduler`, with `karras` behind it where it has both).

    Raises:
        ValueError: it is none of them; says which are near.
    """
    key = _key(text[:100])  # the longest that is known has a third of it
    if key not in _KNOWN:
        near = dict.fromkeys(_KNOWN[close] for close in difflib.get_close_matches(key, _KNOWN, n=8, cutoff=0.6))
        said = f"near it: {', '.join(list(near)[:4])}" if near else f"use one of {', '.join(SAMPLER_NAMES)}"
        raise ValueError(f"{shortened(text, 60)!r} is no sampler that is known; {said}")
    return _KNOWN[key]


def _key(text: str) -> str:
    """A name without what the four ways to write it do differently."""
    words = re.sub(r"[^a-z0-9+]+", " ", text.casefold()).replace("+", "p").split()
    words = [{"ancestral": "a", "ka": "karras"}.get(word, word) for word in words if word not in ("gpu", "discrete")]
    return "".join(words[1:] if words[:1] == ["k"] else words)


def _spellings() -> Iterator[tuple[str, str]]:
    """Each way to write a sampler, with A1111's; what is first in the table comes first."""
    for name, sampler in SAMPLERS.items():
        karras = " karras" if sampler.comfyui[1] == "karras" else ""
        for spelling in (name, " ".join(sampler.forge), " ".join(sampler.comfyui)):
            yield spelling, name
        yield f"{sampler.diffusers}{karras}", name
        yield f"{sampler.diffusers.removesuffix('Scheduler')}{karras}", name
    for name, sampler in SAMPLERS.items():
        yield sampler.comfyui[0], name
    yield "uni_pc_bh2", "UniPC"


_KNOWN: Final = {_key(spelling): name for spelling, name in reversed(list(_spellings()))}

"""Soft inpainting: how much of a cell's noise is taken away follows the mask, so that strength fades at its edge.

Levin and Fried, "Differential Diffusion: Giving Each Pixel Its Strength", arXiv:2306.00950 (2023): a cell of strength s
is held to the re-noised original for the first 1 - s of the steps, and is free from then on. Diffusers' inpainting
holds the cells outside of its mask to the re-noised original after every step, with the image's own noise, so all that
is needed is another mask for each step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

OnStep = Callable[[object, int, object, dict[str, Any]], dict[str, Any]]


def free_cells(strengths: Any, progress: float) -> Any:  # noqa: ANN401 - tensors, and torch must not be imported here
    """The cells that are free once this share of the steps is done: 1.0, the others 0.0.

    Args:
        strengths: tensor of any shape, 0 (always held) to 1 (always free).
        progress: 0 to 1; at 1 every cell over 0 is free.
    """
    return ((strengths > 0) & (strengths >= 1 - progress - 1e-6)).to(strengths.dtype)


@dataclass(frozen=True)
class SoftMask:
    """The `callback_on_step_end` that gives a pipeline the mask of its next step.

    Attributes:
        strengths: float tensor of shape (images, 1, rows, columns), a value per cell of the latent grid, 0 to 1.
        then: called first at every step.
    """

    strengths: Any
    then: OnStep

    def __call__(self, pipeline: Any, step: int, timestep: object, tensors: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401
        """A step is done; the mask of the next one holds fewer cells."""
        given = self.then(pipeline, step, timestep, tensors)
        latents = tensors["latents"]
        # The mask is used after the next step, when that one is done as well.
        mask = free_cells(self.strengths, (step + 2) / pipeline.num_timesteps).to(latents.device, latents.dtype)
        return {**given, "mask": mask.repeat(2, 1, 1, 1) if pipeline.do_classifier_free_guidance else mask}

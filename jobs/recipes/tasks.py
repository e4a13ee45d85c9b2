"""From a recipe to what a generator is asked for: the fields that sampling and tasks share are named once, by both."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final

from jobs.recipes.recipe import Recipe
from jobs.recipes.sections import Sampling
from jobs.recipes.values import MAX_SEED
from resources.generators.base import ImageTask

_SHARED: Final = tuple(
    one.name for one in fields(ImageTask) if one.name in Sampling.model_fields and one.name != "seed"
)


def sampling_key(recipe: Recipe) -> dict[str, Any]:
    """What of the sampling decides an image, for its content key; a later field only where it says something."""
    return recipe.sampling.model_dump(mode="json", include={"seed", *_SHARED}, exclude_none=True)


def image_task(
    recipe: Recipe, *, job_id: str, prompt: str, negative_prompt: str, seed_offset: int = 0, size: tuple[int, int]
) -> ImageTask:
    """One image of a job.

    Args:
        recipe: the job's.
        job_id: the job.
        prompt: as the generator gets it.
        negative_prompt: likewise; may be empty.
        seed_offset: added to the job's seed.
        size: (width, height) in pixels.
    """
    return ImageTask(
        job_id=job_id,
        prompt=prompt,
        negative_prompt=negative_prompt,
        seed=((recipe.sampling.seed or 0) + seed_offset) % (MAX_SEED + 1),
        width=size[0],
        height=size[1],
        **{name: getattr(recipe.sampling, name) for name in _SHARED},
    )

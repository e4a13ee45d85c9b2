"""From a request to its job's recipe, over the settings of this machine."""

from __future__ import annotations

from jobs.model.job import Job
from jobs.model.request import JobRequest
from jobs.recipes.recipe import REQUEST, Layer, Recipe, resolve
from resources.lora_tags import take_loras
from resources.settings import Settings


def recipe_for(request: JobRequest, settings: Settings) -> Recipe:
    """The recipe that a request and the settings give together.

    Raises:
        RejectedError: values that cannot be together; names the field.
    """
    scene, faces = take_loras(request.pony_prompt)[1], take_loras(request.flux_prompt)[1]
    return resolve(
        [Layer(REQUEST, request.given())],
        settings,
        prompt_loras=scene,
        face_prompt_loras=faces if request.flux_prompt else scene,
    )


def recipe_of(job: Job, settings: Settings) -> Recipe:
    """A job's recipe: the one that was resolved for it, or, when it has none yet, the one of now."""
    return recipe_for(job.request, settings) if job.recipe is None else Recipe.model_validate(job.recipe)

"""Which jobs of a run a stage works on: each looked up, given to this run, and with its recipe."""

from __future__ import annotations

from typing import Any

from fc_assets.engine.step import Step
from imaging.errors import BackendError, RejectedError
from jobs.model.job import Job, JobBusyError
from jobs.model.job_types import JOB_TYPES
from jobs.recipes.recipe import Recipe
from jobs.requests.recipes import recipe_for, recipe_of
from jobs.runs.lifecycle import settle_if_over


def open_jobs(step: Step) -> list[tuple[Job, Recipe]]:
    """The jobs that the stage is to work on, in the order of their partitions, started.

    Left out: jobs that ended earlier in this run, and jobs whose type has no such stage. An unknown job, or one that
    another run works on, becomes a failure.
    """
    keys = [key for key in step.context.partition_keys if key not in step.failures]
    known = step.queue.get_many(keys)
    opened = []
    for key in keys:
        with step.failing(key):
            if key not in known:
                raise BackendError(
                    f"There is no job {key} in the face-changer database.",
                    "Materialize its job_request with the request as run config, or use `fc submit`.",
                )
            job = known[key]
            if step.name not in JOB_TYPES[job.job_type].stages:
                step.context.log.info(f"{key}: a {job.job_type} job has no stage {step.name}; nothing to do.")
            elif step.ended_here(job):
                step.context.log.info(f"{key}: ended earlier in this run as {job.status}; nothing to do.")
            else:
                opened.append(_open(step, job))
    return opened


def start(step: Step, job: Job, recipe: dict[str, Any] | None = None) -> Job:
    """Give a job to this run, with the recipe that was resolved for it, if that was done now.

    Raises:
        JobBusyError: it may not have the job.
    """
    try:
        return step.queue.start(job.id, run_id=step.run_id, batch_id=step.batch_id, recipe=recipe)
    except JobBusyError:
        # The run that has it may have died while no daemon was there to notice.
        if job.run_id is None or not settle_if_over(step.context.instance, step.queue, job.run_id, step.settings):
            raise
        return step.queue.start(job.id, run_id=step.run_id, batch_id=step.batch_id, recipe=recipe)


def _open(step: Step, job: Job) -> tuple[Job, Recipe]:
    """The job, given to this run, and its recipe: resolved anew by the first stage, and where there is none yet."""
    is_mine = job.status == "running" and job.run_id == step.run_id
    try:
        recipe = recipe_for(job.request, step.settings) if step.is_first else recipe_of(job, step.settings)
    except RejectedError:
        if not is_mine:
            start(step, job)  # what ends it is this run's business
        raise
    resolved = recipe.model_dump(mode="json") if step.is_first or job.recipe is None else None
    if not is_mine:
        return start(step, job, resolved), recipe
    if resolved is not None and resolved != job.recipe:
        step.queue.set_recipe(job.id, resolved, run_id=step.run_id)
    return job, recipe

"""`fc review`, `fc approve`, `fc reject`, `fc rate`: what waits for a person, and what the person says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from imaging.errors import RejectedError
from jobs.cli.each import Jobs, for_each
from jobs.cli.opening import opened_queue
from jobs.cli.output import print_json, say, short_why, stars_text

if TYPE_CHECKING:
    from jobs.model.job import Job
    from jobs.queue.job_queue import JobQueue


def review(*, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the jobs that wait for a person: where each stopped, why, and the picture to look at."""
    with opened_queue() as queue:
        jobs = queue.find(statuses=["needs_review"], newest_first=False)
        waiting = [
            {
                "job_id": job.id,
                "stage": job.error_stage,
                "reason": short_why(job),
                "hint": job.error_hint,
                "picture": _picture(queue, job),
            }
            for job in jobs
        ]
    if as_json:
        print_json("reviews", waiting)
        return
    if not waiting:
        say("No job waits for a person.")
        return
    for one in waiting:  # no table: a path that is broken over lines cannot be opened
        say(f"{one['job_id']}{' at ' + one['stage'] if one['stage'] else ''}: {one['reason']}")
        say(f"    {one['picture'] or 'There is no picture yet.'}")
    say("`fc approve JOB` takes it as it is, `fc retry JOB` tries it again, `fc reject JOB` ends it.")


def _picture(queue: JobQueue, job: Job) -> str | None:
    """The newest picture that the job has at or before the stage where it stopped."""
    images = {image.path: image for image in queue.images(job.id)}
    at_stage = [image.path for image in images.values() if image.stage == job.error_stage]
    scene = [image.path for image in images.values() if image.stage == "generated_image"]
    return next(iter(at_stage or scene), None)


Chosen = Annotated[
    list[str] | None, typer.Argument(metavar="[JOB]...", help="The jobs' ids, or enough of each to be unique.")
]
Group = Annotated[str | None, typer.Option("--group", metavar="JOB", help="All of this group that wait for review.")]
Everything = Annotated[bool, typer.Option("--all", help="All jobs that wait for review.")]


def approve(*, job_ids: Chosen = None, group: Group = None, everything: Everything = False) -> None:
    """Take what was turned down as it is; the job goes on behind the check that stopped it.

    A picture without a face cannot be given one: it goes on as it is and becomes the final image. Where a stage made
    nothing, such as a prompt that the writer refused, there is nothing to approve.
    """
    with opened_queue() as queue:

        def approve_one(job_id: str) -> None:
            stage = queue.get(job_id).error_stage
            job = queue.approve(job_id)
            result = queue.stage_result(job_id, stage) if stage else None
            faceless = stage == "portrait" and result and (result.output or {}).get("metadata", {}).get("faces") == 0
            note = " It has no face, so the generated image becomes the final one." if faceless else ""
            say(f"{job.id}: approved at {stage}; it is in the queue again.{note}")

        for_each(queue, _chosen(queue, job_ids, group, everything=everything), approve_one)


def reject(
    *,
    job_ids: Chosen = None,
    group: Group = None,
    everything: Everything = False,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept with the job.")] = "Rejected by a person.",
) -> None:
    """End jobs that wait for a person, or are completed, as rejected. Everything that they made is kept.

    --group and --all mean those that wait only.
    """
    with opened_queue() as queue:

        def reject_one(job_id: str) -> None:
            queue.turn_down(job_id, reason=reason)
            say(f"{job_id}: rejected.")

        try:
            for_each(queue, _chosen(queue, job_ids, group, everything=everything), reject_one)
        finally:
            queue.settle_waiting()


def rate(
    *,
    job_ids: Jobs,
    stars: Annotated[int, typer.Argument(metavar="STARS", min=1, max=5, help="5 is best.")],
) -> None:
    """Say how good pictures are, from 1 to 5; `fc list --stars 4` shows the best. A retry takes it away."""
    with opened_queue() as queue:

        def rate_one(job_id: str) -> None:
            queue.rate(job_id, stars)
            say(f"{job_id}: {stars_text(stars)}")

        for_each(queue, job_ids, rate_one)


def _chosen(queue: JobQueue, job_ids: list[str] | None, group: str | None, *, everything: bool) -> list[str]:
    """The jobs that a command means: those named, or those that wait for review, of a group or of all."""
    if sum((bool(job_ids), group is not None, everything)) != 1:
        raise RejectedError("Which jobs are meant is not clear.", "Name jobs, or give --group JOB, or --all.")
    if job_ids:
        return job_ids
    inside = None if group is None else queue.inside(queue.resolve(group))
    waiting = queue.find(statuses=["needs_review"], newest_first=False)
    ids = [job.id for job in waiting if (inside is None or job.id in inside) and job.error_stage is not None]
    if not ids:
        say("No job waits for a person.")
    return ids

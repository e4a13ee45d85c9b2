"""`fc review`, `fc approve`, `fc reject`: what waits for a person, and what the person says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.opening import opened_queue
from jobs.cli.output import print_json, say

if TYPE_CHECKING:
    from jobs.model.job import Job
    from jobs.queue.job_queue import JobQueue

JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]


def review(*, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the jobs that wait for a person: where each stopped, why, and the picture to look at."""
    with opened_queue() as queue:
        jobs = queue.find(statuses=["needs_review"], newest_first=False)
        waiting = [
            {
                "job_id": job.id,
                "stage": job.error_stage,
                "reason": job.error,
                "hint": job.error_hint,
                "picture": _picture(queue, job),
            }
            for job in jobs
        ]
    if as_json:
        print_json({"jobs": waiting})
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


def approve(*, job_id: JobId) -> None:
    """Take what was turned down as it is; the job goes on behind the check that stopped it.

    A picture without a face cannot be given one: it goes on as it is and becomes the final image. Where a stage made
    nothing, such as a prompt that the writer refused, there is nothing to approve.
    """
    with opened_queue() as queue:
        stage = queue.get(job_id).error_stage
        job = queue.approve(job_id)
        result = queue.stage_result(job_id, stage) if stage else None
    faceless = stage == "portrait" and result and (result.output or {}).get("metadata", {}).get("faces") == 0
    note = " It has no face, so the generated image becomes the final one." if faceless else ""
    say(f"{job.id}: approved at {stage}; it is in the queue again.{note}")


def reject(
    *,
    job_id: JobId,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept with the job.")] = "Rejected by a person.",
) -> None:
    """End a job that waits for a person as rejected. Everything that it made is kept."""
    with opened_queue() as queue:
        queue.turn_down(job_id, reason=reason)
        queue.settle_waiting()
    say(f"{job_id}: rejected.")

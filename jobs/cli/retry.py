"""`fc cancel` and `fc retry`: ending a job, and trying it again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from imaging.errors import RejectedError
from jobs.cli.each import Jobs, for_each
from jobs.cli.opening import opened_queue
from jobs.cli.output import FAILED, err, say, warn, where
from jobs.model.stages import STAGES
from resources.settings import dagster_home, load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobs.model.job import Job
    from jobs.queue.job_queue import JobQueue


def cancel(*, job_ids: Jobs) -> None:
    """End jobs now, wherever they are.

    A job that waits ends at once. One that runs is cancelled at once too: what its run is computing for it is thrown
    away, and the run leaves it at its next step. A run that has no other job is stopped; one that has goes on. With a
    group end all its jobs.
    """
    with opened_queue() as queue:
        job_ids = [queue.resolve(job_id) for job_id in job_ids]
        before = queue.cancel(job_ids)
        if before:
            queue.settle_waiting()
        now = queue.get_many(job_ids)
        _stop_runs(queue, before)
    ended = {job.id for job in before}
    for job_id in dict.fromkeys([*job_ids, *sorted(ended)]):
        if job_id in ended:
            say(f"{job_id}: cancelled.")
        else:
            say(f"{job_id}: is {now[job_id].status}; there is nothing to cancel.", console=err)
    if not ended.issuperset(job_ids):
        raise typer.Exit(FAILED)


def _stop_runs(queue: JobQueue, before: Sequence[Job]) -> None:
    if not any(job.run_id or job.batch_id for job in before) or not dagster_home().is_dir():
        return
    from jobs.cli.dagster_side import open_instance, short_reason
    from jobs.runs.lifecycle import stop_idle_runs

    try:
        for run_id in stop_idle_runs(open_instance(), queue, before):
            say(f"Run {run_id} had no other job and is being stopped.")
    except Exception as error:  # noqa: BLE001 - the jobs are cancelled, whatever Dagster says
        warn(f"The run could not be stopped and leaves the job at its next step: {short_reason(error)}.")


def retry(
    *,
    job_ids: Jobs,
    from_stage: Annotated[
        str | None,
        typer.Option("--from", metavar="STAGE", help=f"Make this stage and all behind it anew: {', '.join(STAGES)}."),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the request; empty: its default."),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Another seed; as --set seed=N.")] = None,
    mask: Annotated[
        str | None,
        typer.Option(
            "--mask",
            metavar="FILE",
            help="Your own mask: a grey image of the generated image's size, white where it is made anew (only within "
            "the portraits of the faces). 'auto': the automatic one again.",
        ),
    ] = None,
) -> None:
    """Try jobs again that have ended; only what depends on the change is made anew.

    Without a change, the job goes on where it stopped. Files that become different are kept under history/ in the
    image store. `fc history JOB` shows every attempt.
    """
    from jobs.requests.retry import read_changes
    from jobs.requests.retry import retry as retry_job
    from resources.store.image_store import ImageStore

    fields = read_changes(changes or [])
    if seed is not None and fields.setdefault("seed", seed) != seed:
        raise RejectedError(f"--seed: --set seed={fields['seed']} says another one.", "Give the seed once.")
    settings = load_settings()
    store = ImageStore(settings.resolved_data_dir)
    with opened_queue() as queue:

        def retry_one(job_id: str) -> None:
            job = retry_job(
                job_id, queue=queue, store=store, settings=settings, changes=fields, from_stage=from_stage, mask=mask
            )
            at = where(job) if job.status == "waiting" else f"from {job.next_stage or 'its last stage'} on"
            say(f"{job_id}: in the queue, {at}.")

        for_each(queue, job_ids, retry_one)

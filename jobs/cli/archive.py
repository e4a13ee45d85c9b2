"""`fc archive` and `fc remove`: putting jobs that have ended out of sight, or out of the world."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from imaging.errors import RejectedError
from jobs.cli.each import Jobs, for_each, whole_id
from jobs.cli.opening import opened_queue
from jobs.cli.output import FAILED, NOT_FOUND, counted, err, say
from resources.settings import load_settings

if TYPE_CHECKING:
    from jobs.queue.job_queue import JobQueue
    from resources.store.image_store import ImageStore


def archive(
    *,
    job_ids: Annotated[list[str] | None, typer.Argument(metavar="[JOB]...", help="The jobs' ids.")] = None,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="DAYS", help="All that ended longer ago, such as 90d; no needs_review."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which they are.")] = False,
) -> None:
    """Put jobs that have ended away: `fc list` leaves them out, and nothing starts them again. Everything is kept.

    It cannot be taken back; `fc submit` makes a new job from the same request.
    """
    if bool(job_ids) == (older_than is not None):
        raise RejectedError("Which jobs shall be archived is not clear.", "Name jobs, or give --older-than DAYS.")
    with opened_queue() as queue:
        given = dict.fromkeys(whole_id(queue, text) for text in job_ids or ())
        named = list(given) if older_than is None else _older(queue, _days(older_than))
        if dry_run:
            say("\n".join([f"{len(named)} jobs would be archived.", *named]))
            return
        done = set(queue.archive(named))
        known = queue.get_many(named)
    for job_id in named:
        if job_id in done:
            say(f"{job_id}: archived.")
        elif job_id in known:
            say(f"{job_id}: is {known[job_id].status}; only a job that has ended is archived.", console=err)
        else:
            say(f"{job_id}: there is no such job.", console=err)
    if older_than is not None:
        say(f"{len(done)} archived.")
    elif len(done) < len(named):
        raise typer.Exit(FAILED if len(known) == len(named) else NOT_FOUND)


def _days(text: str) -> int:
    found = re.fullmatch(r"(\d{1,5})d?", text.strip())
    if not found:
        raise RejectedError(f"--older-than: {text!r} is no number of days.", "Write it as 90d or 90.")
    return int(found[1])


def _older(queue: JobQueue, days: int) -> list[str]:
    from resources.database import utc_now

    return queue.ended_before(utc_now() - timedelta(days=days))


def remove(
    *,
    job_ids: Jobs,
    yes: Annotated[bool, typer.Option("--yes", help="Do it. Without this, only what would go is told.")] = False,
) -> None:
    """Remove jobs that have ended for good, as if they had never been. Without --yes, only tell what would go.

    Files, records, history and log lines; imported photos that no other job has; and all that Dagster keeps of the job:
    partition, thumbnails, prompts, runs. A run that had other jobs too stays, without what it told of this one.
    """
    from jobs.cli.dagster_side import open_instance
    from jobs.runs.retention import remove as remove_job
    from resources.store.image_store import ImageStore

    store = ImageStore(load_settings().resolved_data_dir)
    with opened_queue() as queue:

        def remove_one(job_id: str) -> None:
            _print_job(queue, store, job_id)
            if yes:
                remove_job(open_instance(), queue, store, job_id)
                say(f"{job_id}: removed.")

        for_each(queue, job_ids, remove_one)
    if not yes:
        say("Nothing was removed. `fc remove --yes` removes it, and nothing brings it back.", console=err)
        raise typer.Exit(FAILED)


def _print_job(queue: JobQueue, store: ImageStore, job_id: str) -> None:
    from jobs.runs.retention import belongings
    from resources.store.image_store import SOURCES

    job, attempts = queue.get(job_id), queue.attempts(job_id)
    own = belongings(queue, store, job)
    photos = [(SOURCES, photo) for photo in own.own_photos]
    files = [*own.files, *photos]
    told = (
        f"its request, {counted(len(attempts), 'attempt')}, {counted(len(job.run_ids), 'run')} and what Dagster shows"
    )
    say(f"{job_id}: {job.job_type}, {job.status}: {told} of it, and {counted(len(files), 'file')}:")
    for place in files:
        say(f"    {store.path(*place)}")
    for photo, users in own.users.items():
        if users:
            say(f"{store.path(SOURCES, photo)} stays: {', '.join(users)} has it too.")
    if job.origin == "inbox":
        say("The file that it came by stays in the inbox's folder `accepted`.")

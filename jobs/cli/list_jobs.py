"""`fc list`: the jobs in a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from imaging.errors import RejectedError
from jobs.cli.opening import opened_queue
from jobs.cli.output import ago, job_json, out, print_json, say, short, short_why, stars_text, status_text, table, where

if TYPE_CHECKING:
    from rich.text import Text

    from jobs.model.job import Job

T = TypeVar("T", bound=str)


def list_jobs(
    *,
    status: Annotated[
        list[str] | None, typer.Option("--status", help="Only this status; repeatable.", metavar="STATUS")
    ] = None,
    job_type: Annotated[
        list[str] | None, typer.Option("--type", help="Only this job type; repeatable.", metavar="TYPE")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Archived jobs too.")] = False,
    parent: Annotated[str | None, typer.Option("--parent", help="Only the jobs of this group.", metavar="JOB")] = None,
    stars: Annotated[int | None, typer.Option(min=1, max=5, help="Only pictures with so many stars or more.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Most jobs shown, newest first.")] = 30,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List jobs, newest first; archived ones only with --all or --status archived. Nothing is claimed or changed."""
    from jobs.model.job_types import JOB_TYPES
    from jobs.model.transitions import JOB_STATUSES

    shown = [name for name in JOB_STATUSES if everything or name != "archived"]
    statuses = _chosen("status", status, JOB_STATUSES) or shown
    job_types = _chosen("type", job_type, tuple(JOB_TYPES))
    with opened_queue() as queue:
        group = None if parent is None else queue.resolve(parent)
        jobs = queue.find(statuses=statuses, job_types=job_types, parent_id=group, least_stars=stars, limit=limit)
    if as_json:
        print_json("jobs", [job_json(job) for job in jobs])
    elif jobs:
        rated = any(job.stars for job in jobs)
        columns = ("job", "type", "status", "prio", *(["stars"] if rated else []), "added", "what")
        out.print(table(columns, [_row(job, rated=rated) for job in jobs]))
    else:
        say(
            "No such job."
            if status or job_type or parent or stars
            else "There is no job yet. `fc submit -p '...'` adds one."
        )


def _chosen(field: str, given: list[str] | None, known: tuple[T, ...]) -> list[T] | None:
    if not given:
        return None
    for value in given:
        if value not in known:
            raise RejectedError(f"--{field}: there is no {value!r}.", f"Use one of {', '.join(known)}.")
    return [value for value in known if value in given]


def _row(job: Job, *, rated: bool) -> tuple[str | Text, ...]:
    status = status_text(job.status)
    status.append(where(job).removeprefix(job.status), style="dim")
    what = short_why(job) or job.request.pony_prompt or job.request.source_image or ""
    return (
        job.id,
        job.job_type,
        status,
        str(job.priority),
        *([stars_text(job.stars)] if rated else []),
        ago(job.created_at),
        short(what, 50),
    )

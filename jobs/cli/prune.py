"""`fc prune`: finished jobs leave Dagster's partition set.

Belongs here: the command line and what it prints. Does not: which jobs, and how (`jobs.retention`).
"""

from __future__ import annotations

from typing import Annotated, Final

import typer

from jobs.cli.opening import opened_queue
from jobs.cli.output import print_json, say
from resources.settings import load_settings

_MOST_NAMED: Final = 20


def prune(
    *,
    days: Annotated[
        int | None,
        typer.Option(min=0, max=36500, help="Keep those that ended in the last DAYS. Default: FC_KEEP_DAYS."),
    ] = None,
    keep: Annotated[
        int | None, typer.Option(min=0, help="Keep at most so many, the newest. Default: FC_KEEP_JOBS.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which they are.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Remove the Dagster partitions of jobs that ended long ago, as the sensor `retention` does bit by bit.

    Records, images and materializations stay. A job that is retried gets its partition back.
    """
    from jobs.cli.dagster_side import open_instance
    from jobs.retention import expired, retire

    settings = load_settings()
    days = settings.keep_days if days is None else days
    keep = settings.keep_jobs if keep is None else keep
    instance = open_instance()
    with opened_queue() as queue:
        jobs = expired(instance, queue, days=days, jobs=keep)
        if not dry_run:
            jobs = retire(instance, queue, jobs)
    if as_json:
        print_json({"dry_run": dry_run, "keep_days": days, "keep_jobs": keep, "jobs": jobs})
        return
    what = "1 partition" if len(jobs) == 1 else f"{len(jobs)} partitions"
    say(f"{what} would be removed." if dry_run else f"{what} removed; the records and images stay.")
    for job_id in jobs[:_MOST_NAMED]:
        say(job_id)
    if len(jobs) > _MOST_NAMED:
        say(f"and {len(jobs) - _MOST_NAMED} more")

"""`fc prune` and `fc restore`: jobs leave Dagster's partition set and come back; old runs lose their log lines."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Final

import typer

from jobs.cli.each import Jobs, for_each
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
    thin: Annotated[
        bool,
        typer.Option(
            "--thin", help="Also remove the pictures of steps on the way, of jobs that completed over DAYS ago."
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which they are.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Remove Dagster partitions of jobs that ended long ago, and log lines of runs that did, as `retention` does.

    Records, images and materializations stay. A job that is retried gets its partition back; `fc restore` brings back
    one that is to be looked at, or run by hand. Log lines stay for FC_KEEP_LOG_DAYS. With --thin only the pictures to
    deliver stay of a job; a retry makes the others again.
    """
    from jobs.cli.dagster_side import open_instance
    from jobs.runs.retention import expired, retire
    from jobs.runs.thinning import Thinned
    from jobs.runs.thinning import thin as thin_jobs
    from resources.dagster_events import old_events, prune_events
    from resources.store.image_store import ImageStore

    settings = load_settings()
    days = settings.keep_days if days is None else days
    keep = settings.keep_jobs if keep is None else keep
    instance = open_instance()
    with opened_queue() as queue:
        jobs = expired(instance, queue, days=days, jobs=keep)
        if not dry_run:
            jobs = retire(instance, queue, jobs)
        store = ImageStore(settings.resolved_data_dir)
        thinned = thin_jobs(queue, store, days=days, dry_run=dry_run) if thin else Thinned()
    lines = (old_events if dry_run else prune_events)(instance, days=settings.keep_log_days)
    if as_json:
        facts = {"dry_run": dry_run, "keep_days": days, "keep_jobs": keep, "jobs": jobs}
        facts |= {"thinned": asdict(thinned)} if thin else {}
        print_json(
            "prune", facts | {"keep_log_days": settings.keep_log_days, "log_lines": lines.events, "runs": lines.runs}
        )
        return
    what = "1 partition" if len(jobs) == 1 else f"{len(jobs)} partitions"
    say(f"{what} would be removed." if dry_run else f"{what} removed; the records and images stay.")
    for job_id in jobs[:_MOST_NAMED]:
        say(job_id)
    if len(jobs) > _MOST_NAMED:
        say(f"and {len(jobs) - _MOST_NAMED} more")
    done = "would be removed" if dry_run else "removed"
    say(f"{lines.events} log lines of {lines.runs} runs {done}.")
    if thin:
        size = f"{thinned.bytes / 1e6:.1f} MB"
        say(f"{thinned.files} files ({size}) of steps on the way of {thinned.jobs} jobs {done}.")


def restore(*, job_ids: Jobs) -> None:
    """Give jobs their Dagster partitions back, so that the UI shows them and they can be materialized by hand.

    They keep them as long as jobs that have just ended.
    """
    from jobs.cli.dagster_side import open_instance
    from jobs.runs.retention import restore as restore_job

    instance = open_instance()
    with opened_queue() as queue:

        def restore_one(job_id: str) -> None:
            came_back = restore_job(instance, queue, job_id)
            say(f"{job_id}: its partition is back." if came_back else f"{job_id}: has its partition.")

        for_each(queue, job_ids, restore_one)

"""Waiting for jobs, with a line of progress for each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from imaging.errors import BackendError
from jobs.cli.output import err, say, seconds_taken, short, short_why, status_text, table, where
from jobs.model.job_types import JOB_TYPES

if TYPE_CHECKING:
    from jobs.model.job import Job
    from jobs.queue.job_queue import JobQueue

POLL_SECONDS: Final = 0.5


def wait_until_over(
    queue: JobQueue,
    jobs: Sequence[Job],
    *,
    check: Callable[[], None] = lambda: None,
    most_seconds: float = float("inf"),
    console: Console = err,
) -> list[Job]:
    """Wait until no job goes on by itself: each is final, or held for a person, or comes after a held one.

    Removed jobs are not waited for.

    Args:
        queue: where to look.
        jobs: which ones, in the order in which they are shown.
        check: called between looks; what it raises ends the wait.
        most_seconds: the longest wait.
        console: a terminal gets bars; anything else gets one line per change.

    Returns:
        The jobs as they are now, in the same order.

    Raises:
        BackendError: it took longer than `most_seconds`.
    """
    deadline = time.monotonic() + most_seconds
    with _progress(console) as progress:
        bars = {
            job.id: progress.add_task(job.id, total=len(JOB_TYPES[job.job_type].stages) or job.children, where="")
            for job in jobs
        }
        seen: dict[str, str] = {}
        while True:
            found = queue.get_many([job.id for job in jobs])
            for job in found.values():
                now = where(job)
                progress.update(bars[job.id], completed=len(job.stages_completed), where=now)
                if seen.get(job.id) != now and not console.is_terminal:
                    say(f"{job.id}: {now}", console=console)
                seen[job.id] = now
            if _are_over(queue, found):
                return [found[job.id] for job in jobs if job.id in found]
            check()
            if time.monotonic() > deadline:
                raise BackendError(
                    f"After {most_seconds:g} seconds these jobs are not over: "
                    + ", ".join(f"{job_id} ({text})" for job_id, text in seen.items()),
                    "`fc status` and the logs say what they wait for.",
                )
            time.sleep(POLL_SECONDS)


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(finished_text=" "),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[where]}", markup=False),
        console=console,
        disable=not console.is_terminal,
    )


def _are_over(queue: JobQueue, found: Mapping[str, Job]) -> bool:
    """Whether none of the jobs goes on by itself."""
    from jobs.model.transitions import FINAL

    others = queue.get_many({job.after_id for job in found.values() if job.after_id} - set(found))
    held = {job.id for job in [*found.values(), *others.values()] if job.status == "held"}
    return all(job.status in FINAL or {job.id, job.after_id} & held for job in found.values())


def result_table(jobs: Sequence[Job]) -> Table:
    """How jobs ended: job, type, status, seconds, and the final image or the reason."""
    rows = []
    for job in jobs:
        taken = seconds_taken(job)
        result = job.final_image or "" if job.status == "completed" else short(short_why(job) or where(job), 100)
        rows.append((job.id, job.job_type, status_text(job.status), "-" if taken is None else f"{taken:.1f}", result))
    ended = table(("job", "type", "status", "seconds", "result"), rows)
    ended.columns[-1].overflow = "fold"
    return ended

"""`fc status`: what runs now, what waits, what failed, and whether the daemon and the workers live."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from imaging.errors import SettingsError
from jobs.cli.by_hand import pause_text
from jobs.cli.opening import opened_database
from jobs.cli.output import (
    ago,
    job_json,
    out,
    print_json,
    printable,
    short,
    short_why,
    status_text,
    table,
    until,
    where,
)
from jobs.model.faults import counted
from resources.settings import load_settings

if TYPE_CHECKING:
    from jobs.model.job import Job, Pause
    from resources.database import Database
    from resources.workers import Worker

MOST_RUNNING: Final = 20
MOST_FAILURES: Final = 5
MOST_WAITING: Final = 5
WATCH_SECONDS: Final = 2.0


def status(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again every 2 seconds, until Ctrl-C.")] = False,
) -> None:
    """Say what runs now and at which stage, what waits, what failed last, and whether daemon and workers live."""
    if as_json and watch:
        raise typer.BadParameter("--json prints one answer, so it cannot be combined with --watch.")
    with opened_database() as database:
        if as_json:
            print_json("status", _as_json(_overview(database)))
        elif not watch:
            out.print(_page(_overview(database)))
        else:
            with Live(_page(_overview(database)), console=out, auto_refresh=False) as live:
                while True:
                    time.sleep(WATCH_SECONDS)
                    live.update(_page(_overview(database)), refresh=True)


Daemons = dict[str, float | None] | str
"""Seconds since each daemon's heartbeat, or why that cannot be told."""


@dataclass(frozen=True, slots=True)
class Overview:
    """What there is to say. `waiting`: jobs that are tried again; `silence`: seconds after which a worker is lost."""

    pause: Pause | None
    counts: dict[str, int]
    running: list[Job]
    waiting: list[Job]
    failures: list[Job]
    workers: list[Worker]
    silence: float
    daemons: Daemons


def _overview(database: Database) -> Overview:
    from jobs.queue.job_queue import JobQueue
    from resources.workers import Workers

    queue = JobQueue(database)
    return Overview(
        pause=queue.paused(),
        counts={str(name): number for name, number in queue.counts().items()},
        running=queue.find(statuses=["running"], limit=MOST_RUNNING, newest_first=False),
        waiting=queue.waiting_again(MOST_WAITING),
        failures=queue.last_changed(["failed", "needs_review", "rejected"], MOST_FAILURES),
        workers=Workers(database).all(),
        silence=load_settings().worker_silence,
        daemons=_daemons(),
    )


def _daemons() -> Daemons:
    from jobs.cli.dagster_side import heartbeat_ages, open_instance

    try:
        return heartbeat_ages(open_instance())
    except SettingsError as error:
        return str(error)


def _as_json(found: Overview) -> dict[str, Any]:
    from jobs.cli.dagster_side import is_alive

    daemons = found.daemons
    known = {} if isinstance(daemons, str) else daemons
    return {
        "paused": None if found.pause is None else asdict(found.pause),
        "counts": found.counts,
        "running": [job_json(job) for job in found.running],
        "waiting": [job_json(job) for job in found.waiting],
        "failures": [job_json(job) for job in found.failures],
        "workers": [asdict(one) | {"alive": one.silent_seconds <= found.silence} for one in found.workers],
        "daemon_running": any(map(is_alive, known.values())),
        "daemons": {
            name: {"alive": is_alive(age), "seconds_since_heartbeat": None if age is None else round(age, 1)}
            for name, age in known.items()
        },
        "daemons_unknown_because": daemons if isinstance(daemons, str) else None,
    }


def _page(found: Overview) -> RenderableType:
    paused = [] if found.pause is None else [Text(printable(pause_text(found.pause)), style="yellow")]
    parts = [*paused, _summary(found.counts), *_jobs(found)]
    if found.workers:
        workers = [(one.name, ", ".join(one.queues), _doing(one, found.silence), _silent(one)) for one in found.workers]
        parts.append(table(("worker", "queues", "at", "last sign of life"), workers, title="\nWorkers"))
    return Group(*parts, _daemon_line(found.daemons))


def _summary(counts: dict[str, int]) -> RenderableType:
    summary = Text("Jobs: ")
    for name, number in counts.items():
        if number:
            summary.append_text(status_text(name)).append(f" {number}   ")
    return summary if any(counts.values()) else Text("Jobs: none yet")


def _jobs(found: Overview) -> Iterator[RenderableType]:
    running = [(job.id, job.job_type, job.current_stage or "starting", ago(job.started_at)) for job in found.running]
    if running:
        more = found.counts["running"] - len(running)
        title = "\nRunning now" + (f" (and {more} more)" if more > 0 else "")
        yield table(("job", "type", "stage", "for"), running, title=title)
    waiting = [(job.id, until(job.not_before), counted(job.faults), short(short_why(job), 80)) for job in found.waiting]
    if waiting:
        yield table(("job", "in", "failed attempts", "why"), waiting, title="\nTried again later")
    failures = [
        (job.id, where(job), job.fault or "", ago(job.updated_at), short(short_why(job), 80)) for job in found.failures
    ]
    if failures:
        yield table(("job", "how", "fault", "ago", "why"), failures, title="\nLast not well")


def _doing(one: Worker, silence: float) -> str:
    if one.silent_seconds > silence:
        return "lost"
    return ", ".join(one.run_ids) or "waits"


def _silent(one: Worker) -> str:
    return f"{one.silent_seconds:.0f} s ago"


def _daemon_line(daemons: Daemons) -> Text:
    from jobs.cli.dagster_side import is_alive

    if isinstance(daemons, str):
        return Text(f"\nDaemon: unknown. {daemons}", style="yellow")
    dead = [name for name, age in daemons.items() if not is_alive(age)]
    if not dead:
        return Text("\nDaemon: running", style="green")
    if len(dead) == len(daemons):
        return Text("\nDaemon: not running. Nothing starts until `fc up` does.", style="yellow")
    return Text(f"\nDaemon: running, but without heartbeat: {', '.join(dead)}. `fc doctor` says more.", style="yellow")

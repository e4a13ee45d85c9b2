"""`fc release`, `fc priority`, `fc pause`, `fc resume`: a person's hand in the queue."""

from __future__ import annotations

import getpass
import socket
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.each import Jobs, for_each
from jobs.cli.opening import opened_queue
from jobs.cli.output import local_time, say, warn

if TYPE_CHECKING:
    from jobs.model.job import Pause
    from jobs.queue.job_queue import JobQueue


def release(*, job_ids: Jobs) -> None:
    """Put held jobs into the queue, as if they had been submitted without --hold; of a group, all its held jobs."""
    with opened_queue() as queue:

        def release_one(job_id: str) -> None:
            for released in queue.release_held(job_id):
                say(f"{released}: in the queue.")

        try:
            for_each(queue, job_ids, release_one)
        finally:
            queue.settle_waiting()


def priority(
    *,
    job_ids: Jobs,
    number: Annotated[int, typer.Argument(metavar="N", min=1, max=10, help="1 is most urgent, 10 least.")],
) -> None:
    """Give jobs that have not begun another priority; of a group, all such jobs."""
    with opened_queue() as queue:

        def set_one(job_id: str) -> None:
            for changed in queue.set_priority(job_id, number):
                say(f"{changed}: priority {number}.")

        for_each(queue, job_ids, set_one)


def pause(*, reason: Annotated[str | None, typer.Option("--reason", help="Why; `fc status` shows it.")] = None) -> None:
    """Pause the queue: no job is claimed until `fc resume`, also after a restart. What was claimed before goes on.

    Jobs may be submitted all the same, and run by hand.
    """
    with opened_queue() as queue:
        found = queue.pause(by=_me(), reason=reason)
        busy = queue.counts()
    say(pause_text(found))
    if on := busy["claimed"] + busy["running"]:
        say(f"{on} that were claimed before go on; `fc cancel` ends one.")


def resume() -> None:
    """Let a paused queue go on."""
    with opened_queue() as queue:
        was_paused = queue.resume(by=_me())
    say("The queue goes on." if was_paused else "The queue was not paused.")


def pause_text(pause: Pause) -> str:
    """A pause in one line."""
    why = f" ({pause.reason})" if pause.reason else ""
    return f"The queue is paused since {local_time(pause.since)} by {pause.by}{why}; `fc resume` lets it go on."


def warn_if_paused(queue: JobQueue) -> None:
    """Say that nothing will start, if the queue is paused."""
    found = queue.paused()
    if found is not None:
        warn(pause_text(found))


def _me() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"

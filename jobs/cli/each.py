"""Commands about many jobs: each is done on its own, with an answer of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from imaging.errors import FaceChangerError
from jobs.cli.output import exit_code, print_error
from jobs.model.job import UnknownJobError

if TYPE_CHECKING:
    from jobs.queue.job_queue import JobQueue

JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id, or enough of its beginning or end.")]
Jobs = Annotated[list[str], typer.Argument(metavar="JOB...", help="The jobs' ids, or enough of each.")]


def whole_id(queue: JobQueue, text: str) -> str:
    """The whole id that a part of it stands for; what stands for no job as it is, for whoever says so.

    Raises:
        RejectedError: it stands for several.
    """
    try:
        return queue.resolve(text)
    except UnknownJobError:
        return text


def for_each(queue: JobQueue, job_ids: Iterable[str], do: Callable[[str], None]) -> None:
    """Do something with every job that is named; one that it cannot be done with stops no other.

    Args:
        queue: where the jobs are.
        job_ids: whole ids, or unique parts of them.
        do: is given the whole id, each once; says how it went, or raises a `FaceChangerError`, which is printed.

    Raises:
        typer.Exit: at the end, if any could not be done; with the highest of the exit codes.
    """
    worst = 0
    done: set[str] = set()
    for given in job_ids:
        try:
            job_id = queue.resolve(given)
            if job_id not in done:
                done.add(job_id)
                do(job_id)
        except FaceChangerError as error:
            print_error(error)
            worst = max(worst, exit_code(error))
    if worst:
        raise typer.Exit(worst)

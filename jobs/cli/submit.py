"""`fc submit`: requests from flags, a file or standard input into the queue."""

from __future__ import annotations

import functools
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imaging.errors import BackendError, RejectedError, SettingsError, TransientError
from jobs.cli.by_hand import warn_if_paused
from jobs.cli.each import whole_id
from jobs.cli.opening import opened_database, opened_queue
from jobs.cli.output import FAILED, INTERRUPTED, counted, err, job_json, out, print_json, say, table, warn
from jobs.cli.picture_files import in_natural_order, pictures_of
from jobs.cli.request_options import with_request_options
from jobs.model.ids import check_job_id, new_job_id
from jobs.model.job import JobIdTakenError
from jobs.model.job_types import JOB_TYPES
from jobs.model.request import RESULT_OF, JobRequest, parse_request
from resources.settings import Settings, dagster_home, load_settings

if TYPE_CHECKING:
    from jobs.model.job import Job
    from jobs.queue.job_queue import JobQueue


@with_request_options
def submit(
    *,
    fields: dict[str, Any],
    more_pictures: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PICTURE]...", help="More pictures behind -s, as a shell makes them of -s *.jpg."),
    ] = None,
    job_id: Annotated[
        str | None, typer.Option("--id", help="The job's id: a-z, 0-9 and '-'. Empty: one is made.", metavar="ID")
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            "--file",
            "-f",
            metavar="FILE",
            help="Requests from a .json, .jsonl, .yaml or .csv file; '-': JSON on stdin.",
        ),
    ] = None,
    from_job: Annotated[
        str | None,
        typer.Option(metavar="JOB", help="Work on the picture that this job makes; as --source-image job:JOB."),
    ] = None,
    variants: Annotated[
        int | None, typer.Option(min=2, max=1000, help="A group of so many jobs, each with its own seed.")
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(
            metavar="HOW_OFTEN",
            help="Again and again: 90m, 1h, 1d, or a cron expression in local time such as '0 9 * * mon-fri'. The "
            "first time is --at, or the next that comes. See `fc schedule`.",
        ),
    ] = None,
    hold: Annotated[
        bool, typer.Option("--hold", help="Leave the job out of the queue; prints the command that runs it by hand.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until every job is over; exit code 0 only if all completed.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Put jobs into the queue: one from flags, or many from a file. All are accepted, or none.

    Several pictures (-s A -s B, -s *.jpg, or -s FOLDER) make a group, with a job for each.
    """
    pictures = _pictures(fields, more_pictures or [])
    _check_options(hold=hold, wait=wait, every=every, from_job=from_job, source_image=pictures or None)
    if from_job is not None:
        fields["source_image"] = f"{RESULT_OF}{from_job}"
    fields, pictures = _with_whole_ids(fields, pictures)
    read = functools.partial(_read, fields, job_id, file, variants, pictures)
    requests = read()
    if every is not None:
        _keep_schedules(requests, every, as_json=as_json)
        return
    with opened_queue() as queue:
        try:
            jobs = _add(requests, queue, hold=hold)
        except JobIdTakenError:
            if job_id is not None or file is not None:
                raise
            jobs = _add(read(), queue, hold=hold)  # another process made the same id for its group
        if wait:
            jobs = _wait(queue, jobs, quiet=as_json)
    if as_json:
        print_json("jobs", [_described(job) for job in jobs])
    elif hold:
        _print_held(jobs)
    elif not wait:
        _print_added(jobs)
    if wait and any(job.status != "completed" for job in jobs):
        raise typer.Exit(FAILED)


def _check_options(
    *, hold: bool, wait: bool, every: str | None, from_job: str | None, source_image: list[str] | None
) -> None:
    if hold and wait:
        raise typer.BadParameter("A held job waits for you, so --hold cannot be combined with --wait.")
    if every is not None and (hold or wait):
        raise typer.BadParameter("--every makes jobs later, so --hold and --wait cannot be combined with it.")
    if from_job is not None and source_image is not None:
        raise typer.BadParameter("A job works on one picture: --from-job cannot be combined with --source-image.")


def _pictures(fields: dict[str, Any], more: list[str]) -> list[str]:
    """The pictures for a job each; a single one stays in the fields, which else have none."""
    named = [*fields.get("source_image", ()), *more]
    if more and "source_image" not in fields:
        raise typer.BadParameter(
            f"{more[0]!r} belongs to no option. Put a prompt of several words in quotes, and -s before pictures."
        )
    pictures, left_out = pictures_of(in_natural_order(named) if more else named)
    if left_out:
        warn(f"{counted(len(left_out), 'file')} left out, as no pictures by their names: {', '.join(left_out)}")
    if pictures and pictures == named and len(pictures) == 1:
        fields["source_image"] = pictures[0]
    else:
        fields.pop("source_image", None)
    return pictures


def _with_whole_ids(fields: dict[str, Any], pictures: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The same with whole ids of jobs in place of parts of them; what stands for none is left as it is."""
    named = [name for name in ("parent", "after") if name in fields]
    sources = [*pictures, *([fields["source_image"]] if "source_image" in fields else [])]
    if not named and not any(source.startswith(RESULT_OF) for source in sources):
        return fields, pictures
    with opened_queue() as queue:

        def of_source(source: str) -> str:
            is_job = source.startswith(RESULT_OF)
            return RESULT_OF + whole_id(queue, source.removeprefix(RESULT_OF)) if is_job else source

        changed: dict[str, Any] = {name: whole_id(queue, fields[name]) for name in named}
        if "source_image" in fields:
            changed["source_image"] = of_source(fields["source_image"])
        return fields | changed, [of_source(picture) for picture in pictures]


def _read(
    fields: dict[str, Any], job_id: str | None, file: str | None, variants: int | None, pictures: Sequence[str]
) -> list[tuple[str | None, JobRequest]]:
    from jobs.requests.accept import grouped
    from jobs.requests.accept import variants as make_variants

    if file is not None:
        if variants is not None:
            raise typer.BadParameter("--variants is about one request; in a file, write a group and its jobs.")
        return _from_file(file, fields | ({"source_image": pictures} if pictures else {}), job_id)
    fields = _with_tags(fields)
    if pictures and "source_image" not in fields:
        if variants is not None:
            raise typer.BadParameter("--variants is about one request; with several pictures, each makes one job.")
        return grouped(job_id or new_job_id(), fields, [{"source_image": picture} for picture in pictures])
    if variants is not None:
        return make_variants(job_id or new_job_id(), fields, variants)
    return [(job_id, parse_request(fields))]


def _keep_schedules(requests: Sequence[tuple[str | None, JobRequest]], every: str, *, as_json: bool) -> None:
    from jobs.cli.schedule import schedule_json, schedule_table
    from jobs.requests.schedules import add_schedules
    from resources.store.image_store import ImageStore

    settings = load_settings()
    named = [(new_job_id() if one is None else check_job_id(one), request) for one, request in requests]
    with opened_database() as database:
        store = ImageStore(settings.resolved_data_dir)
        added = add_schedules(named, every=every, database=database, store=store, settings=settings)
    if as_json:
        print_json("schedules", [schedule_json(one) for one in added])
    else:
        out.print(schedule_table(added))
        say("Jobs are made while `fc up` runs; `fc schedule stop ID` ends it.")


def _with_tags(fields: dict[str, Any]) -> dict[str, Any]:
    if "tags" in fields:
        tags: dict[str, str] = {}
        for key, equals, value in (text.partition("=") for text in fields["tags"]):
            if not key or not equals:
                raise RejectedError(f"tags: {key + equals + value!r} is not KEY=VALUE.", "Write --tag project=spring.")
            if key in tags:
                raise RejectedError(f"--tag: {key} is given twice: {tags[key]} and {value}.", "Give each tag once.")
            tags[key] = value
        fields = fields | {"tags": tags}
    return fields


def _from_file(file: str, fields: dict[str, Any], job_id: str | None) -> list[tuple[str | None, JobRequest]]:
    from jobs.requests.files import MAX_FILE_BYTES, load_requests, parse_entries, read_entries

    also = [*fields, *(["id"] if job_id is not None else [])]
    if also:
        raise RejectedError(
            f"--file: {also[0]} is given beside the file.", "Write it into the file, or leave --file out."
        )
    if file != "-":
        return load_requests(Path(file))
    content = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise RejectedError("stdin: is larger than 20 MB.", "Submit it in parts.")
    return parse_entries("stdin", read_entries("stdin.json", content))


def _add(requests: Sequence[tuple[str | None, JobRequest]], queue: JobQueue, *, hold: bool) -> list[Job]:
    from jobs.requests.accept import submit as submit_all
    from resources.store.image_store import ImageStore

    settings = load_settings()
    if any(JOB_TYPES[request.job_type].uses_generator for _, request in requests):
        _check_image_server(settings)
    store = ImageStore(settings.resolved_data_dir)
    if not hold:
        return submit_all(requests, queue=queue, store=store, settings=settings, origin="cli")
    from jobs.cli.dagster_side import add_partitions, open_instance, prepare_home

    prepare_home(dagster_home())
    instance = open_instance()  # first: a held job without a partition could not be started
    jobs = submit_all(requests, queue=queue, store=store, settings=settings, origin="cli", hold=True)
    add_partitions(instance, jobs)
    return jobs


def _check_image_server(settings: Settings) -> None:
    """Refuse jobs that the image server could not make. One that is down may be up when their turn comes.

    Raises:
        SettingsError: the server answers, and lacks a model or a node, or turns the sign-in down.
    """
    from resources.choose import make_image_server

    server = make_image_server(settings)
    if server is None:
        return
    try:
        server.check_server()
    except TransientError as error:
        warn(f"{error.what} The jobs wait until it is there.")
    except BackendError as error:
        raise SettingsError(error.what, error.hint) from error


def _wait(queue: JobQueue, jobs: Sequence[Job], *, quiet: bool) -> list[Job]:
    from jobs.cli.waiting import result_table, wait_until_over

    _warn_without_daemon()
    warn_if_paused(queue)
    try:
        jobs = wait_until_over(queue, jobs)
    except KeyboardInterrupt:
        names = ", ".join(job.id for job in jobs)
        say(f"No longer waiting; the jobs go on: {names}. `fc show JOB` says how far they are.", console=err)
        raise typer.Exit(INTERRUPTED) from None
    if not quiet:
        out.print(result_table(jobs))
    return list(jobs)


def _warn_without_daemon() -> None:
    from jobs.cli.dagster_side import heartbeat_ages, is_alive, open_instance

    home = dagster_home()
    if not home.is_dir() or not any(map(is_alive, heartbeat_ages(open_instance()).values())):
        warn(f"No Dagster daemon runs on {home}; the jobs start when `fc up` does.")


def _described(job: Job) -> dict[str, Any]:
    described = job_json(job)
    if job.status == "held":
        from jobs.cli.dagster_side import materialize_command

        described |= {"command": materialize_command(job), "environment": {"DAGSTER_HOME": str(dagster_home())}}
    return described


def _print_held(jobs: Sequence[Job]) -> None:
    from jobs.cli.dagster_side import materialize_command

    say(f"{counted(len(jobs), 'job')} held. `fc release JOB` puts one into the queue. To run by hand:")
    say(f"export DAGSTER_HOME={shlex.quote(str(dagster_home()))}")
    for job in jobs:
        say(materialize_command(job))


def _print_added(jobs: Sequence[Job]) -> None:
    out.print(table(("job", "type", "priority"), [(job.id, job.job_type, str(job.priority)) for job in jobs]))
    for group in (job for job in jobs if job.job_type == "group" and job.children):
        say(f"{group.id} is a group of {counted(group.children, 'job')}.")
    say(f"{counted(len(jobs), 'job')} in the queue. It starts while `fc up` runs; `fc show JOB` says how far it is.")

"""`fc show`: everything that is known about one job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.text import Text

from imaging.errors import SettingsError
from jobs.cli.each import JobId
from jobs.cli.opening import opened_queue
from jobs.cli.output import (
    ago,
    job_json,
    out,
    print_json,
    say,
    seconds_taken,
    short,
    short_why,
    stars_text,
    status_text,
    table,
    until,
    where,
)
from jobs.model.faults import counted
from jobs.model.job_types import JOB_TYPES
from jobs.recipes.recipe import DEFAULT, INSTALLED, Recipe
from jobs.recipes.sections import SECTION_OF
from resources.settings import load_settings

MOST_RELATED: Final = 50

if TYPE_CHECKING:
    from jobs.model.job import ImageRow, Job, LogEntry, StageResult


def show(
    *,
    job_id: JobId,
    log_lines: Annotated[int, typer.Option("--log", min=0, help="Most lines of the job's log, newest last.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show one job: request, stages, images, runs, log, and why it is not well if it is not."""
    with opened_queue() as queue:
        job = queue.get(queue.resolve(job_id))
        job_id = job.id
        results = queue.stage_results(job_id)
        images = queue.images(job_id)
        log = queue.logs(job_id, log_lines) if log_lines else []
        children = queue.find(parent_id=job_id, limit=MOST_RELATED, newest_first=False)
        followers = queue.find(after_id=job_id, limit=MOST_RELATED, newest_first=False)
    recipe = _recipe(job)
    if as_json:
        related = {"child_ids": [child.id for child in children], "follower_ids": [one.id for one in followers]}
        print_json("job", _as_json(job, results, images, log) | {"recipe": _recipe_json(recipe)} | related)
        return
    _print_state(job)
    _print_partition(job)
    _print_family(job, children, followers)
    out.print(table(("field", "value"), _request_rows(job), title="\nRequest"))
    if recipe is not None:
        out.print(table(("section", "field", "value", "from"), _recipe_rows(recipe), title="\nRecipe"))
    out.print(table(("stage", "status", "ms", "cached", "file"), _stage_rows(job, results), title="\nStages"))
    if images:
        rows = [(image.stage, f"{image.width}x{image.height}", _count(image.face_count)) for image in images]
        shown = [(*row, Text(image.path, overflow="fold")) for row, image in zip(rows, images, strict=True)]
        out.print(table(("stage", "size", "faces", "path"), shown, title="\nImages"))
    if job.run_ids:
        from jobs.cli.dagster_side import run_url

        say("\nRuns (newest last; the address works while `fc up` runs on its default port)", style="bold")
        for run_id in job.run_ids:
            say(run_url(run_id))
    if log:
        entries = [(_clock(entry.at), entry.level, entry.stage or "", short(entry.message, 200)) for entry in log]
        out.print(table(("at (UTC)", "level", "stage", "message"), entries, title="\nLog"))


def _as_json(
    job: Job, results: Sequence[StageResult], images: Sequence[ImageRow], log: Sequence[LogEntry]
) -> dict[str, Any]:
    from jobs.cli.dagster_side import run_url

    return job_json(job) | {
        "seconds": seconds_taken(job),
        "stages": [asdict(result) for result in results],
        "images": [asdict(image) for image in images],
        "run_urls": [run_url(run_id) for run_id in job.run_ids],
        "log": [asdict(entry) for entry in log],
    }


def _print_state(job: Job) -> None:
    out.print(Text.assemble((job.id, "bold"), "  ", job.job_type, "  ", status_text(job.status)))
    added = f"added {ago(job.created_at)} ago by {job.origin}"
    taken = seconds_taken(job)
    failed = f"failed attempts: {counted(job.faults) or 'none'}"
    say(added if taken is None else f"{added}; {taken:.1f} s from its first start; {failed}")
    if job.error and job.status != "completed":
        say(f"{where(job)}: {short_why(job)}", style="bold")
        if job.error_hint:
            say(f"Fix: {job.error_hint}")
    if job.status == "pending" and job.fault:
        say(f"It is tried again in {until(job.not_before)}{', alone' if job.solo else ''}.")
    elif job.status in ("waiting", "pending") and where(job) != job.status:
        say(f"It is {where(job)}.")
    if job.status == "held":
        from jobs.cli.dagster_side import materialize_command

        say(f"`fc release {job.id}` puts it into the queue. To run it by hand: {materialize_command(job)}")
    if job.removing_at:
        say(f"Its removal was cut: `fc remove {job.id} --yes` ends it.")
    if job.final_image:
        say(f"Final image: {job.final_image}")
    if job.stars:
        say(f"Rated {job.stars} of 5: {stars_text(job.stars)}")


def _print_partition(job: Job) -> None:
    """Say that the Dagster UI does not list an ended job, and how it does again."""
    from jobs.cli.dagster_side import has_partition
    from jobs.model.transitions import FINAL

    if job.status not in FINAL or not JOB_TYPES[job.job_type].stages:
        return
    try:
        if not has_partition(job.id):
            again = "`fc restore JOB` brings it back, to be seen in the UI"
            by_hand = "" if job.status == "archived" else " or materialized by hand; `fc retry JOB` does so by itself"
            say(f"Its Dagster partition is not there: {again}{by_hand}.".replace("JOB", job.id))
    except SettingsError as error:
        say(f"Whether it has a Dagster partition cannot be told. {error}")


def _print_family(job: Job, children: Sequence[Job], followers: Sequence[Job]) -> None:
    if job.parent_id:
        say(f"Belongs to the group {job.parent_id}")
    if job.after_id:
        say(f"Comes after {job.after_id}")
    for title, jobs in (("Its jobs", children), ("Jobs that come after it", followers)):
        if jobs:
            rows = [(one.id, one.job_type, where(one), one.final_image or short(short_why(one), 100)) for one in jobs]
            out.print(table(("job", "type", "status", "result"), rows, title=f"\n{title}"))
    if len(children) < job.children:
        say(f"{job.children - len(children)} more: `fc list --parent {job.id}`, unless they were removed.")


def _recipe(job: Job) -> Recipe | None:
    """What the job is made by, or would be now; None for a group, which makes nothing."""
    from jobs.requests.recipes import recipe_of

    return None if job.job_type == "group" else recipe_of(job, load_settings())


def _recipe_json(recipe: Recipe | None) -> dict[str, Any] | None:
    if recipe is None:
        return None
    return {name: {"value": recipe.value(name), "from": recipe.source(name)} for name in SECTION_OF}


def _recipe_rows(recipe: Recipe) -> list[tuple[str | Text, ...]]:
    """Every value; those that nobody has set are dim."""
    rows: list[tuple[str | Text, ...]] = []
    for name, section in SECTION_OF.items():
        source = recipe.source(name)
        value = recipe.value(name)
        empty = "as set up" if name in INSTALLED else "-"
        shown = empty if value in (None, "") else short(str(value), 200)
        style = "dim" if source == DEFAULT else ""
        rows.append(tuple(Text(text, style=style, overflow="fold") for text in (section, name, shown, source)))
    return rows


def _request_rows(job: Job) -> list[tuple[str, str | Text]]:
    fields = {"job_type": job.job_type, "priority": job.priority} | job.request.as_given()
    given = [(name, value) for name, value in fields.items() if value not in (None, "", {})]
    return [(name, Text(short(str(value), 400), overflow="fold")) for name, value in given]


def _stage_rows(job: Job, results: Sequence[StageResult]) -> list[tuple[str | Text, ...]]:
    by_stage = {result.stage: result for result in results}
    rows: list[tuple[str | Text, ...]] = []
    for stage in JOB_TYPES[job.job_type].stages:
        result = by_stage.get(stage)
        if result is None:
            rows.append((stage, "-", "", "", ""))
            continue
        file = str((result.output or {}).get("path", "")) or short(result.error or "", 100)
        milliseconds = "" if result.milliseconds is None else str(result.milliseconds)
        cached = "yes" if result.cached else ""
        rows.append((stage, status_text(result.status), milliseconds, cached, Text(file, overflow="fold")))
    return rows


def _count(number: int | None) -> str:
    return "" if number is None else str(number)


def _clock(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"

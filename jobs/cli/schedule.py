"""`fc schedule`: the requests that become jobs again and again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from jobs.cli.opening import opened_database
from jobs.cli.output import local_time, out, print_json, say, short, table

if TYPE_CHECKING:
    from jobs.requests.schedules import Schedule

schedule = typer.Typer(help="List, show and stop schedules; `fc submit --every` adds one.", no_args_is_help=True)

ScheduleId = Annotated[str, typer.Argument(metavar="ID", help="The schedule's id.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@schedule.command("list")
def list_schedules(*, as_json: AsJson = False) -> None:
    """List all schedules, also those that were stopped."""
    from jobs.requests.schedules import find_schedules

    with opened_database() as database:
        found = find_schedules(database)
    if as_json:
        print_json("schedules", [schedule_json(one) for one in found])
    elif found:
        out.print(schedule_table(found))
    else:
        say("There is no schedule yet. `fc submit -p '...' --every 1d` adds one.")


@schedule.command("show")
def show(*, schedule_id: ScheduleId, as_json: AsJson = False) -> None:
    """Show one schedule and its request."""
    from jobs.requests.schedules import get_schedule

    with opened_database() as database:
        found = get_schedule(database, schedule_id)
    if as_json:
        print_json("schedule", schedule_json(found))
        return
    out.print(schedule_table([found]))
    if found.error:
        say(f"Its newest job could not be made: {found.error}", style="bold")
    fields = found.request.model_dump(mode="json", exclude_defaults=True)
    rows = [(name, Text(short(str(value), 400), overflow="fold")) for name, value in fields.items()]
    out.print(table(("field", "value"), rows, title="\nRequest"))


@schedule.command("stop")
def stop(*, schedule_id: ScheduleId) -> None:
    """Make no more jobs from a schedule. Those that it made go on."""
    from jobs.requests.schedules import stop_schedule

    with opened_database() as database:
        stop_schedule(database, schedule_id)
    say(f"{schedule_id}: stopped.")


def schedule_json(found: Schedule) -> dict[str, Any]:
    """A schedule as the `--json` outputs show it."""
    names = ("every", "next_at", "enabled", "last_job_id", "error", "created_at")
    request = found.request.model_dump(mode="json")
    return {"schedule_id": found.id} | {name: getattr(found, name) for name in names} | {"request": request}


def schedule_table(found: Sequence[Schedule]) -> Table:
    """Schedules, one a row."""
    rows = [
        (
            one.id,
            one.every,
            local_time(one.next_at) if one.enabled else "stopped",
            one.last_job_id or "-",
            short(one.error or one.request.pony_prompt or one.request.source_image or "", 50),
        )
        for one in found
    ]
    return table(("schedule", "every", "next", "last job", "what"), rows)

"""How the commands print, and the exit codes."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from imaging.errors import FaceChangerError, InvalidImageError, RejectedError, SettingsError

if TYPE_CHECKING:
    from jobs.model.job import Job

FAILED: Final = 1
BAD_INPUT: Final = 2
NOT_FOUND: Final = 3
ENVIRONMENT: Final = 4
INTERRUPTED: Final = 130

JSON_VERSION: Final = 1
"""Of what `--json` prints: one higher when a name goes or means something else, the same when one comes."""

_PIPE_WIDTH: Final = 160  # columns when nobody says how wide the reader's page is

_ID_COLUMNS: Final = ("job", "schedule", "last job")

STATUS_STYLES: Final = {
    "held": "dim",
    "waiting": "cyan",
    "pending": "cyan",
    "claimed": "cyan",
    "running": "bold blue",
    "completed": "green",
    "needs_review": "yellow",
    "failed": "bold red",
    "cancelled": "dim",
    "rejected": "red",
    "archived": "dim",
}


def _console(*, stderr: bool) -> Console:
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, highlight=False, width=None if terminal else _PIPE_WIDTH)


out: Final = _console(stderr=False)
"""For what was asked for."""
err: Final = _console(stderr=True)
"""For errors, warnings and progress, so that they never mix with JSON."""


Kind = Literal[
    "job",
    "jobs",
    "history",
    "reviews",
    "status",
    "checks",
    "prune",
    "schedule",
    "schedules",
    "faces",
    "models",
    "model_checks",
    "model_pull",
    "model_speeds",
]
"""What `data` is of, in the JSON that a command prints."""


def print_json(kind: Kind, data: Any) -> None:  # noqa: ANN401 - any JSON value
    """Print one JSON document on stdout, in the one shape of all commands; times become ISO 8601."""
    document = {"version": JSON_VERSION, "kind": kind, "data": data}
    sys.stdout.write(json.dumps(document, indent=2, default=_jsonable) + "\n")


def _jsonable(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def say(text: str, *, style: str = "", console: Console = out) -> None:
    """Print text as it is: no markup is read in it, no line is broken, no control character gets through."""
    console.print(Text(printable(text), style=style), soft_wrap=True)


def warn(text: str) -> None:
    """Print a warning on stderr."""
    say(f"Warning: {text}", style="yellow", console=err)


def print_error(error: FaceChangerError) -> None:
    """Print what is wrong, and the hint, on stderr."""
    say(f"Error: {error.what}", style="bold red", console=err)
    if error.hint:
        say(f"Fix: {error.hint}", console=err)


def exit_code(error: FaceChangerError) -> int:
    """The exit code that stands for an error."""
    from jobs.model.job import UnknownJobError

    if isinstance(error, UnknownJobError):
        return NOT_FOUND
    if isinstance(error, RejectedError | InvalidImageError):
        return BAD_INPUT
    return ENVIRONMENT if isinstance(error, SettingsError) else FAILED


def printable(text: str) -> str:
    """Text without control characters, which could rewrite the reader's terminal; line breaks stay."""
    return "".join(char if char.isprintable() or char == "\n" else " " for char in text)


def short(text: str, limit: int = 60) -> str:
    """One line of at most `limit` characters."""
    line = " ".join(printable(text).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def counted(number: int, what: str) -> str:
    """A number of things: `1 face`, `2 faces`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def table(columns: Iterable[str], rows: Iterable[Iterable[str | Text]], *, title: str = "") -> Table:
    """A plain table; strings are printed as they are, without markup."""
    plain = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    cells = [[cell if isinstance(cell, Text) else Text(printable(cell)) for cell in row] for row in rows]
    for place, name in enumerate(columns):
        longest = max((row[place].cell_len for row in cells), default=0)
        if name in _ID_COLUMNS:  # never cut, whatever becomes of the others: it is typed again
            plain.add_column(name, no_wrap=True, min_width=longest)
        else:
            plain.add_column(name)
    for row in cells:
        plain.add_row(*row)
    return plain


def status_text(status: str) -> Text:
    """A job's status in its colour."""
    return Text(status, style=STATUS_STYLES.get(status, ""))


def stars_text(stars: int | None) -> str:
    """How a picture was rated: `***` for 3 of 5."""
    return "*" * (stars or 0)


def ago(moment: datetime | None) -> str:
    """How long ago, in one unit: `12 s`, `5 min`, `3 h`, `8 d`; a dash for never."""
    if moment is None:
        return "-"
    seconds = max(0, round((datetime.now(UTC) - moment).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def until(moment: datetime | None) -> str:
    """How long until then, in one unit as in `ago`; `0 s` when it is past or there is no such time."""
    left = timedelta() if moment is None else max(timedelta(), moment - datetime.now(UTC))
    return ago(datetime.now(UTC) - left)


def local_time(moment: datetime) -> str:
    """A moment in this machine's local time, with its zone."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S %Z}"


def seconds_taken(job: Job) -> float | None:
    """Seconds from the job's first start to its end, or to now; None when it was never started."""
    if job.started_at is None:
        return None
    return ((job.finished_at or datetime.now(UTC)) - job.started_at).total_seconds()


def job_json(job: Job) -> dict[str, Any]:
    """A job as the `--json` outputs show it."""
    names = (
        "job_type", "status", "priority", "origin", "parent_id", "after_id", "children", "not_before",
        "attempts", "current_stage", "stages_completed", "final_image", "error", "error_stage", "error_hint",
        "fault", "faults", "stars", "run_id", "run_ids", "created_at", "started_at", "finished_at", "source",
    )  # fmt: skip
    request = job.request.model_dump(mode="json")
    return {"job_id": job.id} | {name: getattr(job, name) for name in names} | {"request": request}


def where(job: Job) -> str:
    """A job's status, and the stage it is at or stopped at, or what it waits for."""
    if job.status == "waiting":
        return f"waiting for {job.after_id or ('its jobs' if job.children else 'its first job')}"
    if job.status == "pending" and job.not_before is not None and job.not_before > datetime.now(UTC):
        return f"pending until {local_time(job.not_before)}"
    if job.job_type == "group":
        return job.status
    stage = job.error_stage if job.error_stage and job.status != "running" else job.current_stage
    if job.status in ("running", "failed", "needs_review", "rejected") and stage:
        return f"{job.status} at {stage}"
    return job.status


def reason(job: Job) -> str:
    """Why a job is not well, in one text; empty when there is nothing to say."""
    return " ".join(part for part in (job.error, job.error_hint) if part)


def short_why(job: Job) -> str:
    """Why a job is not well, where its id stands already: without that, and what a check measured in front."""
    text = job.error or ""
    text = re.sub(rf"^Job {job.id}: |(?<=\w) (?:of|for) job {job.id}(?![\w-])", "", text)
    text = re.sub(rf"(?<![\w-])([Tt]he )?[Jj]ob {job.id}(?![\w-])", "the job", text)
    found = _MEASURED.search(text)
    if found is not None:
        limit = found["limit"] or ""
        return f"{found['number'] or found['bare']}{limit}: {text[: found.start()]}{text[found.end() :]}"
    return text[:1].upper() + text[1:]


_MEASURED: Final = re.compile(
    r"(?: is| by)? (?P<number>-?\d[\d.]*%?(?: px wide)?)(?: of it is white)?"
    r"(?P<limit>, (?:under|over|at least|at most) -?[\d.]*\d%?(?: is (?:usual|asked))?)"
    r"|(?<=luminance) (?P<bare>\d\.\d+)"
)
"""What a check measured, with its limit, as the gates and the checks of pictures, portraits and identity write it."""

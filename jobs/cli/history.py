"""`fc history`: every attempt of a job at every stage."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from jobs.cli.each import JobId
from jobs.cli.opening import opened_queue
from jobs.cli.output import out, print_json, say, short, table
from resources.settings import load_settings

if TYPE_CHECKING:
    from jobs.model.job import Attempt
    from resources.store.image_store import ImageStore


def history(
    *,
    job_id: JobId,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with the settings of each attempt.")] = False,
) -> None:
    """Show every attempt at every stage: hashes of inputs and output, verdict, time, and where its file lies now.

    A failed one says which kind of fault it was: service (busy, down or too slow), crash (the run died), memory (too
    short) or permanent (would fail again). A stage whose earlier result was used again is no attempt.
    """
    from resources.store.image_store import ImageStore

    store = ImageStore(load_settings().resolved_data_dir)
    with opened_queue() as queue:
        job_id = queue.resolve(job_id)
        attempts = [_described(attempt, store) for attempt in queue.attempts(job_id)]
    if as_json:
        print_json("history", {"job_id": job_id, "attempts": attempts})
        return
    if not attempts:
        say(f"{job_id}: no stage has begun yet.")
        return
    rows = [_row(one) for one in attempts]
    out.print(table(("started (UTC)", "stage", "verdict", "s", "inputs", "output", "file or reason"), rows))


def _described(attempt: Attempt, store: ImageStore) -> dict[str, Any]:
    ended = attempt.finished_at
    seconds = None if ended is None else round((ended - attempt.started_at).total_seconds(), 3)
    return asdict(attempt) | {"seconds": seconds, "file": _file(attempt, store)}


def _file(attempt: Attempt, store: ImageStore) -> str | None:
    """Where the attempt's file lies now: in its place, or under `history`; None if neither has it."""
    from resources.artifacts.records import ARTIFACTS
    from resources.store.image_store import history_place

    sha256 = (attempt.output or {}).get("sha256")
    if not sha256:
        return None
    place = ARTIFACTS[attempt.stage].place(attempt.job_id)
    if store.exists(*place) and store.sha256_of(*place) == sha256:
        return str(store.path(*place))
    old = history_place(*place, sha256=sha256)
    return str(store.path(*old)) if store.exists(*old) else None


def _row(one: dict[str, Any]) -> list[str | Text]:
    inputs = (one["input"] or {}).get("sha256", {})
    output = str((one["output"] or {}).get("sha256", ""))[:8]
    return [
        f"{one['started_at']:%Y-%m-%d %H:%M:%S}",
        one["stage"],
        one["verdict"] if one["fault"] is None else f"{one['verdict']} ({one['fault']})",
        "" if one["seconds"] is None else f"{one['seconds']:.1f}",
        " ".join(sha256[:8] for sha256 in inputs.values()),
        output,
        Text(one["file"] or short(one["reason"] or "", 200), overflow="fold"),
    ]

"""What commands print: ids that are never cut, reasons whose number stands first, and one shape of JSON."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from jobs.cli.output import job_json, short_why, table
from jobs.model.job import NewJob
from jobs.model.request import parse_request
from jobs.queue.job_queue import JobQueue
from tests.support.commands import Fc

LONG = "20261121-101530-123456-x7k2-1000"


def printed(width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    rows = [(LONG, "face_processing", "needs_review at generated_image", "5", "12 s", "a knight in the snow " * 3)]
    console.print(table(("job", "type", "status", "prio", "added", "what"), rows))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= width
    return text


@pytest.mark.parametrize("width", [160, 120, 80, 72, 64])
def test_an_id_is_never_cut_in_a_table(width: int) -> None:
    assert LONG in printed(width)


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (
            (
                "The final image of job a-1 is not good enough: the quality of the final image is 0.412, under 0.5 "
                "(lowest: sharpness 0.02)."
            ),
            (
                "0.412, under 0.5: The final image is not good enough: the quality of the final image "
                "(lowest: sharpness 0.02)."
            ),
        ),
        (
            (
                "The generated image of job a-1 was turned down: it is blank: its brightness varies by 0.0, "
                "at least 3 is usual."
            ),
            "0.0, at least 3 is usual: The generated image was turned down: it is blank: its brightness varies.",
        ),
        (
            "No portrait of job a-1 passed its checks: the face is 22 px wide, under 24.",
            "22 px wide, under 24: No portrait passed its checks: the face.",
        ),
        (
            "No portrait of job a-1 passed its checks: the face is too dark: luminance 0.08.",
            "0.08: No portrait passed its checks: the face is too dark: luminance.",
        ),
        (
            "Who the faces of job a-1 are is not as asked: face 1: as before: similarity 0.41, at most 0.363 is asked.",
            "0.41, at most 0.363 is asked: Who the faces are is not as asked: face 1: as before: similarity.",
        ),
        ("Job a-1: a server did not answer.", "A server did not answer."),
        ("Job a-1 works on the picture of job a-12.", "The job works on the picture of job a-12."),
        ("3 of 4 jobs of the group are not completed.", "3 of 4 jobs of the group are not completed."),
    ],
)
def test_a_reason_begins_with_what_was_measured_and_does_not_repeat_the_id(
    queue: JobQueue, fc: Fc, error: str, shown: str
) -> None:
    queue.add([NewJob("a-1", parse_request({"pony_prompt": "x"}), None, "cli")])
    queue.start("a-1", run_id="r", batch_id=None)
    queue.review("a-1", run_id="r", stage="final_image", what=error, hint="Look.")
    assert short_why(queue.get("a-1")) == shown
    assert f"a-1 at final_image: {shown}" in fc("review")[1]
    assert shown in fc("show", "a-1")[1]


def test_every_command_prints_json_of_one_shape(fc: Fc, queue: JobQueue, tmp_path: Path) -> None:
    picture = tmp_path / "plain.png"
    Image.new("RGB", (64, 64), (9, 8, 7)).save(picture)
    assert fc("submit", "-p", "x", "--id", "job-a")[0] == 0
    assert fc("submit", "-p", "x", "--every", "1d", "--id", "daily")[0] == 0
    commands = {
        ("submit", "-p", "x"): ("jobs", list),
        ("submit", "-p", "x", "--every", "2d"): ("schedules", list),
        ("list",): ("jobs", list),
        ("show", "job-a"): ("job", dict),
        ("history", "job-a"): ("history", dict),
        ("review",): ("reviews", list),
        ("status",): ("status", dict),
        ("doctor",): ("checks", dict),
        ("prune", "--dry-run"): ("prune", dict),
        ("schedule", "list"): ("schedules", list),
        ("schedule", "show", "daily"): ("schedule", dict),
        ("faces", str(picture)): ("faces", dict),
        ("models", "list"): ("models", list),
        ("models", "check"): ("model_checks", dict),
    }
    fc("up", "--help")
    for command, (kind, shape) in commands.items():
        _, out, said = fc(*command, "--json")
        told = json.loads(out)
        assert list(told) == ["version", "kind", "data"], (command, said)
        assert (told["version"], told["kind"], type(told["data"])) == (1, kind, shape), command
        for one in told["data"] if kind == "jobs" else []:
            assert set(job_json(queue.get(one["job_id"]))) <= set(one)
    job = json.loads(fc("show", "job-a", "--json")[1])["data"]
    assert set(job) > set(json.loads(fc("list", "--json")[1])["data"][0]), "a job has the same names everywhere"

"""SQLite's write lock is another process's: what only reads, or has nothing to change, answers without it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest
from sqlalchemy import update

import resources.database as database_module
from jobs.model.job import NewJob
from jobs.model.request import parse_request
from jobs.queue.job_queue import JobQueue
from resources.database import Database, JobRow
from tests.support.commands import Fc, fc

__all__ = ["fc"]

STATUSES = ("completed", "failed", "cancelled", "rejected", "archived", "running", "pending", "held", "needs_review")


@pytest.fixture
def locked(database: Database, queue: JobQueue, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A job in each status, and the lock held all the time. Whoever waits for it fails at once: that is the fault."""
    words = parse_request({"pony_prompt": "a knight", "seed": 1})
    queue.add([NewJob(f"job-{status.replace('_', '-')}", words, None, "cli") for status in STATUSES])
    queue.add([NewJob("group", parse_request({"job_type": "group"}), None, "cli")])
    with database.session() as session:
        for status in STATUSES:
            session.execute(update(JobRow).where(JobRow.id == f"job-{status.replace('_', '-')}").values(status=status))
        session.execute(update(JobRow).where(JobRow.id == "group").values(status="completed"))
    monkeypatch.setattr(database_module, "BUSY_SECONDS", 0)
    other = sqlite3.connect(str(database.engine.url.database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    other.execute("UPDATE job_queue SET priority = 9")
    yield
    other.execute("ROLLBACK")
    other.close()


@pytest.mark.usefixtures("locked")
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["status"], 0, "needs_review"),
        (["list"], 0, "job-completed"),
        (["show", "job-failed"], 0, "failed"),
        (["history", "job-failed"], 0, ""),
        (["review"], 0, "job-needs-review"),
        (["schedule", "list"], 0, "no schedule"),
        (["cancel", "job-completed"], 1, "is completed; there is nothing to cancel"),
        (["cancel", "job-archived", "job-cancelled", "group"], 1, "there is nothing to cancel"),
        (["cancel", "nowhere"], 3, "no job"),
        (["retry", "job-completed"], 2, "without a change"),
        (["retry", "job-running"], 1, "is running, so it cannot be retried"),
        (["retry", "job-archived", "--seed", "8"], 1, "is archived, so it cannot be retried"),
        (["retry", "nowhere"], 3, "no job"),
        (["approve", "job-completed"], 1, "is completed, so it cannot be approved"),
        (["approve", "job-needs-review"], 1, "made nothing that could be taken"),
        (["reject", "job-running"], 1, "is running, so it cannot be rejected"),
        (["reject", "group"], 1, "is a group"),
        (["release", "job-pending"], 1, "cannot be released"),
        (["priority", "job-completed", "3"], 1, "cannot be given another priority"),
        (["rate", "job-failed", "5"], 1, "no final picture to rate"),
        (["archive", "job-running", "job-archived"], 1, "only a job that has ended is archived"),
        (["remove", "job-running", "--yes"], 1, "cannot be removed"),
        (["resume"], 0, "was not paused"),
    ],
)
def test_what_has_nothing_to_change_answers_while_the_lock_is_held(
    fc: Fc, arguments: list[str], code: int, said: str
) -> None:
    found, out, err = fc(*arguments)
    assert said in " ".join((out + err).split())
    assert found == code


@pytest.mark.usefixtures("locked")
@pytest.mark.parametrize("arguments", [["cancel", "job-pending"], ["retry", "job-failed"], ["submit", "-p", "a fox"]])
def test_what_changes_something_needs_the_lock_and_says_so(fc: Fc, arguments: list[str]) -> None:
    code, _, err = fc(*arguments)
    assert (code, "database is locked" in err) == (4, True)

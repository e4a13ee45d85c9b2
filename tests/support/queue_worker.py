"""A process of its own that works on a queue, for the tests: `python -m tests.support.queue_worker URL TASK`.

Tasks: `open` opens the database; `claim` claims one job after another and prints each id; `die` claims and waits inside
the transaction, having printed `inside`, to be killed.
"""

from __future__ import annotations

import sys

from sqlalchemy import event

from jobs.queue.job_queue import JobQueue
from resources.database import open_database


def main(url: str, task: str) -> None:
    database = open_database(url)
    queue = JobQueue(database)
    if task == "die":
        event.listen(database.engine, "commit", lambda _connection: _wait("inside"))
        queue.claim(10)
    if task == "claim":
        _wait("ready")
        while jobs := queue.claim(1):
            _say(jobs[0].id)
    database.dispose()


def _wait(message: str) -> None:
    _say(message)
    sys.stdin.readline()


def _say(message: str) -> None:
    sys.stdout.write(f"{message}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])

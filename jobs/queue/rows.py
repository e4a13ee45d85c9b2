"""One job's row inside a transaction: locking it, changing it, and leaving word of the change in the log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar, cast

from sqlalchemy import ColumnElement, insert, select
from sqlalchemy.orm import Session

from jobs.model.job import LogLevel
from jobs.model.transitions import TRANSITIONS, Actor, JobStatus, sources
from resources.database import Database, JobRow, LogRow, StateRow, utc_now

_Found = TypeVar("_Found")
_CHUNK: Final = 500  # ids in one statement; SQLite allows 32766 parameters

CLAIM_ORDER: Final = (JobRow.priority, JobRow.created_at, JobRow.id)

# What is cleared when a job comes back, by what is over for it.
NO_RUN: Final[Mapping[str, Any]] = {"batch_id": None, "run_id": None}
NOT_OVER: Final[Mapping[str, Any]] = dict.fromkeys(("finished_at", "error", "error_stage", "error_hint", "fault"))
NO_DEATHS: Final[Mapping[str, Any]] = {"alone_deaths": 0, "idle_deaths": 0}
NO_ATTEMPTS: Final[Mapping[str, Any]] = {"attempts": 0, "faults": {}, **NO_DEATHS}
BROUGHT_BACK: Final[Mapping[str, Any]] = {**NO_RUN, **NOT_OVER, **NO_ATTEMPTS, "solo": False}
"""By a person, to be claimed again as if it were new."""


class QueueAccess:
    """The queue over one database. Cheap to make; safe to share between threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def _look(self, check: Callable[..., _Found], *arguments: Any) -> _Found:  # noqa: ANN401 - those of `check`
        """Ask what the change will ask again: what cannot be is told at once, whoever holds SQLite's write lock."""
        with self._database.reader() as session:
            return check(session, *arguments)


def lock(session: Session, *allowed: ColumnElement[bool]) -> list[tuple[JobRow, StateRow]]:
    """The jobs in an allowed state, kept so until the transaction ends; in id order against deadlocks."""
    query = select(JobRow, StateRow).join(StateRow, StateRow.job_id == JobRow.id).where(*allowed)
    return list(session.execute(query.order_by(JobRow.id).with_for_update()).tuples())


def chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    """The ids in lists that fit into one statement."""
    listed = list(ids)
    for start in range(0, len(listed), _CHUNK):
        yield listed[start : start + _CHUNK]


def set_columns(row: JobRow, now: datetime, **columns: Any) -> None:  # noqa: ANN401 - the columns' own types
    """Change columns other than the status."""
    for name, value in columns.items():
        setattr(row, name, value)
    row.updated_at = now


def can_become(status: JobStatus, *, by: Actor) -> ColumnElement[bool]:
    """The jobs that `by` may bring to a status."""
    return JobRow.status.in_(sources(status, by=by))


def set_status(row: JobRow, now: datetime, status: JobStatus, *, by: Actor, **columns: Any) -> None:  # noqa: ANN401
    """Change a status, and other columns with it; the one place where a status is written.

    Raises:
        ValueError: the table does not allow it: a fault of the caller, whose statement must ask for the right rows.
    """
    if by not in TRANSITIONS[cast("JobStatus", row.status)].get(status, ()):
        raise ValueError(f"A job that is {row.status} cannot become {status} by a {by}.")
    set_columns(row, now, status=status, **columns)


def log(
    session: Session,
    job_ids: Sequence[str | None],
    message: str,
    *,
    level: LogLevel = "info",
    run_id: str | None = None,
    stage: str | None = None,
    data: dict[str, Any] | None = None,
) -> None:
    """Write one row of `controller_log` per job."""
    if not job_ids:
        return
    common = {
        "at": utc_now(),
        "level": level,
        "run_id": run_id,
        "stage": stage,
        "message": message,
        "data": data,
    }
    session.execute(insert(LogRow), [{"job_id": job_id, **common} for job_id in job_ids])

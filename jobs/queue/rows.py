"""One job's row inside a transaction: locking it, changing it, and leaving word of the change in the log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final, Literal, cast

from sqlalchemy import ColumnElement, insert, select
from sqlalchemy.orm import Session

from jobs.model.transitions import TRANSITIONS, Actor, JobStatus, sources
from resources.database import JobRow, LogRow, StateRow, utc_now

LogLevel = Literal["debug", "info", "warning", "error"]

_CHUNK: Final = 500  # ids in one statement; SQLite allows 32766 parameters


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


def may(status: JobStatus, *, by: Actor) -> ColumnElement[bool]:
    """The jobs that `by` may bring to a status."""
    return JobRow.status.in_(sources(status, by=by))


def move(row: JobRow, now: datetime, status: JobStatus, *, by: Actor, **columns: Any) -> None:  # noqa: ANN401
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

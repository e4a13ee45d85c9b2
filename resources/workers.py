"""Workers and their signs of life: the table `workers`.

All times are the database's own, so clocks of machines that differ do no harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from resources.database import Database, UtcDateTime, WorkerRow

FORGOTTEN: Final = timedelta(days=1)
"""After that much silence a worker is no longer listed."""


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker as it last told of itself.

    Attributes:
        name: unique among all that ever ran; what Celery calls its node name.
        queues: what it takes runs from.
        host: its machine.
        pid: its process there.
        started_at: aware UTC.
        silent_seconds: since its last sign of life.
        run_ids: the Dagster runs it was at then.
    """

    name: str
    queues: tuple[str, ...]
    host: str
    pid: int
    started_at: datetime
    silent_seconds: float
    run_ids: tuple[str, ...]


class Workers:
    """The workers over one database. Safe to share between threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def beat(self, name: str, *, queues: Sequence[str], host: str, pid: int, run_ids: Sequence[str] = ()) -> None:
        """Give a sign of life. At a worker's first one, those that were silent for a day are forgotten."""
        with self._database.session() as session:
            now = _now(session)
            row = session.get(WorkerRow, name)
            if row is None:
                session.execute(delete(WorkerRow).where(WorkerRow.beat_at < now - FORGOTTEN))
                row = WorkerRow(name=name, queues=list(queues), host=host, pid=pid, started_at=now)
                session.add(row)
            row.beat_at, row.run_ids = now, list(run_ids)

    def leave(self, name: str) -> None:
        """Remove a worker that has stopped; its runs, if it left any, count as lost from now on."""
        with self._database.session() as session:
            session.execute(delete(WorkerRow).where(WorkerRow.name == name))

    def all(self) -> list[Worker]:
        """Every worker that has not left, by name."""
        with self._database.reader() as session:
            now = _now(session)
            return [
                Worker(
                    row.name,
                    tuple(row.queues),
                    row.host,
                    row.pid,
                    row.started_at,
                    max(0.0, (now - row.beat_at).total_seconds()),
                    tuple(row.run_ids),
                )
                for row in session.scalars(select(WorkerRow).order_by(WorkerRow.name))
            ]


def _now(session: Session) -> datetime:
    """The time on the database's own clock: aware UTC; whole seconds on SQLite."""
    return session.execute(select(func.current_timestamp(type_=UtcDateTime()))).scalar_one()

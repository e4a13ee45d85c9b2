"""The pause of the whole queue: while it holds, no job is claimed. What was claimed before goes on."""

from __future__ import annotations

from sqlalchemy.orm import Session

from jobs.model.job import Pause
from jobs.queue.rows import QueueAccess, log
from resources.database import PauseRow, utc_now

_THE_ONE = 1


def is_paused(session: Session) -> bool:
    """Whether nothing may be claimed."""
    return session.get(PauseRow, _THE_ONE) is not None


class QueuePause(QueueAccess):
    """Pauses the queue, and lets it go on. It outlives every process, for it is kept in the database."""

    def pause(self, *, by: str, reason: str | None = None) -> Pause:
        """Claim nothing from now on; a pause that holds already stays as it is, and is what is returned."""
        if (found := self.paused()) is not None:
            return found
        with self._database.session() as session:
            row = session.get(PauseRow, _THE_ONE)
            if row is None:
                row = PauseRow(id=_THE_ONE, since=utc_now(), by=by, reason=reason)
                session.add(row)
                log(session, [None], f"the queue was paused by {by}", data={"reason": reason})
            return _pause(row)

    def resume(self, *, by: str) -> bool:
        """Claim again; False: the queue was not paused."""
        if self.paused() is None:
            return False
        with self._database.session() as session:
            row = session.get(PauseRow, _THE_ONE)
            if row is None:
                return False
            session.delete(row)
            log(session, [None], f"the queue was resumed by {by}")
            return True

    def paused(self) -> Pause | None:
        """The pause that holds; None: the queue goes on."""
        with self._database.reader() as session:
            row = session.get(PauseRow, _THE_ONE)
            return None if row is None else _pause(row)


def _pause(row: PauseRow) -> Pause:
    return Pause(row.since, row.by, row.reason)

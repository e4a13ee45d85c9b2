"""Dagster's own SQLite storage, with connections to its event log that stay open.

Dagster makes an engine and opens and closes the file for every single event, and closing the last connection makes
SQLite move its write-ahead log into the file: 7 ms of CPU an event, 16 events a job. It also looks at every event
whether its tables and columns are those of an older Dagster.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

from dagster import EventLogEntry
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import StaticPool

_MOST_OPEN: Final = 8  # files; the index of all assets, and the runs that were used last


class QuickEventLog(SqliteEventLogStorage):
    """Dagster's event log on SQLite; each file that was used last keeps one open connection."""

    def __init__(self, base_dir: str, inst_data: Any = None) -> None:  # noqa: ANN401 - Dagster's own type
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        self._tables: set[str] = set()
        self._has_index_columns = False
        super().__init__(base_dir, inst_data)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock, self._engine(shard).connect() as connection, connection.begin():
            yield connection

    def _engine(self, shard: str) -> Engine:
        if shard not in self._engines:
            engine = create_engine(
                self.conn_string_for_shard(shard),
                poolclass=StaticPool,
                connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
            )
            event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = NORMAL"))
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            self._engines[shard] = engine
        self._engines.move_to_end(shard)
        while len(self._engines) > _MOST_OPEN:
            self._engines.popitem(last=False)[1].dispose()
        return self._engines[shard]

    def has_table(self, table_name: str) -> bool:
        """Whether the index has a table; Dagster asks at every event, and a table that is there stays."""
        if table_name not in self._tables and super().has_table(table_name):
            self._tables.add(table_name)
        return table_name in self._tables

    def _has_asset_key_index_cols_on_connection(self, conn: Connection) -> bool:
        self._has_index_columns = self._has_index_columns or super()._has_asset_key_index_cols_on_connection(conn)
        return self._has_index_columns

    def store_event(self, event: EventLogEntry) -> None:
        """Store one event, and wake up whoever watches its run."""
        super().store_event(event)
        # A run's page in the UI waits for its file to change; what is new stands in the write-ahead log beside it.
        os.utime(self.path_for_shard(event.run_id))

    def wipe(self) -> None:
        """Remove every event, and the files of the runs."""
        self._close()
        super().wipe()

    def dispose(self) -> None:
        """Close every file."""
        self._close()
        super().dispose()

    def _close(self) -> None:
        with self._db_lock:
            while self._engines:
                self._engines.popitem()[1].dispose()


class QuickSqliteStorage(DagsterSqliteStorage):
    """Dagster's SQLite storage with `QuickEventLog`; the files are the same."""

    def __init__(self, base_dir: str, inst_data: Any = None) -> None:  # noqa: ANN401 - Dagster's own type
        super().__init__(base_dir, inst_data)
        self._event_log_storage = QuickEventLog(str(Path(base_dir) / "history" / "runs"))

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> Self:  # noqa: ANN401 - Dagster's own types
        """Made as Dagster makes its own, which would not be this class."""
        return cls.from_local(inst_data=inst_data, **config_value)

"""The old lines of Dagster's event log: which may go, and taking them out.

Dagster has no call for it: `delete_run` takes a run's materializations along, and then no asset shows what was made.
So what tells of assets stays (materializations, planned ones, observations, checks: any event with an asset), and so
do the changes of a run's status, which sensors read and from which a run's page has its times. What goes are the
lines of steps, engine and loggers, and the files with what the processes printed.

On SQLite each run has a file of its own, which is made smaller; on Postgres the rows are in one table.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import dagster as dg
from dagster._core.storage.event_log import SqlEventLogStorage, SqliteEventLogStorage
from sqlalchemy import ColumnElement, and_, column, delete, func, inspect, or_, select, table

from imaging.errors import BackendError
from resources.database import BUSY_SECONDS, utc_now

if TYPE_CHECKING:
    from dagster._core.storage.dagster_run import RunRecord

_CURSOR: Final = "face-changer/event log pruned until"  # in Dagster's own table of cursors
_FINISHED: Final = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_AT_ONCE: Final = 100  # runs that are looked up together

_COLUMNS: Final = ("id", "run_id", "event", "dagster_event_type", "timestamp", "step_key", "asset_key", "partition")
_EVENTS: Final = table("event_logs", *(column(name) for name in _COLUMNS))


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many events of how many runs were, or would be, removed; runs without any are not counted."""

    runs: int
    events: int


def old_events(instance: dg.DagsterInstance, *, days: int) -> Pruned:
    """What `prune_events` would remove; changes nothing. Errors as there."""
    counts = [_count(instance, record.dagster_run.run_id) for record in _old_runs(instance, days)]
    return Pruned(sum(count > 0 for count in counts), sum(counts))


def prune_events(instance: dg.DagsterInstance, *, days: int, most_runs: int | None = None) -> Pruned:
    """Remove the lines and the captured output of runs that ended, and were not changed, in the last `days` days.

    Run by run, oldest first, each in a transaction of its own; how far it came is kept in Dagster's storage, so that
    a run is looked at once. Safe beside a running Dagster, to be killed, and to be called twice at once.

    Args:
        instance: its own storage is asked, wherever it is.
        days: how long lines are kept.
        most_runs: stop after so many runs; None: all.

    Raises:
        BackendError: Dagster's event log is not what this was written for; nothing was removed.
    """
    runs = events = 0
    for number, record in enumerate(_old_runs(instance, days), start=1):
        run_id = record.dagster_run.run_id
        removed = _remove(instance, run_id)
        instance.compute_log_manager.delete_logs(prefix=[run_id, "compute_logs"])
        instance.daemon_cursor_storage.set_cursor_values({_CURSOR: record.update_timestamp.isoformat()})
        runs, events = runs + (removed > 0), events + removed
        if number == most_runs:
            break
    return Pruned(runs, events)


def _old_runs(instance: dg.DagsterInstance, days: int) -> Iterator[RunRecord]:
    """The runs behind the cursor that ended long ago, those that changed first before the others."""
    known = instance.daemon_cursor_storage.get_cursor_values({_CURSOR}).get(_CURSOR)
    after = datetime.fromisoformat(known) if known else None
    before = utc_now() - timedelta(days=days)
    while True:
        found = instance.get_run_records(
            dg.RunsFilter(statuses=_FINISHED, updated_after=after, updated_before=before),
            limit=_AT_ONCE,
            order_by="update_timestamp",
            ascending=True,
        )
        if not found:
            return
        _check(instance)
        yield from found
        after = found[-1].update_timestamp


def _storage(instance: dg.DagsterInstance) -> SqlEventLogStorage:
    """The event log's storage, if it is one of the two that this was written for."""
    storage = instance.event_log_storage
    known = isinstance(storage, SqliteEventLogStorage) or type(storage).__module__.startswith("dagster_postgres.")
    if not known or not isinstance(storage, SqlEventLogStorage):
        raise _unknown(f"its storage is {type(storage).__name__}")
    return storage


def _check(instance: dg.DagsterInstance) -> None:
    with _storage(instance).index_connection() as connection:
        columns = {one["name"] for one in inspect(connection).get_columns(_EVENTS.name)}
    if columns != set(_COLUMNS):
        raise _unknown(f"the columns of its table are {', '.join(sorted(columns))}")


def _unknown(why: str) -> BackendError:
    return BackendError(
        f"face-changer cannot prune the event log of Dagster {dg.__version__}: {why}. Nothing was removed.",
        "Set FC_KEEP_LOG_DAYS=36500 to leave it alone, or use the Dagster version of constraints.txt.",
    )


def _prunable(run_id: str) -> ColumnElement[bool]:
    from dagster._core.events import ASSET_CHECK_EVENTS, ASSET_EVENTS, EVENT_TYPE_TO_PIPELINE_RUN_STATUS

    lasting = sorted(one.value for one in {*ASSET_EVENTS, *ASSET_CHECK_EVENTS, *EVENT_TYPE_TO_PIPELINE_RUN_STATUS})
    kind = _EVENTS.c.dagster_event_type
    # A line of a logger has no type, and NULL is in no list.
    return and_(_EVENTS.c.run_id == run_id, _EVENTS.c.asset_key.is_(None), or_(kind.is_(None), kind.not_in(lasting)))


def _file(storage: SqlEventLogStorage, run_id: str) -> Path | None:
    """The run's own file on SQLite; None on Postgres."""
    return Path(storage.path_for_shard(run_id)) if isinstance(storage, SqliteEventLogStorage) else None


def _count(instance: dg.DagsterInstance, run_id: str) -> int:
    storage = _storage(instance)
    file = _file(storage, run_id)
    if file is not None and not file.exists():  # to ask Dagster for it would make it
        return 0
    with storage.run_connection(run_id) as connection:
        return int(connection.execute(select(func.count()).select_from(_EVENTS).where(_prunable(run_id))).scalar_one())


def _remove(instance: dg.DagsterInstance, run_id: str) -> int:
    if not _count(instance, run_id):
        return 0
    storage = _storage(instance)
    with storage.run_connection(run_id) as connection:
        removed = int(connection.execute(delete(_EVENTS).where(_prunable(run_id))).rowcount)
    file = _file(storage, run_id)
    if file is not None:
        with closing(sqlite3.connect(file, timeout=BUSY_SECONDS)) as own:
            own.execute("VACUUM")  # deleted rows leave room in a file, not on the disk
            own.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # another process may have the file open, also for long
    return removed

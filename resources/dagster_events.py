"""Rows of Dagster's own storage that go: the old lines of its event log, and all that it keeps of one partition.

Dagster has no call for the first: `delete_run` takes a run's materializations along, and then no asset shows what was
made. So what tells of assets stays (materializations, planned ones, observations, checks: any event with an asset), and
so do the changes of a run's status, which sensors read and from which a run's page has its times. What goes are the
lines of steps, engine and loggers, and the files with what the processes printed.

Nor has it one for the second: `wipe_asset_partitions` is not there for SQLite and Postgres. What is left of a removed
job would be shown as that of a new one of the same id.

On SQLite each run has a file of its own, which is made smaller, and the events of assets are in an index beside them a
second time; on Postgres the rows are in one table.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import dagster as dg
from dagster import EventLogEntry, EventLogRecord
from dagster._core.storage.event_log import SqlEventLogStorage, SqliteEventLogStorage
from dagster._core.storage.runs import SqlRunStorage
from dagster._serdes import deserialize_value, serialize_value
from sqlalchemy import ColumnElement, Connection, and_, column, delete, func, inspect, or_, select, table, update

from imaging.errors import BackendError
from resources.database import BUSY_SECONDS, checkpoint_file, overwrite_deleted, utc_now

if TYPE_CHECKING:
    from dagster._core.storage.dagster_run import RunRecord

_CURSOR: Final = "face-changer/event log pruned until"  # in Dagster's own table of cursors
_FINISHED: Final = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_AT_ONCE: Final = 100  # runs that are looked up together

_COLUMNS: Final = ("id", "run_id", "event", "dagster_event_type", "timestamp", "step_key", "asset_key", "partition")
_EVENTS: Final = table("event_logs", *(column(name) for name in _COLUMNS))
_ASSETS: Final = table(
    "asset_keys",
    *(column(name) for name in ("asset_key", "last_materialization", "last_run_id", "cached_status_data")),
)
_EVENT_TAGS: Final = table("asset_event_tags", column("event_id"))
_RUNS: Final = table("runs", column("run_id"))
_RUN_TAGS: Final = table("run_tags", column("run_id"))

_WORDS: Final = ("message", "user_message", "description", "stack")
"""The parts of an event's JSON that are words for people; the others are read by Dagster."""


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
        f"face-changer does not know this event log of Dagster {dg.__version__}: {why}. Nothing was removed from it.",
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
        checkpoint_file(file)  # another process may have the file open, also for long
    return removed


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The runs that are gone with a partition, and those that stay, without what they told of it."""

    runs: tuple[str, ...]
    shared: tuple[str, ...]


def forget_partition(
    instance: dg.DagsterInstance, partition: str, *, runs: Collection[str], shared: Collection[str]
) -> Forgotten:
    """Take out of Dagster's storage all that it keeps of a partition; the key in the partition set is left alone.

    Its materializations, observations and planned ones, with their tags; runs that had no other partition, whole, with
    what their processes printed; of other runs the log lines that name it, and its name's sentence in their errors.
    On SQLite what is deleted is also overwritten. Safe to repeat, and beside a running Dagster.

    Args:
        instance: its own storage is asked, wherever it is.
        partition: the key, which is a job's id.
        runs: runs that are known to have had it; those that have events of it are found here.
        shared: those among them that had other jobs too, and stay.

    Raises:
        BackendError: Dagster's event log is not what this was written for; nothing was removed.
    """
    _check(instance)
    storage = _storage(instance)
    with storage.index_connection() as index:
        found = index.execute(select(_EVENTS.c.run_id).where(_EVENTS.c.partition == partition).distinct())
        wanted = sorted({*runs, *(run_id for (run_id,) in found)})
    alone = [run_id for run_id in wanted if run_id not in shared and _is_alone(storage, run_id, partition)]
    others = [run_id for run_id in wanted if run_id not in alone]
    for run_id in others:
        _clean_run(storage, run_id, partition)
    for run_id in alone:
        _delete_run(instance, run_id)
    with storage.index_connection() as index:  # last: it says which runs to look for
        _erase(index, _EVENTS.c.partition == partition)
        for asset_key, newest in index.execute(select(_ASSETS.c.asset_key, _ASSETS.c.last_materialization)).tuples():
            _forget_newest(index, asset_key, newest, partition)
    if isinstance(storage, SqliteEventLogStorage):
        checkpoint_file(Path(storage.path_for_shard("index")))
    return Forgotten(tuple(alone), tuple(run_id for run_id in others if run_id))


def _is_alone(storage: SqlEventLogStorage, run_id: str, partition: str) -> bool:
    """Whether nothing tells that a run had another partition. Events without a run (`""`) are of no run to delete."""
    if not run_id:
        return False
    of_another = select(_EVENTS.c.id).where(
        _EVENTS.c.run_id == run_id, _EVENTS.c.partition.is_not(None), _EVENTS.c.partition != partition
    )
    with storage.index_connection() as index:
        return index.execute(of_another.limit(1)).first() is None


def _delete_run(instance: dg.DagsterInstance, run_id: str) -> None:
    storage = _storage(instance)
    instance.compute_log_manager.delete_logs(prefix=[run_id])
    file = _file(storage, run_id)
    if file is None or file.exists():
        with storage.run_connection(run_id) as own:
            _erase(own, _EVENTS.c.run_id == run_id)
    with storage.index_connection() as index:
        _erase(index, _EVENTS.c.run_id == run_id)
    runs = instance.run_storage
    if isinstance(runs, SqlRunStorage):
        with runs.connect() as connection:
            overwrite_deleted(connection)
            connection.execute(delete(_RUN_TAGS).where(_RUN_TAGS.c.run_id == run_id))
            connection.execute(delete(_RUNS).where(_RUNS.c.run_id == run_id))
    else:
        runs.delete_run(run_id)
    for part in () if file is None else (file, Path(f"{file}-wal"), Path(f"{file}-shm")):
        part.unlink(missing_ok=True)


def _clean_run(storage: SqlEventLogStorage, run_id: str, partition: str) -> None:
    """Take a partition out of the log of a run that stays for others."""
    file = _file(storage, run_id)
    if file is None or file.exists():
        with storage.run_connection(run_id) as own:
            _erase(own, and_(_EVENTS.c.run_id == run_id, _EVENTS.c.partition == partition))
            _redact(own, run_id, partition)
    if file is not None:
        with storage.index_connection() as index:  # which has the ends of runs, and their errors
            _redact(index, run_id, partition)
        if file.exists():
            checkpoint_file(file)


def _redact(connection: Connection, run_id: str, partition: str) -> None:
    word = re.compile(rf"(?<![\w-]){re.escape(partition)}(?![\w-])")
    named = and_(
        _EVENTS.c.run_id == run_id, _EVENTS.c.partition.is_(None), _EVENTS.c.event.contains(partition, autoescape=True)
    )
    rows = connection.execute(select(_EVENTS.c.id, _EVENTS.c.event, _EVENTS.c.dagster_event_type).where(named))
    overwrite_deleted(connection)
    for row_id, event, kind in rows.tuples().all():
        told = json.loads(event)
        if kind is None and word.search(told.get("user_message") or ""):  # a line that a stage wrote of the job
            connection.execute(delete(_EVENTS).where(_EVENTS.c.id == row_id))
            continue
        redacted = json.dumps(_without(told, word, partition))
        if redacted != json.dumps(told):
            connection.execute(update(_EVENTS).where(_EVENTS.c.id == row_id).values(event=redacted))


def _without(told: Any, word: re.Pattern[str], partition: str, *, is_words: bool = False) -> Any:  # noqa: ANN401 - JSON
    """An event without the sentences that name a partition."""
    if isinstance(told, dict):
        return {name: _without(value, word, partition, is_words=name in _WORDS) for name, value in told.items()}
    if isinstance(told, list):
        return [_without(value, word, partition, is_words=is_words) for value in told]
    if is_words and isinstance(told, str) and word.search(told):
        return f"(removed with {partition})"
    return told


def _erase(connection: Connection, which: ColumnElement[bool]) -> None:
    """Delete events, and the tags of those of assets."""
    overwrite_deleted(connection)
    ids = select(_EVENTS.c.id).where(which, _EVENTS.c.asset_key.is_not(None))
    if inspect(connection).has_table(_EVENT_TAGS.name):
        connection.execute(delete(_EVENT_TAGS).where(_EVENT_TAGS.c.event_id.in_(ids)))
    connection.execute(delete(_EVENTS).where(which))


def _forget_newest(index: Connection, asset_key: str, newest: str | None, partition: str) -> None:
    """Let an asset's newest materialization be that of another partition, and have its partitions counted anew."""
    changed: dict[str, str | None] = {"cached_status_data": None}
    if newest is not None and deserialize_value(newest, EventLogRecord).partition_key == partition:
        made = (_EVENTS.c.asset_key == asset_key, _EVENTS.c.dagster_event_type == "ASSET_MATERIALIZATION")
        query = select(_EVENTS.c.id, _EVENTS.c.event).where(*made).order_by(_EVENTS.c.id.desc()).limit(1)
        record = None
        for row_id, event in index.execute(query).tuples():
            record = EventLogRecord(storage_id=row_id, event_log_entry=deserialize_value(event, EventLogEntry))
        changed["last_materialization"] = None if record is None else serialize_value(record)
        changed["last_run_id"] = None if record is None else record.run_id
    index.execute(update(_ASSETS).where(_ASSETS.c.asset_key == asset_key).values(**changed))

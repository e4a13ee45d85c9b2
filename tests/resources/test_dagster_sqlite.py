"""Dagster's SQLite storage with connections that stay open: the same files, and nobody waits in vain."""

import sqlite3
import threading

import dagster as dg
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage

from resources.dagster_sqlite import QuickEventLog
from tests.support.graph import materialized


@dg.asset(partitions_def=dg.DynamicPartitionsDefinition(name="letters"))
def letter(context: dg.AssetExecutionContext) -> None:
    context.log.info("a line")


def run(instance, key="a"):
    instance.add_dynamic_partitions("letters", [key])
    result = dg.materialize([letter], instance=instance, partition_key=key)
    assert result.success
    return result.run_id


def test_the_projects_home_uses_it_and_dagsters_own_storage_reads_the_same_files(instance, home):
    assert isinstance(instance.event_log_storage, QuickEventLog)
    run_id = run(instance)
    plain = SqliteEventLogStorage(str(home / "history" / "runs"))
    plain.register_instance(instance)
    assert [one.message for one in plain.get_logs_for_run(run_id)] == [one.message for one in instance.all_logs(run_id)]
    with dg.DagsterInstance.from_config(str(home)) as another:
        assert materialized(another, "letter") == {"a"}


def test_files_are_in_wal_mode_and_what_was_stored_survives_a_kill_of_the_process(instance, home):
    run_id = run(instance)
    for name in ("index", run_id):
        # Not closed by the one who wrote it: what another process sees now is what is left when that one is killed.
        with sqlite3.connect(home / "history" / "runs" / f"{name}.db") as file:
            assert file.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert file.execute("SELECT count(*) FROM event_logs").fetchone()[0] > 2


def test_a_table_that_is_added_later_is_seen_and_one_that_was_seen_is_not_looked_for_again(instance, home):
    log = instance.event_log_storage
    assert log.has_table("asset_event_tags")
    assert not log.has_table("new")
    with sqlite3.connect(home / "history" / "runs" / "index.db") as file:
        file.execute("CREATE TABLE new (id INTEGER)")
    assert log.has_table("new")
    with sqlite3.connect(home / "history" / "runs" / "index.db") as file:
        file.execute("DROP TABLE new")
    assert log.has_table("new"), "Dagster never drops a table"


def test_more_runs_than_files_are_kept_open(instance):
    runs = {key: run(instance, key) for key in "abcdefghij"}
    assert materialized(instance, "letter") == set(runs)
    for run_id in runs.values():
        assert any(one.message == "a line" for one in instance.all_logs(run_id))


def test_whoever_watches_a_run_from_another_process_is_told_of_its_events(instance, home):
    run_id = run(instance)
    told = threading.Event()
    plain = SqliteEventLogStorage(str(home / "history" / "runs"))
    plain.register_instance(instance)
    last = instance.get_records_for_run(run_id).cursor
    plain.watch(run_id, last, lambda *_: told.set())
    try:
        instance.report_engine_event("news", instance.get_run_by_id(run_id))
        assert told.wait(timeout=30)
    finally:
        plain.dispose()


def test_wiping_and_closing_leave_a_storage_that_works(instance):
    run(instance)
    instance.event_log_storage.wipe()
    assert materialized(instance, "letter") == set()
    run(instance, "b")
    instance.event_log_storage.dispose()
    assert materialized(instance, "letter") == {"b"}

"""Old log lines leave Dagster's event log; nothing that is known of assets changes, on SQLite and on Postgres."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.storage.compute_log_manager import ComputeIOType
from dagster._core.test_utils import InProcessTestWorkspaceLoadTarget
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from sqlalchemy import text

from imaging.errors import BackendError
from jobs.cli.main import main
from jobs.model.stages import PARTITIONS, STAGES
from jobs.queue.job_queue import JobQueue
from resources import dagster_events
from resources.dagster_events import Pruned, old_events, prune_events
from resources.store.image_store import ImageStore
from tests.jobs.test_retention import tick
from tests.support.graph import add_jobs, materialize, materialized

SCENE = {"pony_prompt": "portrait of a woman", "job_type": "sdxl_generation"}
LINES = ("STEP_START", "STEP_SUCCESS", "ENGINE_EVENT", "LOADED_INPUT", None)


@pytest.fixture
def done(storage: dg.DagsterInstance, queue: JobQueue, store: ImageStore) -> str:
    """The run of two jobs that are finished, and of one whose image failed in a run that failed."""
    add_jobs(queue, store, SCENE, SCENE, hold=True)
    result = materialize(storage, "a", "b")
    assert result.success
    storage.add_dynamic_partitions(PARTITIONS, ["of-no-job"])
    assert not materialize(storage, "of-no-job", selection=["enhanced_prompt"]).success
    return result.run_id


QUERY = """{
  assetNodes { assetKey { path }
    assetMaterializations { partition runId timestamp metadataEntries { label } tags { key value } }
    assetPartitionStatuses { ... on DefaultPartitionStatuses {
        materializedPartitions failedPartitions unmaterializedPartitions materializingPartitions } } }
  runsOrError { ... on Runs { results { runId status startTime endTime
    assetMaterializations { partition }
    eventConnection { events { __typename } } } } }
}"""


def graphql(instance: dg.DagsterInstance) -> dict[str, Any]:
    """What the pages of the UI show."""
    from dagster_graphql.schema import create_schema

    origin = InProcessCodeLocationOrigin(
        LoadableTargetOrigin(executable_path=sys.executable, module_name="fc_assets.definitions"), location_name="here"
    )
    with WorkspaceProcessContext(instance, InProcessTestWorkspaceLoadTarget(origin)) as process:
        result = asyncio.run(create_schema().execute_async(QUERY, context_value=process.create_request_context()))
    assert not result.errors, result.errors
    shown: dict[str, Any] = json.loads(json.dumps(result.data))
    return shown


def known(instance: dg.DagsterInstance) -> dict[str, Any]:
    """What the instance knows of every asset."""
    found = {}
    for stage in STAGES:
        key = dg.AssetKey(stage)
        records = instance.fetch_materializations(key, limit=100).records
        found[stage] = {
            "materialized": materialized(instance, stage),
            "records": [(one.storage_id, one.event_log_entry) for one in records],
            "latest": instance.get_latest_materialization_event(key),
            "by partition": instance.get_latest_storage_id_by_partition(
                key, dg.DagsterEventType.ASSET_MATERIALIZATION, {"a", "b", "of-no-job"}
            ),
            "planned": instance.get_latest_storage_id_by_partition(
                key, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED, {"a", "b", "of-no-job"}
            ),
        }
    return found


def size(instance: dg.DagsterInstance, run_id: str, home: Path) -> int:
    """Bytes of the run's file, or of its events' text on Postgres."""
    file = home / "history" / "runs" / f"{run_id}.db"
    if file.exists():
        return file.stat().st_size
    with instance.event_log_storage.run_connection(run_id) as connection:
        query = text("SELECT sum(length(event)) FROM event_logs WHERE run_id = :run_id")
        return int(connection.execute(query, {"run_id": run_id}).scalar_one())


def test_lines_go_and_what_is_known_of_assets_stays(storage: dg.DagsterInstance, done: str, home: Path) -> None:
    before, shown = known(storage), graphql(storage)
    events = storage.all_logs(done)
    assert {one.dagster_event_type and one.dagster_event_type.value for one in events} >= set(LINES)
    storage.event_log_storage.dispose()  # SQLite: everything in the file itself
    bytes_before = size(storage, done, home)
    captured = storage.compute_log_manager
    log_key = [done, "compute_logs", "x"]
    with captured.open_log_stream(log_key, ComputeIOType.STDERR) as stream:
        stream.write("printed")

    expected = old_events(storage, days=0)
    assert prune_events(storage, days=1) == Pruned(0, 0), "they are of today"
    assert expected.runs == 2
    assert prune_events(storage, days=0) == expected

    left = storage.all_logs(done)
    assert len(events) - len(left) > 10
    assert not {one.dagster_event_type and one.dagster_event_type.value for one in left} & set(LINES)
    assert size(storage, done, home) < bytes_before
    assert known(storage) == before
    assert not captured.get_log_data(log_key).stderr

    after = graphql(storage)
    for run in (*shown["runsOrError"]["results"], *after["runsOrError"]["results"]):
        run.pop("eventConnection")
    assert after == shown

    assert old_events(storage, days=0) == prune_events(storage, days=0) == Pruned(0, 0)
    assert storage.all_logs(done) == left


def add_run(instance: dg.DagsterInstance, *, ended: bool = True) -> dg.DagsterRun:
    """A run with two lines, that was cancelled if it has ended."""
    run = dg.DagsterRun(job_name="j", status=dg.DagsterRunStatus.STARTED)
    instance.add_run(run)
    for line in ("one", "two"):
        instance.report_engine_event(line, run)
    if ended:
        instance.report_run_canceled(run)
    return run


def test_unfinished_runs_are_left_alone_and_a_later_one_is_found(storage: dg.DagsterInstance) -> None:
    going = add_run(storage, ended=False)
    add_run(storage)
    assert prune_events(storage, days=0) == Pruned(1, 2)
    assert len(storage.all_logs(going.run_id)) == 2
    storage.report_run_canceled(going)
    assert prune_events(storage, days=0) == Pruned(1, 2)
    assert [one.dagster_event_type for one in storage.all_logs(going.run_id)] == [dg.DagsterEventType.RUN_CANCELED]


def test_a_portion_at_a_time(storage: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        add_run(storage)
    monkeypatch.setattr(dagster_events, "_AT_ONCE", 1)
    assert old_events(storage, days=0) == Pruned(3, 6)
    portions = [prune_events(storage, days=0, most_runs=2) for _ in range(3)]
    assert portions == [Pruned(2, 4), Pruned(1, 2), Pruned(0, 0)]


def test_it_goes_on_after_a_crash_in_the_middle(storage: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    run = add_run(storage)
    add_run(storage)
    log_key = [run.run_id, "compute_logs", "x"]
    with storage.compute_log_manager.open_log_stream(log_key, ComputeIOType.STDERR) as stream:
        stream.write("printed")

    def full(*_: object, **__: object) -> None:
        raise OSError("no space")

    with monkeypatch.context() as broken:
        broken.setattr(type(storage.compute_log_manager), "delete_logs", full)
        with pytest.raises(OSError, match="no space"):
            prune_events(storage, days=0)
    assert storage.compute_log_manager.get_log_data(log_key).stderr
    assert prune_events(storage, days=0) == Pruned(1, 2)
    assert not storage.compute_log_manager.get_log_data(log_key).stderr


def test_another_schema_is_refused(storage: dg.DagsterInstance) -> None:
    run = add_run(storage)
    with storage.event_log_storage.index_connection() as connection:
        connection.execute(text("ALTER TABLE event_logs ADD COLUMN news TEXT"))
    for call in (old_events, prune_events):
        with pytest.raises(BackendError, match=r"columns .*news.* Nothing was removed") as error:
            call(storage, days=0)
        assert "FC_KEEP_LOG_DAYS" in error.value.hint
        assert call(storage, days=36500) == Pruned(0, 0), "which the hint says"
    assert len(storage.all_logs(run.run_id)) == 3


def test_another_storage_is_refused() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        add_run(instance)
        with pytest.raises(BackendError, match="its storage is InMemoryEventLogStorage"):
            prune_events(instance, days=0)


def test_a_run_without_a_file_gets_none(instance: dg.DagsterInstance, home: Path) -> None:
    run = dg.DagsterRun(job_name="j", status=dg.DagsterRunStatus.FAILURE)
    instance.add_run(run)
    assert old_events(instance, days=0) == prune_events(instance, days=0) == Pruned(0, 0)
    assert not (home / "history" / "runs" / f"{run.run_id}.db").exists()


# ---- the sensor and fc prune


def test_the_sensor_and_fc_prune_do_it(
    instance: dg.DagsterInstance,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def prune(*arguments: str) -> dict[str, Any]:
        with pytest.raises(SystemExit) as end:
            main(["prune", "--json", *arguments])
        assert not end.value.code
        printed: dict[str, Any] = json.loads(capsys.readouterr().out)["data"]
        return printed

    runs = [add_run(instance) for _ in range(3)]
    tick(instance)
    assert prune("--dry-run")["log_lines"] == 0, "14 days are the default"
    monkeypatch.setenv("FC_KEEP_LOG_DAYS", "0")
    monkeypatch.setattr("sensors.retention.MOST_RUNS_IN_A_TICK", 1)
    assert "log lines of 1 old runs" in str(tick(instance).skip_message)
    facts = {"keep_log_days": 0, "log_lines": 4, "runs": 2}
    assert facts.items() <= prune("--dry-run").items()
    assert facts.items() <= prune().items()
    assert prune()["log_lines"] == 0
    assert all(len(instance.all_logs(run.run_id)) == 1 for run in runs)

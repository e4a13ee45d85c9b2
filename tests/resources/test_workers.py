"""The workers' table on both databases, what the commands tell of it, and what `fc worker` refuses to start on."""

from __future__ import annotations

import gc
import json
import weakref
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from imaging.errors import SettingsError
from jobs.model.job_types import JOB_TYPES
from jobs.model.stages import GPU_STAGES, needs_gpu
from resources.connections import GeneratorResource
from resources.database import Database, WorkerRow
from resources.settings import PROJECT_ROOT
from resources.workers import FORGOTTEN, Workers
from tests.graph.test_definitions import SNAPSHOT
from tests.support.commands import Fc

pytest_plugins = ["tests.support.databases", "tests.support.redis_server"]


def beat(workers: Workers, name: str, *run_ids: str) -> None:
    workers.beat(name, queues=["gpu"], host="machine", pid=7, run_ids=run_ids)


def silence(database: Database, name: str, seconds: float) -> None:
    """Set a worker's last sign of life back by so much."""
    with database.session() as session:
        row = session.get(WorkerRow, name)
        assert row is not None
        row.beat_at -= timedelta(seconds=seconds)


def test_a_worker_beats_and_leaves(any_database: Database) -> None:
    workers = Workers(any_database)
    beat(workers, "b")
    beat(workers, "a", "run-1", "run-2")
    first, second = workers.all()
    assert (first.name, first.queues, first.host, first.pid, first.run_ids) == (
        "a", ("gpu",), "machine", 7, ("run-1", "run-2"),
    )  # fmt: skip
    assert (second.name, second.run_ids) == ("b", ())
    assert first.silent_seconds < 60
    silence(any_database, "a", 100)
    assert 100 <= workers.all()[0].silent_seconds < 160
    beat(workers, "a")
    assert workers.all()[0].silent_seconds < 60
    assert workers.all()[0].started_at == first.started_at
    workers.leave("a")
    workers.leave("a")
    assert [worker.name for worker in workers.all()] == ["b"]


def test_a_worker_silent_for_a_day_is_forgotten_when_another_starts(any_database: Database) -> None:
    workers = Workers(any_database)
    beat(workers, "gone")
    beat(workers, "here")
    silence(any_database, "gone", FORGOTTEN.total_seconds() + 5)
    beat(workers, "here")
    assert len(workers.all()) == 2
    beat(workers, "new")
    assert [worker.name for worker in workers.all()] == ["here", "new"]


def test_the_stages_that_need_a_gpu_are_those_in_its_pool() -> None:
    assert set(GPU_STAGES) == {stage for stage, (_, _, _, pool) in SNAPSHOT.items() if pool == "gpu"}
    assert needs_gpu("pony_flux", JOB_TYPES["pony_flux"].stages)
    assert needs_gpu("face_processing", ["changed_face", "final_image"])
    assert not needs_gpu("pony_flux", ["final_image", "description"])
    assert not needs_gpu("description", JOB_TYPES["description"].stages), "it only imports its image"


# ---- the commands


def test_status_and_doctor_tell_of_workers(fc: Fc, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    assert json.loads(fc("status", "--json")[1])["data"]["workers"] == []
    workers = Workers(database)
    beat(workers, "gpu-1@machine", "run-1")
    beat(workers, "gpu-2@machine")
    silence(database, "gpu-2@machine", 300)
    found = json.loads(fc("status", "--json")[1])["data"]["workers"]
    assert [(one["name"], one["alive"], one["run_ids"]) for one in found] == [
        ("gpu-1@machine", True, ["run-1"]),
        ("gpu-2@machine", False, []),
    ]
    page = fc("status")[1]
    assert "run-1" in page
    assert "lost" in page
    checks = {one["name"]: one for one in json.loads(fc("doctor", "--json")[1])["data"]["checks"]}
    assert checks["workers"]["level"] == "WARN"
    assert "gpu-2@machine" in checks["workers"]["found"]
    monkeypatch.setenv("FC_WORKER_SILENCE", "1000")
    checks = {one["name"]: one for one in json.loads(fc("doctor", "--json")[1])["data"]["checks"]}
    assert checks["workers"]["level"] == "OK"


@pytest.fixture
def celery_home(home: Path, monkeypatch: pytest.MonkeyPatch, redis_url: str) -> Path:
    """`home` with deploy/dagster.celery.yaml, Dagster's storage on SQLite, and a Redis."""
    config = (PROJECT_ROOT / "deploy/dagster.celery.yaml").read_text()
    before, _, rest = config.partition("storage:")
    (home / "dagster.yaml").write_text(before + rest[rest.index("telemetry:") :])
    monkeypatch.setenv("FC_REDIS_URL", redis_url)
    return home


def test_a_home_for_workers_without_workers_is_a_finding(fc: Fc, celery_home: Path) -> None:
    checks = {one["name"]: one for one in json.loads(fc("doctor", "--json")[1])["data"]["checks"]}
    assert checks["workers"]["level"] == "WARN"
    assert "fc worker" in checks["workers"]["hint"]
    assert checks["redis"]["level"] == "OK"


def test_worker_wants_a_home_that_hands_runs_to_workers(fc: Fc) -> None:
    code, _, said = fc("worker", "--queue", "gpu")
    assert code == 4
    assert "does not hand runs to workers" in said
    assert "deploy/dagster.celery.yaml" in said


def test_worker_wants_redis(fc: Fc, celery_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FC_REDIS_URL", "redis://:secret@127.0.0.1:1/0")
    code, _, said = fc("worker", "--queue", "gpu")
    assert code == 4
    assert "Redis does not answer" in said
    assert "secret" not in said
    monkeypatch.setenv("FC_REDIS_URL", "nonsense")
    assert "FC_REDIS_URL cannot be read" in fc("worker", "--queue", "gpu")[2]
    monkeypatch.delenv("FC_REDIS_URL")
    assert "FC_REDIS_URL is not set" in fc("worker", "--queue", "gpu")[2]


def test_worker_wants_a_store_that_can_be_written(fc: Fc, celery_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (celery_home / "file").touch()
    monkeypatch.setenv("FC_DATA_DIR", str(celery_home / "file" / "data"))
    code, _, said = fc("worker", "--queue", "gpu")
    assert code == 4
    assert "The image store cannot be used" in said


def test_worker_knows_its_queues(fc: Fc, celery_home: Path) -> None:
    code, _, said = fc("worker", "--queue", "gpus")
    assert code == 2
    assert "gpu or cpu" in " ".join(said.split())


# ---- the launcher


def launcher_of(instance: dg.DagsterInstance):
    from resources.launcher import WorkerRunLauncher

    launcher = instance.run_launcher
    assert isinstance(launcher, WorkerRunLauncher)
    return launcher


def run_in(instance: dg.DagsterInstance, task: str | None = "task-1") -> dg.DagsterRun:
    """A run that Dagster takes for started."""
    run = dg.DagsterRun(
        job_name="pony_flux", status=dg.DagsterRunStatus.STARTED, tags={"dagster-celery/task_id": task} if task else {}
    )
    return instance.add_run(run)


@pytest.mark.parametrize(
    ("state", "worker", "seconds", "healthy", "why"),
    [
        ("STARTED", "w@m", 0, True, ""),
        ("STARTED", "w@m", 300, False, "no sign of life for 3"),
        ("STARTED", "other@m", 0, False, "worker other@m has stopped"),
        ("SUCCESS", "w@m", 0, False, "without recording the run's end"),
        ("FAILURE", "w@m", 0, False, "without recording the run's end"),
        ("REVOKED", "w@m", 0, False, "without recording the run's end"),
    ],
)
def test_health_of_a_started_run(
    celery_home: Path, database: Database, state: str, worker: str, seconds: float, healthy: bool, why: str
) -> None:
    from dagster._core.launcher import WorkerStatus

    beat(Workers(database), "w@m")
    silence(database, "w@m", seconds)
    with dg.DagsterInstance.from_config(str(celery_home)) as instance:
        launcher = launcher_of(instance)
        result = RuntimeError("lost") if state in ("FAILURE", "REVOKED") else {"hostname": worker, "pid": 1}
        launcher.celery.backend.store_result("task-1", result, state)
        found = launcher.check_run_worker_health(run_in(instance))
    assert (found.status == WorkerStatus.RUNNING) is healthy
    assert why in (found.msg or "")


def test_health_when_redis_has_lost_its_memory(celery_home: Path, database: Database) -> None:
    from dagster._core.launcher import WorkerStatus

    with dg.DagsterInstance.from_config(str(celery_home)) as instance:
        launcher, run = launcher_of(instance), run_in(instance)
        assert launcher.check_run_worker_health(run).status == WorkerStatus.FAILED
        beat(Workers(database), "w@m", run.run_id)
        assert launcher.check_run_worker_health(run).status == WorkerStatus.RUNNING
        fresh = run_in(instance, task=None)
        assert launcher.check_run_worker_health(fresh).status == WorkerStatus.RUNNING, "its tag is not there yet"


def test_cancelling_a_run_that_no_worker_has_ends_it_at_once(celery_home: Path) -> None:
    with dg.DagsterInstance.from_config(str(celery_home)) as instance:
        waiting = dg.DagsterRun(
            job_name="pony_flux", status=dg.DagsterRunStatus.STARTING, tags={"dagster-celery/task_id": "task-1"}
        )
        run = instance.add_run(waiting)
        assert launcher_of(instance).terminate(run.run_id)
        assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.CANCELED
        assert not launcher_of(instance).terminate(run.run_id), "it is over"
        assert not launcher_of(instance).terminate("unknown")


@pytest.mark.parametrize(("config", "said"), [("gpus", "not a queue"), ("cpu", "")])
def test_the_default_queue_is_one_of_ours(celery_home: Path, config: str, said: str) -> None:
    text = (celery_home / "dagster.yaml").read_text()
    (celery_home / "dagster.yaml").write_text(text.replace("default_queue: gpu", f"default_queue: {config}"))
    with dg.DagsterInstance.from_config(str(celery_home)) as instance:
        if said:
            with pytest.raises(SettingsError, match=said):
                _ = instance.run_launcher
        else:
            assert launcher_of(instance).default_queue == config


# ---- what a process that lives long keeps


def test_a_changed_setting_makes_a_new_back_end_and_lets_go_of_the_old_one(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FC_GENERATOR", "tests.support.faulty:FaultyGenerator")
    first = weakref.ref(GeneratorResource().get()[0])
    assert GeneratorResource().get()[0] is first(), "each run makes a resource anew"
    monkeypatch.setenv("FC_IMAGE_TIMEOUT", "20")
    second = GeneratorResource().get()[0]
    gc.collect()
    assert first() is None
    monkeypatch.setenv("FC_GENERATOR", "sketch")
    assert type(GeneratorResource().get()[0]) is not type(second)

"""Real workers, real Redis, real Postgres and the real daemon: runs are shared, none is lost or done twice."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import make_url

from jobs.cli.processes import ServiceDiedError, Services
from jobs.model.stages import STAGES
from jobs.queue.job_queue import JobQueue
from jobs.requests.accept import submit
from resources.database import Database, open_database
from resources.settings import PROJECT_ROOT, load_settings
from resources.store.image_store import ImageStore
from resources.workers import Workers
from tests.support.postgres import run_sql
from tests.system.test_daemon import all_final, small

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
pytest_plugins = ["tests.support.redis_server"]

SECONDS = 400


@pytest.fixture
def many(
    home: Path, monkeypatch: pytest.MonkeyPatch, postgres_url: str, postgres_server: str, redis_url: str
) -> Database:
    """`home` as deploy/dagster.celery.yaml has it, looked at more often; its face-changer database."""
    name = f"{make_url(postgres_url).database}_dagster"
    run_sql(postgres_server, f"CREATE DATABASE {name}")
    monkeypatch.setenv("FC_DATABASE_URL", postgres_url)
    monkeypatch.setenv("FC_DAGSTER_POSTGRES_URL", postgres_server.replace("/postgres?", f"/{name}?"))
    monkeypatch.setenv("FC_REDIS_URL", redis_url)
    monkeypatch.setenv("FC_WORKER_SILENCE", "30")
    config = (PROJECT_ROOT / "deploy/dagster.celery.yaml").read_text()
    (home / "dagster.yaml").write_text(config.replace("poll_interval_seconds: 10", "poll_interval_seconds: 2"))
    return open_database(postgres_url)


def daemon(home: Path) -> Services:
    """The Dagster daemon."""
    program = Path(sys.executable).parent / "dagster-daemon"
    command = [str(program), "run", "-w", str(PROJECT_ROOT / "workspace.yaml")]
    return Services({"daemon": command}, logs=home / "service-logs", env={"PYTHONPATH": str(PROJECT_ROOT)})


def worker(home: Path, name: str, *queues: str) -> Services:
    """`fc worker` on these queues, on its own, as it may die without the test's end."""
    command = [sys.executable, "-m", "jobs.cli.main", "worker", *(f"--queue={queue}" for queue in queues)]
    return Services({name: command}, logs=home / name, env={"PYTHONPATH": str(PROJECT_ROOT)}, grace_seconds=60)


@contextmanager
def opened_at_the_end(gate: Path) -> Iterator[None]:
    """Open the gate whatever happens, so that a test that fails does not wait for a run that waits."""
    try:
        yield
    finally:
        gate.touch()


def wait_for_workers(running: Services, workers: Workers, count: int) -> None:
    running.wait_until(
        lambda: len(workers.all()) == count, seconds=SECONDS, what=f"The sign of life of {count} workers"
    )


def test_a_worker_loads_its_model_once_for_two_runs(
    home: Path, many: Database, store: ImageStore, tiny_sdxl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FC_GENERATOR", "sdxl")
    monkeypatch.setenv("FC_SDXL_MODEL", str(tiny_sdxl))
    monkeypatch.setenv("FC_SDXL_DEVICE", "cpu")
    queue, workers = JobQueue(many), Workers(many)
    scene = small("a woman in the rain", job_type="sdxl_generation", steps=2)
    with worker(home, "one", "gpu") as one, daemon(home) as running:
        wait_for_workers(one, workers, 1)
        for _ in range(2):
            submit([scene], queue=queue, store=store, settings=load_settings(), origin="cli")
            one.wait_until(lambda: all_final(queue), seconds=SECONDS, what="The job")
            running.check()
        log = one.log_path("one")
    ends = queue.find()
    assert [(job.status, job.error) for job in ends] == [("completed", None)] * 2
    assert len({job.run_ids for job in ends}) == 2
    loadings = [line for line in log.read_text().splitlines() if "ForkPoolWorker" in line and "Loaded the SDXL" in line]
    assert len(loadings) == 1
    assert workers.all() == [], "a worker that was stopped has left"


def test_12_jobs_on_two_workers_of_which_one_is_killed(
    home: Path, many: Database, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FC_BATCH_SIZE", "3")
    monkeypatch.setenv("FC_GENERATOR", "tests.support.faulty:WorkerKilledOnce")
    monkeypatch.setenv("FC_TEST_KILLED", str(home / "killed"))
    queue, workers = JobQueue(many), Workers(many)
    requests = [small(f"portrait of a woman, number {number}", width=128, height=128) for number in range(12)]
    with worker(home, "one", "gpu"), worker(home, "two", "gpu", "cpu"), daemon(home) as running:
        wait_for_workers(running, workers, 2)
        jobs = submit(requests, queue=queue, store=store, settings=load_settings(), origin="cli")
        running.wait_until(lambda: all_final(queue), seconds=SECONDS, what="The last job")
    killed = int((home / "killed").read_text())
    assert [row.pid for row in workers.all()] == [killed], "the one that was killed could not say goodbye"
    ends = [queue.get(job.id) for job in jobs]
    assert [(job.status, job.error) for job in ends] == [("completed", None)] * 12
    assert len({run for job in ends for run in job.run_ids}) >= 5, (
        "four runs, and what was left of the one that was cut"
    )
    for stage in STAGES:
        runs = sorted(result.runs for job in ends if (result := queue.stage_result(job.id, stage)))
        assert runs == [1] * 11 + [2 if stage == "generated_image" else 1], f"{stage}: only the one that was cut"


def test_a_cancelled_run_ends_and_its_worker_goes_on_and_sigterm_lets_the_run_in_hand_end(
    home: Path, many: Database, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FC_GENERATOR", "tests.support.faulty:WaitsAtGate")
    monkeypatch.setenv("FC_TEST_GATE", str(home))
    queue, workers, begun = JobQueue(many), Workers(many), home / "begun"
    scene = small("a woman in the rain", job_type="sdxl_generation")
    with worker(home, "one", "gpu") as one, daemon(home), opened_at_the_end(home / "open"):
        wait_for_workers(one, workers, 1)
        (first,) = submit([scene], queue=queue, store=store, settings=load_settings(), origin="cli")
        one.wait_until(begun.exists, seconds=SECONDS, what="The first run")
        process = int(begun.read_text())
        begun.unlink()
        run_id = str(queue.get(first.id).run_id)
        one.wait_until(lambda: workers.all()[0].run_ids == (run_id,), seconds=SECONDS, what="Its sign of life")
        with dg.DagsterInstance.from_config(str(home)) as instance:
            assert instance.run_coordinator.cancel_run(run_id)
            one.wait_until(lambda: all_final(queue), seconds=SECONDS, what="The end of the first job")
            assert instance.get_run_by_id(run_id).status == dg.DagsterRunStatus.CANCELED
        assert queue.get(first.id).status == "cancelled"

        (second,) = submit([scene], queue=queue, store=store, settings=load_settings(), origin="cli")
        one.wait_until(begun.exists, seconds=SECONDS, what="The second run")
        assert int(begun.read_text()) == process, "the process, with what it had loaded, has survived"
        os.kill(one.pid("one"), signal.SIGTERM)
        one.wait_until(lambda: "Stopping (SIGTERM)" in one.log_path("one").read_text(), seconds=SECONDS, what="It")
        assert queue.get(second.id).status == "running"
        (home / "open").touch()
        with pytest.raises(ServiceDiedError, match="exit code 0"):
            one.wait_until(lambda: False, seconds=SECONDS, what="The worker's end")
        assert queue.get(second.id).status == "completed"
    assert workers.all() == []

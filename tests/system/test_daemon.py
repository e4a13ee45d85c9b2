"""The real daemon: sensor, queue, runs in their own processes, on SQLite and on Postgres."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
from PIL import Image

from jobs.cli.processes import Services
from jobs.model.request import JobRequest
from jobs.model.stages import STAGES
from jobs.model.transitions import FINAL
from jobs.queue.job_queue import JobQueue
from jobs.requests.accept import submit
from resources.database import open_database
from resources.settings import PROJECT_ROOT, load_settings
from resources.store.image_store import ImageStore
from tests.support.graph import materialized
from tests.support.postgres import run_sql

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]

SECONDS = 300


@contextmanager
def daemon(home: Path) -> Iterator[Services]:
    """A Dagster daemon on a home, with everything that it starts."""
    program = Path(sys.executable).parent / "dagster-daemon"
    command = [str(program), "run", "--workspace", str(PROJECT_ROOT / "workspace.yaml")]
    env = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
    with Services({"daemon": command}, logs=home / "service-logs", env=env) as services:
        yield services


def all_final(queue: JobQueue) -> bool:
    return all(job.status in FINAL for job in queue.find())


def small(prompt: str, **fields: object) -> tuple[str | None, JobRequest]:
    return (None, JobRequest.model_validate({"pony_prompt": prompt, "width": 256, "height": 256, **fields}))


def test_24_jobs_of_which_three_cannot_be_done(
    home: Path, queue: JobQueue, store: ImageStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from skimage import data

    Image.fromarray(data.astronaut()).save(tmp_path / "astronaut.png")
    Image.fromarray(data.coffee()).save(tmp_path / "coffee.png")
    monkeypatch.setenv("FC_GENERATOR", "tests.support.faulty:FaultyGenerator")
    monkeypatch.setenv("FC_WRITER", "tests.support.faulty:FaultyWriter")
    monkeypatch.setenv("FC_BATCH_SIZE", "8")
    requests = [small(f"portrait of a woman, number {number}") for number in range(18)]
    requests[4] = small("broken-words, portrait of a woman")
    requests[11] = small("broken-face, portrait of a woman")
    for name in ("astronaut", "coffee", "astronaut", "astronaut"):
        photo = JobRequest(job_type="face_processing", source_image=str(tmp_path / f"{name}.png"))
        requests.append((None, photo))
    requests.append(small("portrait of a man", job_type="sdxl_generation"))
    requests.append((None, JobRequest(job_type="description", source_image=str(tmp_path / "coffee.png"))))
    jobs = submit(requests, queue=queue, store=store, settings=load_settings(), origin="cli")
    assert len(jobs) == 24

    with daemon(home) as services:
        services.wait_until(lambda: all_final(queue), seconds=SECONDS, what="the last of 24 jobs")

    ends = {job.id: queue.get(job.id) for job in jobs}
    bad = {4: ("failed", "enhanced_prompt"), 11: ("failed", "changed_face"), 19: ("needs_review", "portrait")}
    for number, job in enumerate(jobs):
        end = ends[job.id]
        if number in bad:
            assert (end.status, end.error_stage) == bad[number], end
            assert end.error
            assert end.error_hint
        else:
            assert end.status == "completed", end
        assert end.attempts == 0
        results = queue.stage_results(job.id)
        assert all(result.runs == 1 for result in results), "no stage runs twice"
        assert [result.stage for result in results if result.status == "completed"] == list(end.stages_completed)
        for result in results:
            if result.status == "completed":
                assert store.sha256_of(*Path(result.output["path"]).parts[-2:]) == result.output["sha256"]
    with dg.DagsterInstance.from_config(str(home)) as instance:
        for stage in STAGES:
            done = {job.id for job in ends.values() if stage in job.stages_completed}
            assert materialized(instance, stage) == done, f"Dagster and the queue disagree about {stage}"


def test_killed_run_goes_on_where_it_was(
    home: Path, queue: JobQueue, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is killed in the middle of a batch: what was stored stays, the rest is done by another run."""
    monkeypatch.setenv("FC_GENERATOR", "tests.support.faulty:KilledOnce")
    monkeypatch.setenv("FC_TEST_KILLED", str(home / "killed"))
    requests = [small(f"portrait of a woman, number {number}") for number in range(4)]
    jobs = submit(requests, queue=queue, store=store, settings=load_settings(), origin="cli")
    config = (home / "dagster.yaml").read_text().replace("poll_interval_seconds: 10", "poll_interval_seconds: 2")
    (home / "dagster.yaml").write_text(config)
    with daemon(home) as services:
        services.wait_until(lambda: all_final(queue), seconds=SECONDS, what="the last job")
    assert (home / "killed").exists()
    for job in jobs:
        end = queue.get(job.id)
        assert end.status == "completed"
        assert len(end.run_ids) >= 2
    runs = {job.id: {one.stage: one.runs for one in queue.stage_results(job.id)} for job in jobs}
    assert sorted(found["generated_image"] for found in runs.values()) == [1, 1, 1, 2], "only the one that was cut"
    assert all(found["enhanced_prompt"] == 1 for found in runs.values())


def test_daemon_killed_and_started_again_loses_nothing(home: Path, queue: JobQueue, store: ImageStore) -> None:
    jobs = submit(
        [small(f"portrait of a man, number {number}") for number in range(4)],
        queue=queue,
        store=store,
        settings=load_settings(),
        origin="cli",
    )
    with daemon(home) as services:
        services.wait_until(lambda: queue.counts()["pending"] == 0, seconds=SECONDS, what="the claim")
        os.kill(services.pid("daemon"), signal.SIGKILL)
    with daemon(home) as services:
        services.wait_until(lambda: all_final(queue), seconds=SECONDS, what="the last job")
    for job in jobs:
        assert queue.get(job.id).status == "completed"


def test_both_databases_on_postgres(
    home: Path, store: ImageStore, monkeypatch: pytest.MonkeyPatch, postgres_url: str, postgres_server: str
) -> None:
    monkeypatch.setenv("FC_DATABASE_URL", postgres_url)
    run_sql(postgres_server, "CREATE DATABASE dagster_storage")
    dagster_url = postgres_server.replace("/postgres?", "/dagster_storage?")
    monkeypatch.setenv("FC_DAGSTER_POSTGRES_URL", dagster_url)
    (home / "dagster.yaml").write_text((PROJECT_ROOT / "deploy/dagster.postgres.yaml").read_text())
    queue = JobQueue(open_database(postgres_url))
    (job,) = submit([small("a man, city")], queue=queue, store=store, settings=load_settings(), origin="cli")
    with daemon(home) as services:
        services.wait_until(lambda: all_final(queue), seconds=SECONDS, what="the job")
    assert queue.get(job.id).status == "completed"

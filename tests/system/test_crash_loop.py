"""The crash loop: everything is killed at random moments, and nothing is lost, done twice or left half done.

Real processes: the daemon, its code servers and run workers, the web server, Postgres. The seed of the moments is
printed; FC_CRASH_SEED repeats it.
"""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections import Counter
from pathlib import Path

import dagster as dg
import pytest
from PIL import Image

from jobs.model.job_types import JOB_TYPES
from jobs.model.request import JobRequest
from jobs.model.stages import STAGES
from jobs.model.transitions import FINAL
from jobs.queue.job_queue import JobQueue
from jobs.requests.accept import submit
from jobs.runs import repair
from resources.database import open_database
from resources.settings import PROJECT_ROOT, load_settings
from resources.store.image_store import ImageStore
from tests.support.crash_machine import Machine
from tests.support.graph import materialized
from tests.support.postgres import PostgresServer, postgres, run_sql

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

SEED = int(os.environ.get("FC_CRASH_SEED", random.SystemRandom().randrange(10**6)))  # before the settings are cleaned
REST_SECONDS = 900  # of a machine with much else to do
QUICK = {
    "poll_interval_seconds: 10": "poll_interval_seconds: 2",
    "start_timeout_seconds: 180": "start_timeout_seconds: 60",
    "free_slots_after_run_end_seconds: 10": "free_slots_after_run_end_seconds: 2",
}


def configure(home: Path, monkeypatch: pytest.MonkeyPatch, template: str) -> None:
    """A Dagster home that notices quickly, and batches that a crash cuts."""
    text = (PROJECT_ROOT / template).read_text()
    for slow, quick in QUICK.items():
        assert slow in text
        text = text.replace(slow, quick)
    (home / "dagster.yaml").write_text(text)
    monkeypatch.setenv("FC_BATCH_SIZE", "32")


def ask_for(count: int, queue: JobQueue, store: ImageStore) -> None:
    """Jobs of 128 px: every eighth goes through all stages, the others end with the image."""
    requests = [
        JobRequest.model_validate({
            "pony_prompt": f"portrait of a woman, number {number}", "width": 128, "height": 128,
            "job_type": "sdxl_generation" if number % 8 else "pony_flux",
        })
        for number in range(count)
    ]  # fmt: skip
    submit([(None, one) for one in requests], queue=queue, store=store, settings=load_settings(), origin="cli")


def ended(queue: JobQueue) -> int:
    """How many jobs have ended."""
    return sum(number for status, number in queue.counts().items() if status in FINAL)


def crash(machine: Machine, kind: str, server: PostgresServer | None) -> None:
    """Kill one thing, or all at once, and let the supervisor start it again."""
    if kind in ("postgres", "everything") and server is not None:
        server.kill()
    for one in ("daemon", "code server", "run worker", "webserver"):
        if kind in (one, "everything"):
            machine.kill(one)
    if kind in ("postgres", "everything") and server is not None:
        server.start()
    machine.keep_up()


def crash_until_over(
    machine: Machine, queue: JobQueue, kinds: list[str], moments: random.Random, server: PostgresServer | None
) -> Counter[str]:
    """Kill each of `kinds` at a random moment of the work, and wait for the last job; how often each was killed."""
    done: Counter[str] = Counter()
    begun = time.monotonic()
    count = len(queue.find())
    moments.shuffle(kinds)
    for number, kind in enumerate(kinds):
        share = count * number // (len(kinds) + 1)  # so that they are spread over the work
        machine.wait_until(
            lambda share=share: ended(queue) == count or (ended(queue) >= share and bool(machine.pids("run worker"))),
            seconds=REST_SECONDS,
            what="a run worker",
        )
        if ended(queue) == count:
            break
        moment = time.monotonic() + moments.uniform(0, 4)
        machine.wait_until(lambda until=moment: time.monotonic() > until, seconds=60, what="the moment")
        crash(machine, kind, server)
        done[kind] += 1
        tell(f"{time.monotonic() - begun:6.1f} s: killed {kind}; {shown(queue)}")
    machine.wait_until(lambda: ended(queue) == count, seconds=REST_SECONDS, what="the last job")
    tell(f"{time.monotonic() - begun:6.1f} s: over; {shown(queue)}")
    return done


def tell(line: str) -> None:
    """Print at once: the seed and what was killed when are what a failure is understood by."""
    print(line, flush=True)  # noqa: T201


def shown(queue: JobQueue) -> str:
    return ", ".join(f"{count} {status}" for status, count in queue.counts().items() if count)


def all_runs_over(instance: dg.DagsterInstance) -> bool:
    return all(run.is_finished for run in instance.get_runs())


def check_jobs(queue: JobQueue, store: ImageStore, count: int) -> None:
    """Every job is done, once, and its files are whole."""
    jobs = queue.find()
    assert len(jobs) == count
    assert Counter(job.status for job in jobs) == {"completed": count}
    for job in jobs:
        assert job.stages_completed == JOB_TYPES[job.job_type].stages
        worked = Counter(one.stage for one in queue.attempts(job.id) if one.verdict == "completed")
        assert worked == dict.fromkeys(JOB_TYPES[job.job_type].stages, 1), f"{job.id}: {worked}"
        images = queue.images(job.id)
        assert job.final_image in {image.path for image in images}
        for image in images:
            data = Path(image.path).read_bytes()
            assert hashlib.sha256(data).hexdigest() == image.sha256
            with Image.open(image.path) as opened:
                opened.load()
        for result in queue.stage_results(job.id):
            assert store.sha256_of(*Path(result.output["path"]).parts[-2:]) == result.output["sha256"]


def check_dagster(instance: dg.DagsterInstance, queue: JobQueue) -> None:
    """Dagster shows what is done, and nothing else; no run goes on."""
    jobs = queue.find()
    for stage in STAGES:
        done = {job.id for job in jobs if stage in job.stages_completed}
        assert materialized(instance, stage) == done, f"Dagster and the queue disagree about {stage}"
    assert all(run.is_finished for run in instance.get_runs())


def check_doctor(stores: repair.Stores) -> None:
    """The system came to rest by itself: there is nothing to repair but files of writes that were cut."""
    for path in stores.store.temp_leftovers(older_than=0):
        os.utime(path, (0, 0))  # an hour later
    found = list(repair.find_disagreements(stores, fix=True))
    assert {one.name for one in found} <= {"leftovers"}, found
    assert list(repair.find_disagreements(stores, fix=True)) == []
    assert stores.store.temp_leftovers(older_than=0) == []


def crash_and_check(
    home: Path, store: ImageStore, *, jobs: int, kinds: list[str], server: PostgresServer | None
) -> Counter[str]:
    """The whole loop; how often each was killed."""
    tell(f"FC_CRASH_SEED={SEED}")
    moments = random.Random(SEED)  # noqa: S311 - moments, no secrets
    queue = JobQueue(open_database(load_settings().resolved_database_url))
    ask_for(jobs, queue, store)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        with Machine(home) as machine:
            done = crash_until_over(machine, queue, kinds, moments, server)
            machine.wait_until(lambda: all_runs_over(instance), seconds=REST_SECONDS, what="the end of the last run")
        check_jobs(queue, store, jobs)
        check_dagster(instance, queue)
        check_doctor(repair.Stores(instance, queue, store, load_settings(), all_jobs=True))
    return done


def test_on_postgres(home: Path, store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(home, monkeypatch, "deploy/dagster.postgres.yaml")
    kinds = ["daemon", "run worker", "run worker", "webserver", "code server", "postgres", "postgres", "everything"]
    with postgres() as server:
        for name in ("face_changer", "dagster"):
            run_sql(server.url, f"CREATE DATABASE {name}")
        monkeypatch.setenv("FC_DATABASE_URL", server.url.replace("/postgres?", "/face_changer?"))
        monkeypatch.setenv("FC_DAGSTER_POSTGRES_URL", server.url.replace("/postgres?", "/dagster?"))
        done = crash_and_check(home, store, jobs=200, kinds=kinds, server=server)
    assert done.total() >= 3, f"the jobs were done before enough was killed: {done}"


def test_on_sqlite(home: Path, store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(home, monkeypatch, "dagster.yaml")
    kinds = ["daemon", "run worker", "everything"]
    done = crash_and_check(home, store, jobs=40, kinds=kinds, server=None)
    assert done.total() >= 1, "the jobs were done before anything was killed"


def test_a_job_that_kills_its_run_is_found_and_its_neighbours_lose_nothing(
    home: Path, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(home, monkeypatch, "dagster.yaml")
    monkeypatch.setenv("FC_GENERATOR", "tests.support.faulty:Poison")
    queue = JobQueue(open_database(load_settings().resolved_database_url))
    poison = "j-005"
    pairs = [
        (f"j-{number:03}", JobRequest(
            pony_prompt="poison-scene" if f"j-{number:03}" == poison else "portrait of a woman",
            width=128, height=128, job_type="sdxl_generation",
        ))
        for number in range(12)
    ]  # fmt: skip
    submit(pairs, queue=queue, store=store, settings=load_settings(), origin="cli")
    with dg.DagsterInstance.from_config(str(home)) as instance, Machine(home) as machine:
        machine.wait_until(lambda: ended(queue) == len(pairs), seconds=REST_SECONDS, what="the last job")
        machine.wait_until(lambda: all_runs_over(instance), seconds=REST_SECONDS, what="the end of the last run")
        found = {job.id: job for job in queue.find()}
        killed = found.pop(poison)
        assert (killed.status, killed.fault, killed.alone_deaths) == ("failed", "crash", 3)
        assert (killed.attempts, killed.error_stage) == (4, "generated_image"), "once in company, three times alone"
        assert "died 3 times" in (killed.error or "")
        deaths = [one.run_id for one in queue.attempts(poison) if one.fault == "crash"]
        assert len(set(deaths)) == 4
        assert instance.get_run_by_id(deaths[-1]).tags["dagster/partition"] == poison, "a run of its own"
    for job in found.values():
        assert (job.status, job.attempts, job.faults, job.solo) == ("completed", 0, {}, False)
        assert {one.verdict for one in queue.attempts(job.id)} == {"completed"}

"""The sensor `job_requests`: batches, order, and a crash between any two of its steps."""

from __future__ import annotations

import json
import random
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._core.scheduler.instigation import SensorInstigatorData
from dagster._core.test_utils import freeze_time
from dagster._daemon.sensor import MIN_INTERVAL_LOOP_TIME, is_under_min_interval
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import jobs.requests.accept
from fc_assets.definitions import build_defs
from jobs.model.job import Job
from jobs.model.job_types import JOB_TYPES
from jobs.model.stages import PARTITIONS
from jobs.queue.job_queue import JobQueue
from jobs.runs.lifecycle import BATCH_TAG, RANGE_END_TAG, RANGE_START_TAG, settle_lost_runs
from resources.settings import load_settings
from resources.sources.photos import SourceInfo
from resources.store.image_store import ImageStore
from sensors.job_requests import contiguous, job_requests, run_request
from sensors.outcomes import OUTCOME_SENSORS
from tests.support.graph import add_jobs

PROMPT = {"pony_prompt": "portrait of a woman"}


def tick(instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    """One evaluation of the sensor, as the daemon does it."""
    resources = {key: build_defs().resources[key] for key in ("database", "store")}
    context = dg.build_sensor_context(instance=instance, resources=resources)
    found = job_requests(context)
    return [] if isinstance(found, dg.SkipReason) else list(found.run_requests or [])


def keys_of(request: dg.RunRequest, instance: dg.DagsterInstance) -> list[str]:
    """The partitions that a requested run carries."""
    if request.partition_key:
        return [request.partition_key]
    keys = list(instance.get_dynamic_partitions(PARTITIONS))
    start, end = keys.index(request.tags[RANGE_START_TAG]), keys.index(request.tags[RANGE_END_TAG])
    return keys[start : end + 1]


@pytest.mark.parametrize("sensor", [job_requests, *OUTCOME_SENSORS], ids=lambda sensor: sensor.name)
def test_every_round_of_the_daemon_is_a_tick_though_a_tick_begins_a_little_late(sensor: dg.SensorDefinition) -> None:
    """By Dagster's own arithmetic, over its rounds: it looks in each, and measures from the start of the last tick."""
    late, begun = random.Random(1), [1.7e9]  # noqa: S311 - delays, no secrets
    remote = SimpleNamespace(min_interval_seconds=sensor.minimum_interval_seconds)
    for number in range(1, 200):
        looked = begun[0] + number * MIN_INTERVAL_LOOP_TIME
        state = SimpleNamespace(instigator_data=SensorInstigatorData(last_tick_start_timestamp=begun[-1]))
        with freeze_time(datetime.fromtimestamp(looked, UTC)):
            if not is_under_min_interval(state, remote):
                begun.append(looked + late.uniform(0, 0.9))
    assert len(begun) == 200


def test_nothing_pending_is_a_skip(instance: dg.DagsterInstance, queue: JobQueue) -> None:
    assert tick(instance) == []


def test_pending_jobs_share_a_run(instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore) -> None:
    add_jobs(queue, store, PROMPT, PROMPT, PROMPT)
    (request,) = tick(instance)
    assert keys_of(request, instance) == ["a", "b", "c"]
    assert request.job_name == "pony_flux"
    assert request.run_key == request.tags[BATCH_TAG]
    assert {queue.get(job_id).status for job_id in "abc"} == {"claimed"}


def test_single_job_is_a_plain_partition_run(instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore) -> None:
    add_jobs(queue, store, PROMPT)
    (request,) = tick(instance)
    assert request.partition_key == "a"
    assert RANGE_START_TAG not in request.tags


def test_order_is_priority_then_age(instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore) -> None:
    add_jobs(queue, store, *({**PROMPT, "priority": priority} for priority in (5, 10, 1, 5)))
    (request,) = tick(instance)
    assert keys_of(request, instance) == ["c", "a", "d", "b"]


def test_a_run_names_the_queue_of_workers_that_can_do_it(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FC_GENERATOR", "sdxl")
    add_jobs(queue, store, PROMPT, PROMPT)
    (request,) = tick(instance)
    assert request.tags["dagster-celery/queue"] == "gpu"
    resumed = replace(queue.get("a"), stages_completed=JOB_TYPES["pony_flux"].stages[:6])
    assert run_request("batch", [resumed], 60).tags["dagster-celery/queue"] == "cpu", "nothing is generated any more"


def test_types_run_apart(instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore) -> None:
    scene = {**PROMPT, "job_type": "sdxl_generation"}
    add_jobs(queue, store, PROMPT, scene, PROMPT, scene)
    requests = {request.job_name: keys_of(request, instance) for request in tick(instance)}
    assert requests == {"pony_flux": ["a", "c"], "sdxl_generation": ["b", "d"]}


def test_batches_have_a_limit_and_so_has_a_tick(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FC_BATCH_SIZE", "2")
    add_jobs(queue, store, *([PROMPT] * 12))
    first = tick(instance)
    assert [len(keys_of(request, instance)) for request in first] == [2, 2, 2, 2]
    assert queue.counts()["pending"] == 4
    assert [request.run_key for request in tick(instance)] == [request.run_key for request in first]
    assert queue.counts()["pending"] == 4


@pytest.mark.parametrize(("jobs", "batches"), [(16, [16]), (17, [16, 1]), (26, [16, 10])])
def test_few_jobs_share_a_run(
    jobs: int, batches: list[int], instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore
) -> None:
    add_jobs(queue, store, *([PROMPT] * jobs))
    assert [len(keys_of(request, instance)) for request in tick(instance)] == batches


def test_many_jobs_are_shared_by_the_runs_that_go_at_once(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sensors.job_requests.LEAST_SHARED", 4)
    add_jobs(queue, store, *([PROMPT] * 13))
    assert [len(keys_of(request, instance)) for request in tick(instance)] == [7, 6]


def test_crash_after_each_step_loses_nothing_and_asks_for_the_same_runs(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class CrashError(BaseException):
        """As a kill: nothing may catch it."""

    add_jobs(queue, store, PROMPT, PROMPT, PROMPT)
    steps = [
        (dg.DagsterInstance, "add_dynamic_partitions"),  # claimed, no partition yet
        (JobQueue, "assign_batch"),  # partitions, no batch yet
        (JobQueue, "open_batches"),  # before anything is asked for
    ]
    for owner, method in steps:
        with monkeypatch.context() as patch:
            patch.setattr(owner, method, lambda *_, **__: (_ for _ in ()).throw(CrashError()))
            with pytest.raises(CrashError):
                tick(instance)
        assert sum(queue.counts().values()) == 3
    (request,) = tick(instance)
    assert keys_of(request, instance) == ["a", "b", "c"]
    (again,) = tick(instance)  # the daemon died before it stored the runs
    assert again.run_key == request.run_key


def test_started_batch_is_not_asked_for_again(instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore) -> None:
    add_jobs(queue, store, PROMPT)
    (request,) = tick(instance)
    run = dg.DagsterRun(job_name="pony_flux", run_id="r1", status=dg.DagsterRunStatus.STARTED, tags=request.tags)
    instance.add_run(run)
    queue.start("a", run_id="r1", batch_id=request.tags[BATCH_TAG])
    assert tick(instance) == []


def test_jobs_go_on_from_their_next_stage_in_contiguous_runs(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore
) -> None:
    add_jobs(queue, store, *([PROMPT] * 5))
    (request,) = tick(instance)
    batch = request.tags[BATCH_TAG]
    for job_id in "abcde":
        queue.start(job_id, run_id="r1", batch_id=batch)
        queue.begin_stage(job_id, "job_request", run_id="r1", content_key="k", input={})
        queue.finish_stage(job_id, "job_request", run_id="r1", output={"sha256": "0"}, milliseconds=1, content_key="k")
    queue.fail("c", run_id="r1", stage="enhanced_prompt", what="bad", hint="")
    queue.release(list("abde"), run_id="r1", status="pending")
    requests = tick(instance)
    assert sorted(keys_of(request, instance) for request in requests) == [["a", "b"], ["d", "e"]]
    for request in requests:
        assert request.asset_selection[0].path[-1] == "enhanced_prompt"


@pytest.mark.parametrize("there", [["c", "b", "a"], ["c"], ["b", "a"], ["b"], ["c", "a"]])
def test_partitions_that_stand_in_another_order_than_the_queue_are_each_asked_for_once(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, there: list[str]
) -> None:
    instance.add_dynamic_partitions(PARTITIONS, there)
    add_jobs(queue, store, *([PROMPT] * 3))
    asked = [key for request in tick(instance) for key in keys_of(request, instance)]
    assert sorted(asked) == ["a", "b", "c"]


@given(
    places=st.lists(st.integers(0, 40), unique=True, min_size=1),
    alone=st.sets(st.integers(0, 40)),
    most=st.integers(1, 8),
)
def test_contiguous_runs_hold_each_job_once_and_nothing_else(places: list[int], alone: set[int], most: int) -> None:
    jobs = [_job(str(place), solo=place in alone) for place in places]
    runs = list(contiguous(jobs, {str(place): place for place in range(41)}, most))
    order = [job.id for job in jobs]
    assert sorted(job.id for run in runs for job in run) == sorted(job.id for job in jobs)
    for run in runs:
        found = [int(job.id) for job in run]
        assert len(found) <= most
        assert found == list(range(found[0], found[0] + len(found)))
        assert len(run) == 1 or not any(job.solo for job in run)
        assert [job.id for job in run] == sorted((job.id for job in run), key=order.index), "the order of the queue"


def _job(job_id: str, *, solo: bool) -> Job:
    """Just enough of a job to be put into a run."""
    job = object.__new__(Job)
    object.__setattr__(job, "id", job_id)
    object.__setattr__(job, "solo", solo)
    return job


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (dg.DagsterRunStatus.FAILURE, "pending"),
        (dg.DagsterRunStatus.CANCELED, "cancelled"),
        (dg.DagsterRunStatus.SUCCESS, "held"),
        (dg.DagsterRunStatus.STARTED, "running"),
    ],
)
def test_lost_runs_are_settled(
    status: dg.DagsterRunStatus, expected: str, instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore
) -> None:
    add_jobs(queue, store, PROMPT, hold=True)
    instance.add_run(dg.DagsterRun(job_name="pony_flux", run_id="r1", status=status))
    queue.start("a", run_id="r1", batch_id=None)
    settle_lost_runs(instance, queue, load_settings())
    settle_lost_runs(instance, queue, load_settings())
    assert queue.get("a").status == expected
    assert queue.get("a").attempts == (1 if expected == "pending" else 0)


def test_run_that_dagster_does_not_know_is_lost_only_after_long_silence(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_jobs(queue, store, PROMPT, hold=True)
    queue.start("a", run_id="elsewhere", batch_id=None)
    assert settle_lost_runs(instance, queue, load_settings()) == {}
    monkeypatch.setenv("FC_STAGE_TIMEOUT", "1e-9")
    assert settle_lost_runs(instance, queue, load_settings()) == {"a": "pending"}


def test_inbox_file_becomes_a_run(
    instance: dg.DagsterInstance, queue: JobQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    monkeypatch.setenv("FC_INBOX", str(inbox))
    monkeypatch.setattr("sensors.inbox_thread.WAIT_SECONDS", 60)
    (inbox / "good.json").write_text(json.dumps({**PROMPT, "job_id": "from-inbox"}))
    (inbox / "bad.json").write_text(json.dumps({"pony_promt": "typo"}))
    (request,) = tick(instance)
    assert request.partition_key == "from-inbox"
    assert (inbox / "accepted" / "good.json").exists()
    assert "pony_promt" in (inbox / "rejected" / "bad.json.error.txt").read_text()


def test_a_look_into_the_inbox_that_takes_long_keeps_no_job_waiting(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for number in range(2):
        Image.effect_noise((128, 96), 50).convert("RGB").save(inbox / f"{number}.png")
    entries = [{"job_type": "description", "source_image": f"{number}.png"} for number in range(2)]
    (inbox / "many.json").write_text(json.dumps(entries))
    monkeypatch.setenv("FC_INBOX", str(inbox))
    monkeypatch.setattr("sensors.inbox_thread.WAIT_SECONDS", 0.01)
    read, goes_on, looks = jobs.requests.accept.import_source, threading.Event(), list[str]()

    def slow(path: str, **more: Any) -> SourceInfo:
        looks.append(path)
        assert goes_on.wait(60)
        return read(path, **more)

    monkeypatch.setattr("jobs.requests.accept.import_source", slow)
    add_jobs(queue, store, PROMPT)
    (request,) = tick(instance)
    assert request.partition_key == "a"
    assert len(tick(instance)) == 1
    assert len(looks) == 1, "no second look begins beside the one that is going on"
    assert (inbox / "many.json").exists()
    goes_on.set()
    monkeypatch.setattr("sensors.inbox_thread.WAIT_SECONDS", 60)
    tick(instance)
    assert (inbox / "accepted" / "many.json").exists()
    assert len(queue.find()) == 3


def test_inbox_that_cannot_be_used_stops_no_other_job(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FC_INBOX", str(tmp_path / "not-there"))
    add_jobs(queue, store, PROMPT)
    (request,) = tick(instance)
    assert request.partition_key == "a"


def test_batch_whose_run_failed_before_it_started_goes_back_to_the_queue(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore
) -> None:
    add_jobs(queue, store, PROMPT)
    (request,) = tick(instance)
    instance.add_run(
        dg.DagsterRun(job_name="pony_flux", run_id="r1", status=dg.DagsterRunStatus.FAILURE, tags=request.tags)
    )
    (again,) = tick(instance)
    assert again.run_key != request.run_key
    assert (queue.get("a").status, queue.get("a").attempts) == ("claimed", 1)


def test_a_burst_is_shared_out_to_as_many_runs_as_the_instance_lets_go_at_once(
    home: Path, queue: JobQueue, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sensors.job_requests.LEAST_SHARED", 1)
    config = home / "dagster.yaml"
    config.write_text(config.read_text().replace("max_concurrent_runs: 2", "max_concurrent_runs: 3"))
    add_jobs(queue, store, *[PROMPT] * 6)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert [len(keys_of(request, instance)) for request in tick(instance)] == [2, 2, 2]

"""Kinds of faults: which error is which, how long a job waits, and what its history says of each attempt."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import get_args

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fc_assets.engine.limits import StageTimeoutError
from imaging.errors import BackendError, OutOfMemoryError, RejectedError, SettingsError, TransientError
from jobs.model.faults import LONGEST_WAIT, POLICIES, Fault, fault_of, most_attempts, seconds_before_next
from jobs.model.stages import STAGES
from jobs.queue.job_queue import JobQueue
from jobs.runs.lifecycle import settle_lost_runs, settle_run, why_failed
from resources.generators.servers.http_api import UnreachableError
from resources.retries import retry_after
from resources.settings import Settings, load_settings
from resources.store.image_store import ImageStore
from tests.support.commands import Fc
from tests.support.graph import add_jobs, claim_batch, materialize

ONE_PERSON = "portrait of a smiling woman with red hair, forest"


@pytest.fixture
def _faulty(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FC_GENERATOR", "tests.support.faulty:FaultyGenerator")
    monkeypatch.setenv("FC_WRITER", "tests.support.faulty:FaultyWriter")


# ---- the table


def test_every_kind_has_its_line_and_its_setting() -> None:
    assert set(POLICIES) == set(get_args(Fault))
    assert {policy.setting for policy in POLICIES.values()} - {None} <= set(Settings.model_fields)


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (TransientError("Busy."), "service"),
        (UnreachableError("Down."), "service"),
        (StageTimeoutError("Slow."), "service"),
        (OutOfMemoryError("Short."), "memory"),
        (MemoryError(), "memory"),
        (type("OutOfMemoryError", (RuntimeError,), {})("as torch's"), "memory"),
        (BackendError("Broken."), "permanent"),
        (SettingsError("Wrong."), "permanent"),
        (RejectedError("Wrong."), "permanent"),
        (ValueError("a bug"), "permanent"),
    ],
)
def test_which_error_is_which(error: Exception, fault: Fault) -> None:
    assert fault_of(error) == fault


def test_what_would_fail_again_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FC_SERVICE_ATTEMPTS", "9")
    found = {fault: most_attempts(fault, load_settings()) for fault in POLICIES}
    assert found == {"service": 9, "crash": 3, "memory": 2, "permanent": 1}


@given(st.sampled_from(sorted(POLICIES)), st.integers(1, 10_000), st.none() | st.floats(0, float("inf")))
def test_waits_are_bounded_and_never_shorter_than_asked(fault: Fault, failed: int, asked: float | None) -> None:
    seconds = seconds_before_next(fault, failed, asked)
    assert 0 <= seconds <= LONGEST_WAIT * 1.25
    assert seconds >= min(asked or 0, LONGEST_WAIT)


def test_waits_double_up_to_their_limit() -> None:
    least = (10, 20, 40, 80, 160, 320, 600, 600)
    for failed, seconds in enumerate(least, start=1):
        found = {seconds_before_next("service", failed) for _ in range(50)}
        assert all(seconds <= one <= 1.25 * seconds for one in found)
        assert len(found) > 1, "jobs that failed together do not come back together"


# ---- Retry-After


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7.0), ("1.5", 1.5), ("-3", 0.0), ("", None), ("soon", None), ("nan", None), ("inf", float("inf"))],
)
def test_retry_after_as_a_number(value: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": value}) == seconds


def test_retry_after_as_a_date() -> None:
    later = retry_after({"retry-after": format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)})
    assert later is not None
    assert 3500 < later <= 3600
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0
    assert retry_after({}) is None


@given(st.text(max_size=40))
def test_retry_after_takes_any_text(value: str) -> None:
    found = retry_after({"retry-after": value})
    assert found is None or found >= 0


def test_what_a_server_asks_for_survives_a_new_name_and_a_process_boundary() -> None:
    error = UnreachableError("Busy.", "Wait.", retry_after=42.0)
    for same in (error.prefixed("Job a: "), pickle.loads(pickle.dumps(error.prefixed("Job a: ")))):  # noqa: S301 - ours
        assert (type(same), same.what, same.hint, same.retry_after) == (
            UnreachableError, "Job a: Busy.", "Wait.", 42.0,
        )  # fmt: skip
        assert str(same) == "Job a: Busy. Wait."
    assert str(error) == "Busy. Wait."


# ---- in the graph


@pytest.mark.usefixtures("_faulty")
@pytest.mark.parametrize("batch", ["one", None])
def test_a_job_waits_as_long_as_the_server_asks_whoever_started_its_run(
    batch: str | None, instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore
) -> None:
    add_jobs(queue, store, {"pony_prompt": f"asked-scene {ONE_PERSON}"}, hold=batch is None)
    if batch:
        claim_batch(queue, batch)
    assert not materialize(instance, "a", batch=batch).success
    job = queue.get("a")
    assert (job.status, job.fault, job.faults, job.solo) == ("pending", "service", {"service": 1}, True)
    assert 900 <= (job.not_before - job.updated_at).total_seconds() <= 1125
    assert queue.claim(1) == []


@pytest.mark.usefixtures("_faulty")
@pytest.mark.parametrize("prompt", ["large-scene", "torch-scene"])
def test_short_memory_is_tried_again_alone_a_minute_later_and_its_neighbour_goes_on(
    prompt: str, instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore
) -> None:
    add_jobs(queue, store, {"pony_prompt": ONE_PERSON}, {"pony_prompt": f"{prompt} {ONE_PERSON}"})
    claim_batch(queue, "one")
    assert not materialize(instance, *"ab", batch="one").success
    job = queue.get("b")
    assert (job.status, job.fault, job.solo) == ("pending", "memory", True)
    assert 60 <= (job.not_before - job.updated_at).total_seconds() <= 75
    neighbour = queue.get("a")
    assert (neighbour.next_stage, neighbour.solo, neighbour.not_before) == ("portrait", False, None)


@pytest.mark.usefixtures("_faulty")
def test_history_show_and_status_tell_the_kind(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, fc: Fc
) -> None:
    add_jobs(queue, store, {"pony_prompt": f"asked-scene {ONE_PERSON}"}, {"pony_prompt": f"broken-scene {ONE_PERSON}"})
    claim_batch(queue, "one")
    materialize(instance, *"ab", batch="one")
    shown = fc("show", "a")[1]
    assert "1 service" in shown
    assert "was asked to wait" in shown
    assert "tried again in 1" in shown
    described = json.loads(fc("show", "b", "--json")[1])["data"]
    assert (described["fault"], described["faults"]) == ("permanent", {"permanent": 1})
    last = json.loads(fc("history", "a", "--json")[1])["data"]["attempts"][-1]
    assert (last["stage"], last["verdict"], last["fault"]) == ("generated_image", "failed", "service")
    assert "failed (service)" in fc("history", "a")[1]
    status = fc("status")[1]
    assert "Tried again later" in status
    assert [job["job_id"] for job in json.loads(fc("status", "--json")[1])["data"]["waiting"]] == ["a"]


# ---- what fails before a stage begins


def test_a_back_end_that_cannot_be_made_is_an_attempt(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FC_GENERATOR", "tests.nowhere:Nothing")
    add_jobs(queue, store, {"pony_prompt": ONE_PERSON})
    claim_batch(queue, "one")
    result = materialize(instance, "a", batch="one")
    assert (queue.get("a").status, queue.get("a").fault) == ("failed", "permanent")
    last = queue.attempts("a")[-1]
    assert (last.stage, last.verdict, last.fault, last.run_id, last.content_key) == (
        "generated_image", "failed", "permanent", result.run_id, None,
    )  # fmt: skip
    assert "tests.nowhere" in (last.reason or "")


def test_a_missing_input_is_an_attempt(instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore) -> None:
    add_jobs(queue, store, {"pony_prompt": ONE_PERSON}, hold=True)
    assert not materialize(instance, "a", selection=["generated_image"]).success
    (only,) = queue.attempts("a")
    assert (only.stage, only.verdict, only.fault) == ("generated_image", "failed", "permanent")
    assert "has no enhanced_prompt yet" in (only.reason or "")


@pytest.mark.parametrize("batch", ["one", None])
def test_a_store_that_cannot_be_made_is_an_attempt_once(
    batch: str | None,
    instance: dg.DagsterInstance,
    queue: JobQueue,
    store: ImageStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Dagster makes its resources before any stage of ours begins; the sensor that sees the run's end tells it."""
    add_jobs(queue, store, {"pony_prompt": ONE_PERSON}, hold=batch is None)
    if batch:
        claim_batch(queue, batch)
    monkeypatch.setenv("FC_DATA_DIR", "nowhere://bucket/x")
    result = materialize(instance, "a", batch=batch)
    assert not result.success
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    for _ in range(2):
        settle_run(queue, run, reason=why_failed(instance, run), max_attempts=3)
        settle_lost_runs(instance, queue, load_settings())
    (only,) = queue.attempts("a")
    assert (only.stage, only.verdict, only.run_id) == ("job_request", "failed", result.run_id)
    assert only.fault == "crash"
    assert "nowhere://bucket/x" in (only.reason or ""), "the error itself, and not that a step failed"
    assert queue.get("a").status == ("pending" if batch else "held")


def test_an_unknown_job_is_told_in_the_log(instance: dg.DagsterInstance, queue: JobQueue) -> None:
    assert not materialize(instance, "nobody", selection=STAGES[:1]).success
    (entry,) = queue.logs("nobody", 9)
    assert "There is no job nobody" in entry.message


def test_a_persons_verdict_is_no_attempt(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, fc: Fc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FC_GENERATOR", "tests.support.faulty:FaultyGenerator")
    add_jobs(queue, store, {"pony_prompt": f"blank-scene {ONE_PERSON}"})
    materialize(instance, "a")
    before = queue.attempts("a")
    assert [(one.verdict, one.fault, bool(one.output)) for one in before[-1:]] == [("needs_review", None, True)]
    assert fc("reject", "a")[0] == 0
    assert queue.attempts("a") == before

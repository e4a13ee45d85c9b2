"""Schedules: one job per due time, whoever looks and however often. On SQLite and on Postgres."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from PIL import Image
from sqlalchemy import update

import jobs.requests.schedules as schedules_module
from imaging.errors import BackendError, RejectedError
from jobs.model.request import parse_request
from jobs.queue.job_queue import JobQueue
from jobs.requests.schedules import Schedule, add_schedules, find_schedules, get_schedule, make_due_jobs, stop_schedule
from resources.database import Database, ScheduleRow
from resources.settings import load_settings
from resources.store.image_store import ImageStore
from tests.graph.test_sensor import keys_of, tick
from tests.support.commands import Fc

FIRST = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


@pytest.fixture
def rows(any_database: Database) -> Database:
    return any_database


def add(database: Database, store: ImageStore, schedule_id: str = "s", every: str = "1h", **fields: Any) -> Schedule:
    request = parse_request({"pony_prompt": "x", "at": FIRST.isoformat(), **fields})
    (added,) = add_schedules(
        [(schedule_id, request)], every=every, database=database, store=store, settings=load_settings()
    )
    return added


def look(database: Database, store: ImageStore, now: datetime) -> dict[str, str]:
    return make_due_jobs(database, store, load_settings(), now=now)


def made(database: Database) -> list[str]:
    return sorted(job.id for job in JobQueue(database).find())


def test_nothing_before_its_time_and_one_job_at_it(rows: Database, store: ImageStore) -> None:
    assert add(rows, store) == get_schedule(rows, "s")
    assert look(rows, store, FIRST - timedelta(seconds=1)) == {}
    assert made(rows) == []
    for _ in range(2):
        assert look(rows, store, FIRST) == {}
    assert made(rows) == ["s-20261121090000"]
    job = JobQueue(rows).get("s-20261121090000")
    assert (job.origin, job.status, job.not_before) == ("schedule", "pending", None)
    now = get_schedule(rows, "s")
    assert (now.next_at, now.last_job_id) == (FIRST + timedelta(hours=1), job.id)


def test_after_a_long_time_one_job_and_then_the_old_beat(rows: Database, store: ImageStore) -> None:
    add(rows, store)
    look(rows, store, FIRST + timedelta(days=40, minutes=5))
    assert made(rows) == ["s-20261121090000"]
    assert get_schedule(rows, "s").next_at == FIRST + timedelta(days=40, hours=1)


def test_a_seed_that_was_not_given_is_drawn_for_each_job(rows: Database, store: ImageStore) -> None:
    add(rows, store)
    add(rows, store, "t", seed=5)
    for hours in range(2):
        look(rows, store, FIRST + timedelta(hours=hours))
    seeds = {job.id: job.request.seed for job in JobQueue(rows).find()}
    assert seeds["s-20261121090000"] != seeds["s-20261121100000"]
    assert seeds["t-20261121090000"] == seeds["t-20261121100000"] == 5


def test_a_crash_between_the_job_and_the_next_time(
    rows: Database, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class CrashError(BaseException):
        """As a kill: nothing may catch it."""

    def crash(*_: object) -> None:
        raise CrashError

    add(rows, store)
    with monkeypatch.context() as patch:
        patch.setattr(schedules_module, "_move_on", crash)
        with pytest.raises(CrashError):
            look(rows, store, FIRST)
    assert made(rows) == ["s-20261121090000"]
    assert look(rows, store, FIRST) == {}
    assert made(rows) == ["s-20261121090000"]
    assert get_schedule(rows, "s").next_at == FIRST + timedelta(hours=1)


def test_two_who_look_at_once_make_one_job(rows: Database, store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have seen that it is due and that its job is not there yet, before either goes on."""
    add(rows, store)
    barrier = threading.Barrier(2, timeout=60)
    real = schedules_module.submit
    seen: list[dict[str, str]] = []

    def submit_together(*arguments: Any, **more: Any) -> Any:
        barrier.wait()
        return real(*arguments, **more)

    monkeypatch.setattr(schedules_module, "submit", submit_together)
    threads = [threading.Thread(target=lambda: seen.append(look(rows, store, FIRST))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [{}, {}]
    assert made(rows) == ["s-20261121090000"]
    assert get_schedule(rows, "s").next_at == FIRST + timedelta(hours=1)


def test_one_who_looks_late_does_not_turn_the_time_back(rows: Database, store: ImageStore) -> None:
    old = add(rows, store)
    look(rows, store, FIRST + timedelta(hours=5))
    schedules_module._move_on(rows, old, FIRST + timedelta(hours=1), None)
    assert get_schedule(rows, "s").next_at == FIRST + timedelta(hours=6)


def test_a_stopped_one_makes_nothing(rows: Database, store: ImageStore) -> None:
    add(rows, store)
    stop_schedule(rows, "s")
    look(rows, store, FIRST)
    assert made(rows) == []
    assert not get_schedule(rows, "s").enabled


def test_a_photo_that_is_gone_is_told_and_the_next_time_tried_again(
    rows: Database, store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = tmp_path / "photo.png"
    Image.new("RGB", (64, 64), "red").save(photo)
    monkeypatch.chdir(tmp_path)
    add(rows, store, job_type="face_processing", source_image="photo.png", pony_prompt="")
    add(rows, store, "other")
    monkeypatch.chdir("/")
    photo.rename(tmp_path / "away.png")
    errors = look(rows, store, FIRST)
    assert "photo.png" in errors["s"]
    assert made(rows) == ["other-20261121090000"], "one that is refused stops no other"
    assert get_schedule(rows, "s").error == errors["s"]
    (tmp_path / "away.png").rename(photo)
    assert look(rows, store, FIRST + timedelta(hours=1)) == {}
    assert "s-20261121100000" in made(rows)
    assert get_schedule(rows, "s").error is None


def test_a_store_that_is_down_leaves_it_due(rows: Database, store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: object, **__: object) -> None:
        raise BackendError("The store is down.", "Start it.")

    add(rows, store)
    with monkeypatch.context() as patch:
        patch.setattr(schedules_module, "submit", down)
        assert look(rows, store, FIRST) == {"s": "The store is down. Start it."}
    assert get_schedule(rows, "s").next_at == FIRST
    look(rows, store, FIRST + timedelta(minutes=1))
    assert made(rows) == ["s-20261121090000"]


@pytest.mark.parametrize(
    ("fields", "every", "said"),
    [
        ({"after": "a"}, "1h", "has no parent and no after"),
        ({"job_type": "group", "pony_prompt": "", "at": None}, "1h", "is no group"),
        ({}, "often", "--every"),
        ({"pony_prompt": "", "job_type": "face_processing", "source_image": "gone.png"}, "1h", "gone.png"),
    ],
)
def test_what_is_refused(rows: Database, store: ImageStore, fields: dict[str, Any], every: str, said: str) -> None:
    with pytest.raises(RejectedError, match=said):
        add(rows, store, every=every, **fields)
    assert find_schedules(rows) == []


def test_ids(rows: Database, store: ImageStore) -> None:
    add(rows, store, "x" * 48)
    look(rows, store, FIRST)
    assert len(made(rows)[0]) == 63
    for wrong in ("x" * 48, "x" * 49):
        with pytest.raises(RejectedError, match="id: "):
            add(rows, store, wrong)


def test_the_sensor_makes_the_job_and_runs_it(
    instance: dg.DagsterInstance, queue: JobQueue, database: Database, fc: Fc
) -> None:
    code, said, wrong = fc("submit", "-p", "x", "--every", "0 9 * * *", "--id", "daily", "--tag", "a=b", "--json")
    assert code == 0, wrong
    (added,) = json.loads(said)["data"]
    assert datetime.fromisoformat(added["next_at"]) > datetime.now(UTC)
    assert tick(instance) == []
    with database.session() as session:
        session.execute(update(ScheduleRow).values(next_at=FIRST - timedelta(days=900)))
    (request,) = tick(instance)
    assert keys_of(request, instance) == ["daily-20240604090000"]
    assert queue.get("daily-20240604090000").request.tags == {"a": "b"}
    assert [one.run_key for one in tick(instance)] == [request.run_key]
    assert "daily-20240604090000" in fc("schedule", "list")[1]
    assert fc("schedule", "stop", "daily")[0] == 0
    assert "stopped" in fc("schedule", "show", "daily")[1]
    assert json.loads(fc("schedule", "show", "daily", "--json")[1])["data"]["enabled"] is False
    assert fc("schedule", "stop", "nobody")[0] == 3
    assert fc("submit", "-p", "x", "--every", "1h", "--wait")[0] == 2

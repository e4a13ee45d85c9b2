"""Retention: which partitions of finished jobs go, which never do, and what stays."""

from __future__ import annotations

import json
import sqlite3
from datetime import timedelta

import dagster as dg
import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError

from fc_assets.definitions import build_defs
from jobs.cli.main import main
from jobs.model.job import NewJob
from jobs.model.request import JobRequest
from jobs.model.stages import PARTITIONS
from jobs.model.transitions import FINAL, JOB_STATUSES
from jobs.queue.job_queue import JobQueue
from jobs.runs.lifecycle import RANGE_END_TAG, RANGE_START_TAG
from jobs.runs.retention import expired, retire
from resources.database import Database, JobRow, utc_now
from resources.store.image_store import ImageStore
from sensors.job_requests import job_requests
from sensors.retention import retention
from tests.support.graph import add_jobs, materialize, materialized

SCENE = {"pony_prompt": "portrait of a woman", "job_type": "sdxl_generation"}


def add(database: Database, *jobs: tuple[str, str, float]) -> None:
    """Add jobs of a status, given with how many days ago they ended."""
    request = JobRequest(pony_prompt="a knight", seed=1)
    JobQueue(database).add([NewJob(job_id, request, None, "cli") for job_id, _, _ in jobs])
    with database.session() as session:
        for job_id, status, days in jobs:
            over = utc_now() - timedelta(days=days) if status in FINAL else None
            session.execute(update(JobRow).where(JobRow.id == job_id).values(status=status, finished_at=over))


@pytest.fixture
def aged(instance: dg.DagsterInstance, database: Database) -> Database:
    """Five finished jobs, older from a to e, and one that waits, with their partitions."""
    days = {"a": 1, "b": 2, "c": 40, "d": 50, "e": 60}
    add(database, *((job_id, "completed", day) for job_id, day in days.items()), ("waits", "pending", 0))
    instance.add_dynamic_partitions(PARTITIONS, ["a", "waits", "b", "c", "d", "e", "of-no-job"])
    return database


def tick(instance: dg.DagsterInstance) -> dg.SkipReason:
    context = dg.build_sensor_context(instance=instance, resources={"database": build_defs().resources["database"]})
    return retention(context)


# ---- the queue, on both databases


def test_only_jobs_that_are_over_have_ended(any_database: Database) -> None:
    add(any_database, *((status.replace("_", "-"), status, 3) for status in JOB_STATUSES))
    ended = JobQueue(any_database).ended([*(status.replace("_", "-") for status in JOB_STATUSES), "unknown"])
    assert set(ended) == {status.replace("_", "-") for status in FINAL}
    assert all(timedelta(days=2) < utc_now() - moment < timedelta(days=4) for moment in ended.values())


def test_last_changed_are_the_newest_changes_of_these_statuses(any_database: Database) -> None:
    queue = JobQueue(any_database)
    statuses = {"a": "failed", "b": "needs_review", "c": "completed", "d": "failed", "e": "rejected"}
    add(any_database, *((job_id, status, 1) for job_id, status in statuses.items()))
    with any_database.session() as session:
        for seconds, job_id in enumerate("dceba"):
            moment = utc_now() + timedelta(seconds=seconds)
            session.execute(update(JobRow).where(JobRow.id == job_id).values(updated_at=moment))
    found = queue.last_changed(["failed", "needs_review", "rejected"], 3)
    assert [job.id for job in found] == ["a", "b", "e"]
    assert queue.last_changed([], 3) == []


def test_nobody_can_start_a_job_while_its_partition_goes(any_database: Database) -> None:
    add(any_database, ("over", "failed", 1), ("waits", "held", 0))

    def take() -> None:
        """What every change of the queue does first, without waiting."""
        if any_database.dialect == "sqlite":
            with sqlite3.connect(str(any_database.engine.url.database), timeout=0) as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.rollback()
        else:
            with any_database.session() as session:
                session.execute(select(JobRow).where(JobRow.id == "over").with_for_update(nowait=True))

    with JobQueue(any_database).lock_ended(["over", "waits", "unknown"]) as over:
        assert over == ["over"]
        with pytest.raises((OperationalError, sqlite3.OperationalError)):
            take()
    take()


# ---- which partitions go


@pytest.mark.parametrize(
    ("days", "jobs", "gone"),
    [
        (30, 100, ["e", "d", "c"]),
        (100, 4, ["e"]),
        (45, 1, ["e", "d", "c", "b"]),
        (100, 100, []),
        (0, 0, ["e", "d", "c", "b", "a"]),
    ],
)
def test_age_and_number_decide(
    days: int, jobs: int, gone: list[str], instance: dg.DagsterInstance, aged: Database
) -> None:
    assert expired(instance, JobQueue(aged), days=days, jobs=jobs) == gone


def test_partitions_of_unfinished_runs_stay(instance: dg.DagsterInstance, aged: Database) -> None:
    queue = JobQueue(aged)
    before = expired(instance, queue, days=0, jobs=0)
    ranged = {RANGE_START_TAG: "c", RANGE_END_TAG: "e"}
    instance.add_run(dg.DagsterRun(job_name="j", run_id="r1", status=dg.DagsterRunStatus.STARTED, tags=ranged))
    instance.add_run(
        dg.DagsterRun(
            job_name="j", run_id="r2", status=dg.DagsterRunStatus.NOT_STARTED, tags={"dagster/partition": "a"}
        )
    )
    assert expired(instance, queue, days=0, jobs=0) == ["b"]
    assert retire(instance, queue, before) == ["b"]  # the runs came after the jobs were chosen
    assert "b" not in instance.get_dynamic_partitions(PARTITIONS)
    assert len(instance.get_dynamic_partitions(PARTITIONS)) == 6


def test_job_that_was_started_since_keeps_its_partition(instance: dg.DagsterInstance, aged: Database) -> None:
    queue = JobQueue(aged)
    chosen = expired(instance, queue, days=30, jobs=100)
    queue.start("d", run_id="r1", batch_id=None)
    assert retire(instance, queue, chosen) == ["c", "e"]
    assert instance.has_dynamic_partition(PARTITIONS, "d")


# ---- the sensor


def test_a_tick_does_a_bounded_part_the_oldest_first(
    instance: dg.DagsterInstance, aged: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sensors.retention.MOST_IN_A_TICK", 2)
    assert "2 of 3" in str(tick(instance).skip_message)
    assert instance.get_dynamic_partitions(PARTITIONS) == ["a", "waits", "b", "c", "of-no-job"]
    monkeypatch.setenv("FC_KEEP_JOBS", "1")
    tick(instance)
    assert instance.get_dynamic_partitions(PARTITIONS) == ["a", "waits", "of-no-job"]
    assert "No finished job" in str(tick(instance).skip_message)


def test_only_the_partition_goes_and_it_comes_back(
    instance: dg.DagsterInstance,
    queue: JobQueue,
    store: ImageStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add_jobs(queue, store, SCENE, hold=True)
    assert materialize(instance, "a").success
    before = (queue.get("a"), queue.stage_results("a"), queue.images("a"), store.read("0-generated", "a.png"))
    monkeypatch.setenv("FC_KEEP_JOBS", "0")
    tick(instance)
    assert not instance.has_dynamic_partition(PARTITIONS, "a")
    assert (queue.get("a"), queue.stage_results("a"), queue.images("a"), store.read("0-generated", "a.png")) == before
    assert materialized(instance, "generated_image") == {"a"}

    queue.start("a", run_id="again", batch_id=None)
    queue.release(["a"], run_id="again", status="pending")
    resources = {key: build_defs().resources[key] for key in ("database", "store")}
    result = job_requests(dg.build_sensor_context(instance=instance, resources=resources))
    assert [request.partition_key for request in result.run_requests] == ["a"]
    assert instance.has_dynamic_partition(PARTITIONS, "a")


# ---- fc prune


def prune(*arguments: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(["prune", *arguments])
    assert not end.value.code


def test_prune_shows_and_does_the_same(
    instance: dg.DagsterInstance, aged: Database, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FC_KEEP_JOBS", "4")
    expected = {"dry_run": True, "keep_days": 55, "keep_jobs": 4, "jobs": ["e"]}
    expected |= {"keep_log_days": 14, "log_lines": 0, "runs": 0}
    prune("--days", "55", "--dry-run", "--json")
    assert json.loads(capsys.readouterr().out)["data"] == expected
    assert instance.has_dynamic_partition(PARTITIONS, "e")
    prune("--days", "55", "--json")
    assert json.loads(capsys.readouterr().out)["data"] == expected | {"dry_run": False}
    assert not instance.has_dynamic_partition(PARTITIONS, "e")
    prune("--keep", "0", "--dry-run")
    assert "4 partitions would be removed" in capsys.readouterr().out
    prune("--keep", "2")
    assert "2 partitions removed" in capsys.readouterr().out
    assert instance.get_dynamic_partitions(PARTITIONS) == ["a", "waits", "b", "of-no-job"]

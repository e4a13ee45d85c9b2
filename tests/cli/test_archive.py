"""Jobs out of sight, out of the partition set and back, and out of the world: `fc archive`, `restore` and `remove`."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import update

from jobs.model.job import JobBusyError, NewJob, UnknownJobError
from jobs.model.request import JobRequest
from jobs.model.stages import PARTITIONS
from jobs.model.transitions import FINAL
from jobs.queue.job_queue import JobQueue
from jobs.runs.retention import expired, restore, retire
from resources.artifacts.records import JOB_FOLDERS
from resources.database import Database, JobRow, utc_now
from resources.store.image_store import ImageStore
from tests.support.commands import Fc
from tests.support.graph import add_jobs, materialize

SCENE = {"pony_prompt": "portrait of a woman", "job_type": "sdxl_generation"}


def add(database: Database, **ended: tuple[str, float]) -> None:
    """Add jobs of a status, given with how many days ago they ended."""
    request = JobRequest(pony_prompt="a knight", seed=1)
    JobQueue(database).add([NewJob(job_id, request, None, "cli") for job_id in ended])
    with database.session() as session:
        for job_id, (status, days) in ended.items():
            over = utc_now() - timedelta(days=days) if status in FINAL else None
            session.execute(update(JobRow).where(JobRow.id == job_id).values(status=status, finished_at=over))


# ---- fc archive, fc list


def test_archived_jobs_are_listed_only_when_asked_for(database: Database, queue: JobQueue, fc: Fc) -> None:
    add(database, a=("completed", 1), b=("failed", 1), c=("pending", 0))
    code, out, err = fc("archive", "a", "c", "nobody")
    assert (code, "a: archived." in out) == (3, True)
    assert "c: is pending" in err
    assert "nobody: there is no such job" in err
    assert fc("archive", "c")[0] == 1

    def listed(*arguments: str) -> list[str]:
        return sorted(job["job_id"] for job in json.loads(fc("list", "--json", *arguments)[1])["data"])

    assert listed() == ["b", "c"]
    assert listed("--all") == ["a", "b", "c"]
    assert listed("--status", "archived") == ["a"]
    assert fc("retry", "a", "--seed", "3")[0] == 1
    assert queue.get("a").status == "archived"


def test_archive_of_what_ended_long_ago(database: Database, queue: JobQueue, fc: Fc) -> None:
    add(
        database, old=("completed", 91), new=("completed", 89), waits=("needs_review", 99), bad=("failed", 100),
        runs=("running", 0),
    )  # fmt: skip
    told = fc("archive", "--older-than", "90d", "--dry-run")[1]
    assert told.splitlines() == ["2 jobs would be archived.", "bad", "old"]
    assert queue.counts()["archived"] == 0
    assert fc("archive", "--older-than", "90")[1].splitlines()[-1] == "2 archived."
    assert {job.id for job in queue.find(statuses=["archived"])} == {"old", "bad"}
    for arguments in ((), ("a", "--older-than", "9d"), ("--older-than", "long")):
        assert fc("archive", *arguments)[0] == 2


# ---- fc restore, fc show


def test_a_job_whose_partition_was_pruned_tells_how_it_comes_back_and_stays(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, database: Database, fc: Fc
) -> None:
    add_jobs(queue, store, SCENE, hold=True)
    assert materialize(instance, "a").success
    assert "Dagster partition" not in fc("show", "a")[1]
    with database.session() as session:
        session.execute(update(JobRow).values(finished_at=utc_now() - timedelta(days=40)))
    assert retire(instance, queue, expired(instance, queue, days=30, jobs=100)) == ["a"]
    assert "`fc restore a` brings it back" in fc("show", "a")[1]
    code, out, err = fc("restore", "a", "nobody")
    assert (code, "a: its partition is back." in out, "nobody" in err) == (3, True, True)
    assert instance.has_dynamic_partition(PARTITIONS, "a")
    assert expired(instance, queue, days=30, jobs=100) == [], "the next tick does not take it out again"
    assert "has its partition" in fc("restore", "a")[1]
    assert materialize(instance, "a").success
    assert queue.get("a").status == "completed"


def test_restored_jobs_go_again_in_the_end(
    instance: dg.DagsterInstance, queue: JobQueue, database: Database, home: Path
) -> None:
    add(database, a=("completed", 90))
    assert restore(instance, queue, "a")
    with database.session() as session:
        session.execute(update(JobRow).values(restored_at=utc_now() - timedelta(days=31)))
    assert expired(instance, queue, days=30, jobs=100) == ["a"]


# ---- fc remove


def test_remove_tells_first_and_then_leaves_nothing_of_the_job(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, fc: Fc
) -> None:
    add_jobs(queue, store, SCENE, SCENE, hold=True)
    assert materialize(instance, "a", "b").success
    assert materialize(instance, "a", config={"seed": 8}).success  # the first picture is under history now
    neighbour = {place: store.read(*place) for place in store.files_of("b", JOB_FOLDERS)}
    files = [Path(str(store.path(*place))) for place in store.files_of("a", JOB_FOLDERS)]
    assert {file.parent.name for file in files} == {"0-generated", "requests", "prompts"}
    assert any("history" in file.parts for file in files)
    code, out, err = fc("remove", "a")
    assert (code, "Nothing was removed" in err) == (1, True)
    assert all(str(file) in out.replace("\n", "") for file in files)
    assert all(file.exists() for file in files)
    assert queue.get("a").status == "completed"

    assert fc("remove", "a", "--yes")[0] == 0
    assert not any(file.exists() for file in files)
    with pytest.raises(UnknownJobError):
        queue.get("a")
    assert (queue.stage_results("a"), queue.images("a")) == ([], [])
    assert instance.get_dynamic_partitions(PARTITIONS) == ["b"]
    assert {place: store.read(*place) for place in store.files_of("b", JOB_FOLDERS)} == neighbour
    assert queue.logs("a", 1) == [], "the id may be used again"
    assert queue.logs(None, 1)[0].message == "a was removed by a person"
    assert fc("remove", "a", "--yes")[0] == 3


@pytest.mark.parametrize("status", ["pending", "held", "running"])
def test_a_job_that_has_not_ended_is_not_removed(status: str, database: Database, queue: JobQueue, fc: Fc) -> None:
    add(database, a=(status, 0))
    code, _, err = fc("remove", "a", "--yes")
    assert (code, f"Job a is {status}" in err) == (1, True)
    assert queue.get("a").status == status


def test_a_job_whose_partition_a_run_has_is_not_removed(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, fc: Fc
) -> None:
    add_jobs(queue, store, SCENE, hold=True)
    assert materialize(instance, "a").success
    run = dg.DagsterRun(job_name="j", run_id="r1", status=dg.DagsterRunStatus.STARTED, tags={"dagster/partition": "a"})
    instance.add_run(run)
    files = store.files_of("a", JOB_FOLDERS)
    code, _, err = fc("remove", "a", "--yes")
    assert (code, "run that is not over" in err) == (1, True)
    assert store.files_of("a", JOB_FOLDERS) == files
    assert queue.get("a").status == "completed"


def test_a_removal_that_breaks_off_can_be_done_again(database: Database) -> None:
    queue = JobQueue(database)
    add(database, a=("failed", 1))
    with pytest.raises(OSError, match="disk"), queue.removing("a"):
        raise OSError("disk")
    assert queue.get("a").status == "failed"
    with queue.removing("a"):
        pass
    with pytest.raises(UnknownJobError), queue.removing("a"):
        pass


def test_removal_takes_every_record_on_both_databases(any_database: Database) -> None:
    queue = JobQueue(any_database)
    queue.add([NewJob("a", JobRequest(pony_prompt="x", seed=1), None, "cli")])
    queue.start("a", run_id="r", batch_id=None)
    queue.begin_stage("a", "job_request", run_id="r", content_key="k", input={})
    with pytest.raises(JobBusyError), queue.removing("a"):
        pass
    queue.fail("a", run_id="r", stage="job_request", what="W.", hint="M.")
    with queue.removing("a"):
        pass
    assert queue.find() == []
    assert queue.stage_results("a") == []
    queue.add([NewJob("a", JobRequest(pony_prompt="x", seed=1), None, "cli")])  # the id is free again

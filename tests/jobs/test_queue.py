"""The queue, the same on SQLite and on Postgres: who gets which job, and how a job can and cannot end."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, select, update

from imaging.errors import RejectedError
from jobs.model.faults import Fault
from jobs.model.job import ImageRow, Job, JobBusyError, NewJob, UnknownJobError
from jobs.model.job_types import JOB_TYPES
from jobs.model.request import parse_request
from jobs.model.stages import STAGES
from jobs.model.transitions import FINAL, JOB_STATUSES, JobStatus
from jobs.queue.job_queue import JobQueue
from resources.database import Database, IdeationRow, ImageMetadataRow, JobRow, StateRow, open_database, utc_now
from tests.support.postgres import run_sql, url_of

REQUEST = {"pony_prompt": "a lighthouse keeper", "seed": 7}


@pytest.fixture
def database(any_database: Database) -> Database:
    return any_database


@pytest.fixture
def queue(database: Database) -> JobQueue:
    return JobQueue(database)


def new(job_id: str, *, hold: bool = False, parent_id: str | None = None, **fields: Any) -> NewJob:
    return NewJob(job_id, parse_request(REQUEST | fields), None, "cli", parent_id=parent_id, hold=hold)


def ids(jobs: list[Job]) -> list[str]:
    return [job.id for job in jobs]


def running(queue: JobQueue, job_id: str = "a", run_id: str = "run", **fields: Any) -> Job:
    """A job that a run has started from a batch."""
    queue.add([new(job_id, **fields)])
    assert ids(queue.claim(1)) == [job_id]
    assert queue.assign_batch(f"batch-{job_id}", [job_id])
    return queue.start(job_id, run_id=run_id, batch_id=f"batch-{job_id}")


def do_stage(queue: JobQueue, stage: str, job_id: str = "a", run_id: str = "run", **more: Any) -> None:
    queue.begin_stage(job_id, stage, run_id=run_id, content_key="key", input={"in": stage})
    queue.finish_stage(job_id, stage, run_id=run_id, output={"out": stage}, milliseconds=3, content_key="key", **more)


def put_into(queue: JobQueue, database: Database, status: JobStatus, job_id: str = "a") -> Job:
    """A job that is in any status, with a run and a batch where the status has them."""
    queue.add([new(job_id)])
    columns: dict[str, Any] = {"status": status}
    if status in {"claimed", "running"}:
        columns["batch_id"] = "its-batch"
    if status == "running" or status in FINAL:
        columns["run_id"] = "its-run"
    with database.session() as session:
        session.execute(update(JobRow).where(JobRow.id == job_id).values(**columns))
    return queue.get(job_id)


class TestAdding:
    def test_what_is_added_is_what_is_read(self, queue: JobQueue) -> None:
        source = {"path": "/photos/é.jpg", "width": 3}
        request = parse_request(
            {"job_type": "face_processing", "source_image": "é.jpg", "tags": {"z": "1", "a": "2"}, "seed": 1}
        )
        added = queue.add([NewJob("a", request, source, "inbox"), new("b", hold=True)])
        assert added == [queue.get("a"), queue.get("b")]
        first, second = added
        assert (first.job_type, first.status, first.origin) == ("face_processing", "pending", "inbox")
        assert (first.request, first.source, first.priority) == (request, source, 5)
        assert (second.status, second.source, second.next_stage) == ("held", None, "job_request")

    def test_order_of_one_call_is_kept(self, queue: JobQueue) -> None:
        names = [f"job-{number}" for number in (5, 3, 9, 1, 0, 7)]
        added = queue.add([new(name) for name in names])
        times = [job.created_at for job in added]
        assert all(earlier < later for earlier, later in pairwise(times))
        assert ids(queue.claim(10)) == names

    def test_a_taken_id_adds_nothing(self, queue: JobQueue) -> None:
        queue.add([new("a")])
        with pytest.raises(RejectedError, match=r"job_id: a is taken"):
            queue.add([new("b"), new("a"), new("c")])
        assert ids(queue.find()) == ["a"]

    def test_an_id_twice_in_one_call_adds_nothing(self, queue: JobQueue) -> None:
        with pytest.raises(RejectedError, match=r"job_id: a is taken"):
            queue.add([new("a"), new("b"), new("a")])
        assert queue.find() == []

    def test_nothing(self, queue: JobQueue) -> None:
        assert queue.add([]) == []

    def test_children_know_their_parent(self, queue: JobQueue) -> None:
        queue.add([new("a", job_type="group")])
        children = queue.add([new(f"a-{number}", parent_id="a") for number in range(3)])
        assert [child.parent_id for child in children] == ["a"] * 3

    def test_an_unknown_parent_is_an_error(self, queue: JobQueue) -> None:
        with pytest.raises(RejectedError, match=r"parent: there is no job nobody"):
            queue.add([new("a", parent_id="nobody")])
        assert queue.find() == []

    def test_a_thousand_jobs_in_a_few_statements(self, queue: JobQueue, database: Database) -> None:
        with statements(database) as sent:
            queue.add([new(f"job-{number}") for number in range(1000)])
        assert len(sent) <= 9
        assert queue.counts()["pending"] == 1000


class TestReading:
    def test_an_unknown_id_is_an_error(self, queue: JobQueue) -> None:
        with pytest.raises(UnknownJobError, match="nobody"):
            queue.get("nobody")

    def test_get_many_leaves_out_the_unknown(self, queue: JobQueue) -> None:
        queue.add([new(f"job-{number}") for number in range(1201)])
        wanted = [f"job-{number}" for number in range(1201)]
        assert sorted(queue.get_many([*wanted, "nobody"])) == sorted(wanted)
        assert queue.get_many([]) == {}

    def test_find_filters_and_orders(self, queue: JobQueue) -> None:
        queue.add([new("a"), new("b", job_type="sdxl_generation"), new("c", hold=True), new("d")])
        assert ids(queue.find()) == ["d", "c", "b", "a"]
        assert ids(queue.find(newest_first=False, limit=2)) == ["a", "b"]
        assert ids(queue.find(statuses=["held"])) == ["c"]
        assert ids(queue.find(statuses={"held", "pending"}, job_types=["pony_flux"])) == ["d", "c", "a"]
        assert ids(queue.find(job_types=["description"])) == []

    def test_an_empty_collection_is_not_none(self, queue: JobQueue) -> None:
        queue.add([new("a")])
        assert queue.find(statuses=[]) == queue.find(job_types=set()) == []
        assert ids(queue.find(statuses=None, job_types=None)) == ["a"]

    def test_counts_name_every_status(self, queue: JobQueue) -> None:
        assert queue.counts() == dict.fromkeys(JOB_STATUSES, 0)
        queue.add([new("a"), new("b"), new("c", hold=True)])
        queue.claim(1)
        assert {status: count for status, count in queue.counts().items() if count} == {
            "pending": 1,
            "claimed": 1,
            "held": 1,
        }

    def test_listing_changes_nothing(self, queue: JobQueue) -> None:
        queue.add([new("a"), new("b", hold=True)])
        before = queue.find()
        queue.get_many(["a"]), queue.counts(), queue.unbatched(), queue.open_batches(), queue.running_runs()
        queue.ping()
        assert queue.find() == before
        assert ids(queue.claim(5)) == ["a"]


class TestClaiming:
    def test_most_urgent_first_then_oldest(self, queue: JobQueue) -> None:
        for name, priority in [("ten", 10), ("five-1", 5), ("one-1", 1), ("five-2", 5), ("one-2", 1)]:
            queue.add([new(name, priority=priority)])
        claimed = queue.claim(4)
        assert ids(claimed) == ["one-1", "one-2", "five-1", "five-2"]
        assert {job.status for job in claimed} == {"claimed"}
        assert all(job.claimed_at is not None and job.batch_id is None for job in claimed)
        assert ids(queue.claim(4)) == ["ten"]

    def test_equal_times_are_ordered_by_id(self, queue: JobQueue, database: Database) -> None:
        queue.add([new("b"), new("c"), new("a")])
        with database.session() as session:
            session.execute(update(JobRow).values(created_at=utc_now()))
        assert ids(queue.claim(3)) == ["a", "b", "c"]

    def test_an_empty_queue(self, queue: JobQueue) -> None:
        queue.add([new("held", hold=True)])
        assert queue.claim(5) == []
        assert queue.claim(0) == []

    def test_a_second_claim_gets_nothing(self, queue: JobQueue) -> None:
        queue.add([new("a")])
        assert ids(queue.claim(1)) == ["a"]
        assert queue.claim(1) == []

    def test_a_job_that_waits_is_not_claimed_before_its_time(self, queue: JobQueue, database: Database) -> None:
        queue.add([new("a"), new("b"), new("c")])
        for name, when in [("a", timedelta(hours=1)), ("b", timedelta(hours=-1))]:
            with database.session() as session:
                session.execute(update(JobRow).where(JobRow.id == name).values(not_before=utc_now() + when))
        assert ids(queue.claim(3)) == ["b", "c"]

    def test_batches(self, queue: JobQueue) -> None:
        queue.add([new("low", priority=9), new("a"), new("b"), new("c")])
        queue.claim(4)
        assert ids(queue.unbatched()) == ["a", "b", "c", "low"]
        assert queue.assign_batch("one", ["low", "a"])
        assert queue.assign_batch("two", ["c"])
        assert ids(queue.unbatched()) == ["b"]
        assert {batch: ids(jobs) for batch, jobs in queue.open_batches().items()} == {
            "one": ["a", "low"],
            "two": ["c"],
        }

    def test_a_batch_is_all_or_nothing(self, queue: JobQueue) -> None:
        queue.add([new("a"), new("b"), new("c")])
        queue.claim(2)
        assert queue.assign_batch("one", ["a"])
        for members in (["b", "a"], ["b", "c"], ["b", "nobody"], []):
            assert not queue.assign_batch("two", members)
        assert ids(queue.unbatched()) == ["b"]

    def test_claiming_and_listing_walk_an_index(self, tmp_path: Path) -> None:
        database = open_database(f"sqlite:///{tmp_path / 'a.sqlite'}")
        queue = JobQueue(database)
        for read in (lambda: queue.claim(5), lambda: queue.find(limit=5), queue.counts):
            with statements(database) as sent:
                read()
            query = next(sql for sql in sent if "FROM job_queue" in sql).replace("?", "1")
            plan = [str(step[-1]) for step in run_sql(url_of(database), f"EXPLAIN QUERY PLAN {query}")[0]]
            assert "INDEX ix_job_queue_" in plan[0]
            assert not [step for step in plan if "TEMP B-TREE" in step]
        database.dispose()


class TestStarting:
    def test_from_its_batch(self, queue: JobQueue) -> None:
        job = running(queue)
        assert (job.status, job.run_id, job.batch_id, job.run_ids) == ("running", "run", "batch-a", ("run",))
        assert job.started_at is not None
        assert job == queue.get("a")

    def test_twice_by_the_same_run_changes_nothing(self, queue: JobQueue) -> None:
        job = running(queue)
        assert queue.start("a", run_id="run", batch_id="batch-a") == job
        assert queue.start("a", run_id="run", batch_id=None) == job

    def test_of_another_run_is_refused(self, queue: JobQueue) -> None:
        running(queue)
        for batch_id in ("batch-a", None):
            with pytest.raises(JobBusyError, match="running with run run ") as caught:
                queue.start("a", run_id="other", batch_id=batch_id)
            assert "Wait for run run" in caught.value.hint

    def test_from_another_batch_is_refused(self, queue: JobQueue) -> None:
        queue.add([new("a")])
        queue.claim(1)
        queue.assign_batch("its-own", ["a"])
        with pytest.raises(JobBusyError, match="claimed in batch its-own"):
            queue.start("a", run_id="run", batch_id="another")

    @pytest.mark.parametrize("status", ["held", "pending", "completed", "needs_review", "failed", "cancelled"])
    def test_by_hand(self, queue: JobQueue, database: Database, status: JobStatus) -> None:
        put_into(queue, database, status)
        job = queue.start("a", run_id="run", batch_id=None)
        assert (job.status, job.run_id, job.batch_id) == ("running", "run", None)
        assert (job.error, job.finished_at, job.not_before) == (None, None, None)

    @pytest.mark.parametrize("status", ["claimed", "running", "rejected"])
    def test_by_hand_is_refused(self, queue: JobQueue, database: Database, status: JobStatus) -> None:
        before = put_into(queue, database, status)
        with pytest.raises(JobBusyError, match=status):
            queue.start("a", run_id="run", batch_id=None)
        assert queue.get("a") == before

    @pytest.mark.parametrize("status", sorted(set(JOB_STATUSES) - {"claimed"}))
    def test_a_batch_starts_only_what_it_claimed(self, queue: JobQueue, database: Database, status: JobStatus) -> None:
        before = put_into(queue, database, status)
        with pytest.raises(JobBusyError):
            queue.start("a", run_id="run", batch_id="its-batch")
        assert queue.get("a") == before

    def test_an_unknown_job(self, queue: JobQueue) -> None:
        with pytest.raises(UnknownJobError):
            queue.start("nobody", run_id="run", batch_id=None)

    def test_runs_are_kept_in_order_and_once(self, queue: JobQueue) -> None:
        running(queue)
        queue.fail("a", run_id="run", stage="mask", what="no", hint="")
        queue.start("a", run_id="second", batch_id=None)
        queue.complete("a", run_id="second")
        again = queue.start("a", run_id="run", batch_id=None)
        assert again.run_ids == ("run", "second")


class TestStages:
    def test_begin_and_finish(self, queue: JobQueue) -> None:
        running(queue)
        queue.begin_stage("a", "mask", run_id="run", content_key="key", input={"face": 1})
        begun = queue.stage_result("a", "mask")
        assert (begun.status, begun.input, begun.runs, begun.content_key) == ("running", {"face": 1}, 1, "key")
        assert (queue.get("a").current_stage, queue.get("a").stages_completed) == ("mask", ())
        queue.finish_stage("a", "mask", run_id="run", output={"o": 2}, milliseconds=9, content_key="key")
        done = queue.stage_result("a", "mask")
        assert (done.status, done.input, done.output, done.milliseconds) == ("completed", {"face": 1}, {"o": 2}, 9)
        assert (done.runs, done.cached, done.started_at) == (1, False, begun.started_at)
        assert done.finished_at >= done.started_at
        assert queue.stage_result("a", "portrait") is None

    def test_order_is_that_of_the_stages(self, queue: JobQueue) -> None:
        running(queue)
        for stage in ("mask", "job_request", "portrait"):
            do_stage(queue, stage)
        job = queue.get("a")
        assert job.stages_completed == ("job_request", "portrait", "mask")
        assert job.next_stage == "enhanced_prompt"
        assert [result.stage for result in queue.stage_results("a")] == ["job_request", "portrait", "mask"]

    def test_only_real_work_is_counted(self, queue: JobQueue) -> None:
        running(queue)
        do_stage(queue, "mask")
        do_stage(queue, "mask", cached=True)
        queue.finish_stage("a", "mask", run_id="run", output={}, milliseconds=0, content_key="key", cached=True)
        assert (queue.stage_result("a", "mask").runs, queue.stage_result("a", "mask").cached) == (1, True)
        queue.finish_stage("a", "portrait", run_id="run", output={}, milliseconds=0, content_key="k", cached=True)
        assert queue.stage_result("a", "portrait").runs == 0
        do_stage(queue, "mask")
        assert (queue.stage_result("a", "mask").runs, queue.stage_result("a", "mask").cached) == (2, False)

    def test_a_stage_that_is_done_again_is_not_completed_meanwhile(self, queue: JobQueue) -> None:
        running(queue)
        for stage in STAGES:
            do_stage(queue, stage)
        queue.begin_stage("a", "portrait", run_id="run", content_key="new", input={})
        assert queue.get("a").next_stage == "portrait"
        assert queue.stage_result("a", "portrait").output is None

    def test_images_are_kept_by_path(self, queue: JobQueue, database: Database) -> None:
        running(queue)
        first = ImageRow("1.png", "portrait", 8, 9, "PNG", 100, "aa", face_count=1, face_boxes=[[1, 2, 3, 4]])
        second = ImageRow("2.png", "portrait", 8, 9, "PNG", 100, "bb")
        do_stage(queue, "portrait", images=[first, second, second])
        changed = ImageRow("1.png", "portrait", 16, 18, "PNG", 3_000_000_000, "cc", quality_score=0.25)
        do_stage(queue, "portrait", images=[changed], final_image="1.png")
        with database.reader() as session:
            rows = session.scalars(select(ImageMetadataRow).order_by(ImageMetadataRow.path)).all()
        assert [(row.path, row.width, row.bytes, row.face_boxes) for row in rows] == [
            ("1.png", 16, 3_000_000_000, None),
            ("2.png", 8, 100, None),
        ]
        assert queue.get("a").final_image == "1.png"

    @pytest.mark.parametrize("status", sorted(set(JOB_STATUSES) - {"running"}))
    def test_only_a_running_job_has_stages(self, queue: JobQueue, database: Database, status: JobStatus) -> None:
        put_into(queue, database, status)
        with pytest.raises(JobBusyError, match=status):
            do_stage(queue, "mask", run_id="its-run")
        assert queue.stage_results("a") == []

    def test_another_run_has_no_say(self, queue: JobQueue) -> None:
        running(queue)
        queue.begin_stage("a", "mask", run_id="run", content_key="key", input={})
        with pytest.raises(JobBusyError, match="run run has it"):
            queue.finish_stage("a", "mask", run_id="other", output={}, milliseconds=0, content_key="key")
        assert queue.stage_result("a", "mask").status == "running"

    def test_few_statements(self, queue: JobQueue, database: Database) -> None:
        running(queue)
        with statements(database) as sent:
            queue.begin_stage("a", "mask", run_id="run", content_key="key", input={})
        assert len([sql for sql in sent if not sql.startswith("BEGIN")]) == 5
        with statements(database) as sent:
            image = ImageRow("1.png", "mask", 8, 9, "PNG", 100, "aa")
            queue.finish_stage("a", "mask", run_id="run", output={}, milliseconds=0, content_key="key", images=[image])
        assert len([sql for sql in sent if not sql.startswith("BEGIN")]) == 6


ENDINGS: dict[JobStatus, Callable[[JobQueue, str], bool]] = {
    "completed": lambda queue, run_id: queue.complete("a", run_id=run_id),
    "needs_review": lambda queue, run_id: queue.review("a", run_id=run_id, stage="mask", what="W.", hint="M."),
    "rejected": lambda queue, run_id: queue.reject("a", run_id=run_id, stage="mask", what="W.", hint="M."),
    "failed": lambda queue, run_id: queue.fail("a", run_id=run_id, stage="mask", what="W.", hint="M."),
}


class TestEndings:
    @pytest.mark.parametrize("ending", ENDINGS)
    def test_of_a_running_job(self, queue: JobQueue, ending: JobStatus) -> None:
        running(queue)
        queue.begin_stage("a", "mask", run_id="run", content_key="key", input={"i": 1})
        assert ENDINGS[ending](queue, "run")
        job, result = queue.get("a"), queue.stage_result("a", "mask")
        assert job.status == result.status == ending
        assert job.finished_at is not None
        assert result.finished_at is not None
        expected = (None, None, None) if ending == "completed" else ("W.", "mask", "M.")
        assert (job.error, job.error_stage, job.error_hint) == expected
        assert (result.error, result.input, result.runs) == (expected[0], {"i": 1}, 1)
        assert queue.logs("a", 1)[0].message.startswith(ending)

    @pytest.mark.parametrize("ending", ENDINGS)
    @pytest.mark.parametrize("status", sorted(set(JOB_STATUSES) - {"running"}))
    def test_from_any_other_status_is_refused(
        self, queue: JobQueue, database: Database, status: JobStatus, ending: JobStatus
    ) -> None:
        before = put_into(queue, database, status)
        assert not ENDINGS[ending](queue, "its-run")
        assert queue.get("a") == before
        assert queue.stage_results("a") == []

    @pytest.mark.parametrize("ending", ENDINGS)
    def test_by_another_run_is_refused(self, queue: JobQueue, ending: JobStatus) -> None:
        before = running(queue)
        assert not ENDINGS[ending](queue, "other")
        assert queue.get("a") == before

    def test_a_cancelled_job_cannot_become_completed(self, queue: JobQueue) -> None:
        running(queue)
        queue.settle_run("run", batch_id=None, outcome="cancelled", error="", max_attempts=3)
        assert not queue.complete("a", run_id="run")
        assert queue.get("a").status == "cancelled"

    def test_a_stage_that_never_began_is_recorded(self, queue: JobQueue) -> None:
        running(queue)
        assert queue.fail("a", run_id="run", stage="portrait", what="The file is gone.", hint="")
        result = queue.stage_result("a", "portrait")
        assert (result.status, result.error, result.runs, result.input) == ("failed", "The file is gone.", 0, {})


class TestRetrying:
    def test_waits_runs_alone_and_fails_at_the_limit(self, queue: JobQueue, database: Database) -> None:
        running(queue)
        queue.begin_stage("a", "mask", run_id="run", content_key="key", input={})
        assert retry(queue, retry_after=60) == "pending"
        job = queue.get("a")
        assert (job.status, job.attempts, job.solo, job.batch_id, job.run_id) == ("pending", 1, True, None, None)
        assert timedelta(seconds=60) <= job.not_before - job.updated_at <= timedelta(seconds=75)
        assert (job.error, job.error_stage, job.error_hint) == ("Lost.", "mask", "Wait.")
        assert queue.stage_result("a", "mask").status == "failed"
        assert queue.claim(1) == []
        with database.session() as session:
            session.execute(update(JobRow).values(not_before=None))
        queue.claim(1)
        queue.assign_batch("b", ["a"])
        queue.start("a", run_id="run", batch_id="b")
        assert retry(queue, max_attempts=2) == "failed"
        assert (queue.get("a").status, queue.get("a").attempts) == ("failed", 2)
        assert [(one.stage, one.verdict, one.content_key) for one in queue.attempts("a")] == [
            ("mask", "failed", "key"), ("mask", "failed", None),
        ]  # fmt: skip

    def test_a_crash_has_no_delay_so_the_job_can_be_claimed_at_once(self, queue: JobQueue) -> None:
        running(queue)
        assert retry(queue, "crash") == "pending"
        assert ids(queue.claim(1)) == ["a"]

    def test_each_kind_has_its_own_limit_and_its_waits_grow(self, queue: JobQueue) -> None:
        """Two crashes do not use up what a busy service may; the third fault of one kind ends the job."""
        waits = []
        kinds: tuple[Fault, ...] = ("service", "crash", "service", "crash")
        for fault in kinds:
            again(queue)
            assert retry(queue, fault) == "pending"
            job = queue.get("a")
            waits.append(None if job.not_before is None else (job.not_before - job.updated_at).total_seconds())
        assert (job.fault, job.faults, job.attempts) == ("crash", {"service": 2, "crash": 2}, 4)
        assert (waits[1], waits[3]) == (None, None)
        assert 10 <= waits[0] <= 12.5
        assert 20 <= waits[2] <= 25
        again(queue)
        assert retry(queue, "service") == "failed"
        assert (queue.get("a").fault, queue.get("a").faults) == ("service", {"service": 3, "crash": 2})
        assert [one.fault for one in queue.attempts("a")] == ["service", "crash", "service", "crash", "service"]

    def test_a_person_who_starts_a_job_again_gives_it_all_its_attempts(self, queue: JobQueue) -> None:
        again(queue)
        assert retry(queue, max_attempts=1) == "failed"
        queue.start("a", run_id="by hand", batch_id=None)
        job = queue.get("a")
        assert (job.attempts, job.fault, job.faults) == (0, None, {})

    @pytest.mark.parametrize("status", sorted(JOB_STATUSES))
    def test_of_a_job_that_is_not_this_runs(self, queue: JobQueue, database: Database, status: JobStatus) -> None:
        before = put_into(queue, database, status)
        assert retry(queue) == status
        assert queue.get("a") == before

    def test_release_is_no_attempt(self, queue: JobQueue) -> None:
        running(queue, "a")
        running(queue, "b")
        running(queue, "c", run_id="other")
        queue.begin_stage("a", "mask", run_id="run", content_key="key", input={})
        assert queue.release(["b", "a", "c", "nobody"], run_id="run", status="pending") == ["b", "a"]
        job = queue.get("a")
        assert (job.status, job.attempts, job.batch_id, job.run_id, job.solo) == ("pending", 0, None, None, False)
        assert queue.stage_result("a", "mask").status == "cancelled"
        assert queue.get("c").status == "running"
        assert queue.release(["a"], run_id="run", status="held") == []

    def test_release_to_a_person(self, queue: JobQueue) -> None:
        running(queue)
        assert queue.release(["a"], run_id="run", status="held") == ["a"]
        assert queue.claim(1) == []


def again(queue: JobQueue) -> None:
    """Give the job `a` to `run`, whatever it waits for."""
    if not queue.get_many(["a"]):
        queue.add([new("a")])
    with queue._database.session() as session:
        session.execute(update(JobRow).values(not_before=None))
    queue.claim(1)
    queue.assign_batch("again", ["a"])
    queue.start("a", run_id="run", batch_id="again")


def retry(
    queue: JobQueue, fault: Fault = "service", *, retry_after: float | None = None, max_attempts: int = 3
) -> JobStatus:
    return queue.retry_later(
        "a", run_id="run", stage="mask", what="Lost.", hint="Wait.", fault=fault, retry_after=retry_after,
        max_attempts=max_attempts,
    )  # fmt: skip


def begin_run(queue: JobQueue, *job_ids: str) -> str:
    """Give jobs to a new run, whatever they wait for; the run."""
    with queue._database.session() as session:
        session.execute(update(JobRow).values(not_before=None))
    run = f"run-{uuid.uuid4()}"
    queue.claim(99)
    assert queue.assign_batch(run, job_ids)
    queue.give_back([job.id for job in queue.unbatched()], reason="not now")
    for name in job_ids:
        queue.start(name, run_id=run, batch_id=run)
    return run


def die(queue: JobQueue, job_id: str, *others: str, stage: str = "job_request", max_attempts: int = 3) -> JobStatus:
    """Kill a run while it has the job in hand at a stage, and others that it has not begun; the job's status then."""
    run = begin_run(queue, job_id, *others)
    queue.begin_stage(job_id, stage, run_id=run, content_key="key", input={})
    settled = queue.settle_run(run, batch_id=run, outcome="failure", error="Killed.", max_attempts=max_attempts)
    return settled[job_id]


class TestSettling:
    """A run of four: one all done, one in the middle of a stage, one already ended, one never started."""

    @pytest.fixture
    def left_behind(self, queue: JobQueue) -> JobQueue:
        queue.add([new(name) for name in ("done", "middle", "ended", "waiting")])
        queue.add([new("bystander")])
        queue.claim(5)
        queue.assign_batch("batch", ["done", "middle", "ended", "waiting"])
        queue.assign_batch("another", ["bystander"])
        for name in ("done", "middle", "ended"):
            queue.start(name, run_id="run", batch_id="batch")
        for stage in JOB_TYPES["pony_flux"].stages:
            do_stage(queue, stage, "done")
        do_stage(queue, "job_request", "middle")
        queue.begin_stage("middle", "enhanced_prompt", run_id="run", content_key="key", input={})
        queue.review("ended", run_id="run", stage="mask", what="Look.", hint="")
        return queue

    @pytest.mark.parametrize(
        ("outcome", "done", "middle", "waiting"),
        [
            ("success", "completed", "held", "pending"),
            ("failure", "completed", "pending", "pending"),
            ("cancelled", "cancelled", "cancelled", "cancelled"),
        ],
    )
    def test_outcomes_once(self, left_behind: JobQueue, outcome: Any, done: str, middle: str, waiting: str) -> None:
        def settle() -> dict[str, JobStatus]:
            return left_behind.settle_run("run", batch_id="batch", outcome=outcome, error="Crashed.", max_attempts=3)

        untouched = [left_behind.get(name) for name in ("ended", "bystander")]
        assert settle() == {"done": done, "middle": middle, "waiting": waiting}
        after = left_behind.find()
        assert settle() == {}
        assert left_behind.find() == after
        assert [left_behind.get(name) for name in ("ended", "bystander")] == untouched
        assert left_behind.running_runs() == {}
        stage = left_behind.stage_result("middle", "enhanced_prompt")
        assert stage.status == ("failed" if outcome == "failure" else "cancelled")

    def test_failure_names_the_stage_and_separates_the_job(self, left_behind: JobQueue) -> None:
        left_behind.settle_run("run", batch_id="batch", outcome="failure", error="Crashed.", max_attempts=3)
        middle, waiting = left_behind.get("middle"), left_behind.get("waiting")
        assert (middle.attempts, middle.solo, middle.error, middle.error_stage) == (
            1, True, "Crashed.", "enhanced_prompt",
        )  # fmt: skip
        assert (waiting.attempts, waiting.solo, waiting.batch_id) == (0, False, None)
        assert set(ids(left_behind.claim(9))) == {"middle", "waiting"}

    def test_a_run_that_dies_costs_its_neighbours_nothing(self, queue: JobQueue) -> None:
        """Neither one that waits for its first stage in this run, nor one that stands between two stages."""
        queue.add([new("poison"), new("between"), new("waiting")])
        for death in range(4):
            run = begin_run(queue, "poison", "between")
            if death == 0:
                do_stage(queue, "job_request", "between", run)
            queue.begin_stage("poison", "job_request", run_id=run, content_key="key", input={})
            queue.settle_run(run, batch_id=run, outcome="failure", error="Killed.", max_attempts=3)
            for name in ("between", "waiting"):
                job = queue.get(name)
                assert (job.status, job.attempts, job.solo, job.faults, job.not_before) == (
                    "pending",
                    0,
                    False,
                    {},
                    None,
                )
                assert job.error is None
            assert [one.verdict for one in queue.attempts("between")] == ["completed"]
            assert queue.attempts("waiting") == []
        assert ids(queue.claim(9)) == ["poison", "between", "waiting"], "at their old places"
        assert queue.get("poison").alone_deaths == 0, "it never killed a run alone"

    def test_a_job_that_kills_its_run_alone_three_times_has_failed(self, queue: JobQueue) -> None:
        queue.add([new("poison"), new("neighbour")])
        assert [die(queue, "poison", "neighbour"), *(die(queue, "poison") for _ in range(3))] == [
            "pending", "pending", "pending", "failed",
        ]  # fmt: skip
        job = queue.get("poison")
        assert (job.attempts, job.fault, job.faults) == (4, "crash", {"crash": 4})
        assert "died 3 times" in (job.error or "")
        assert "job_request" in (job.error or "")
        assert "no other job in it" in (job.error or "")
        assert "fc retry" in (job.error_hint or "")
        assert [(one.stage, one.verdict, one.fault) for one in queue.attempts("poison")] == [
            ("job_request", "failed", "crash")
        ] * 4
        assert queue.retry("poison").alone_deaths == 0, "a person gives it all its attempts again"

    def test_all_jobs_of_one_call_are_suspects(self, queue: JobQueue) -> None:
        names = ["one", "two", "three"]
        queue.add([new(name) for name in names])
        run = begin_run(queue, *names)
        for name in names[:2]:
            queue.begin_stage(name, "job_request", run_id=run, content_key="key", input={})
        queue.settle_run(run, batch_id=run, outcome="failure", error="Killed.", max_attempts=3)
        assert [(queue.get(name).solo, queue.get(name).attempts) for name in names] == [
            (True, 1),
            (True, 1),
            (False, 0),
        ]

    def test_progress_clears_a_suspect(self, queue: JobQueue) -> None:
        queue.add([new("unlucky")])
        for stage in JOB_TYPES["pony_flux"].stages:
            assert [die(queue, "unlucky", stage=stage) for _ in range(2)] == ["pending", "pending"]
            run = begin_run(queue, "unlucky")
            do_stage(queue, stage, "unlucky", run)
            assert queue.get("unlucky").alone_deaths == 0
            queue.release(["unlucky"], run_id=run, status="pending")
        queue.complete("unlucky", run_id=begin_run(queue, "unlucky"))
        assert queue.get("unlucky").status == "completed"

    def test_runs_that_were_killed_from_outside_meanwhile_are_no_evidence(self, queue: JobQueue) -> None:
        """A job that was in hand when its run died, and that is completed now, did not kill it."""
        queue.add([new("unlucky"), *(new(f"good-{number}") for number in range(3))])
        assert die(queue, "unlucky") == die(queue, "unlucky") == "pending"
        for number in range(3):
            die(queue, f"good-{number}")
            run = begin_run(queue, f"good-{number}")
            do_stage(queue, "job_request", f"good-{number}", run)
            queue.complete(f"good-{number}", run_id=run)
        assert [die(queue, "unlucky") for _ in range(4)] == ["pending", "pending", "pending", "failed"]

    def test_two_jobs_that_kill_their_runs_are_both_found(self, queue: JobQueue) -> None:
        queue.add([new("first"), new("second")])
        found = [[die(queue, name) for name in ("first", "second")] for _ in range(3)]
        assert found == [["pending", "pending"], ["pending", "pending"], ["failed", "failed"]]

    def test_a_run_that_was_ended_from_outside_makes_no_suspect(self, queue: JobQueue) -> None:
        """By a signal, or together with the whole machine."""
        queue.add([new("in-hand"), new("neighbour")])
        run = begin_run(queue, "in-hand", "neighbour")
        queue.begin_stage("in-hand", "job_request", run_id=run, content_key="key", input={})
        queue.settle_run(run, batch_id=run, outcome="interrupted", error="Told to stop.", max_attempts=3)
        found = {name: queue.get(name) for name in ("in-hand", "neighbour")}
        assert {(job.status, job.solo, job.not_before) for job in found.values()} == {("pending", False, None)}
        assert (found["in-hand"].attempts, found["neighbour"].attempts) == (1, 0)
        assert queue.attempts("neighbour") == []
        for _ in range(10):
            run = begin_run(queue, "in-hand")
            queue.begin_stage("in-hand", "job_request", run_id=run, content_key="key", input={})
            assert queue.settle_run(run, batch_id=run, outcome="interrupted", error="", max_attempts=3) == {
                "in-hand": "pending"
            }

    def test_runs_that_die_before_any_stage_are_tried_rarer_then_alone_and_not_for_ever(self, queue: JobQueue) -> None:
        queue.add([new("one"), new("two")])
        story = []
        while queue.get("one").status == "pending":
            run = begin_run(queue, "one", "two")
            queue.settle_run(run, batch_id=run, outcome="failure", error="No start.", max_attempts=3)
            job, other = queue.get("one"), queue.get("two")
            assert (job.not_before, job.solo) == (other.not_before, other.solo), "they stay together"
            waits = round((job.not_before - job.updated_at).total_seconds()) if job.not_before else 0
            story.append((waits, job.solo))
        assert story[:-1] == [
            (0, False), (0, False), (10, False), (20, False), (40, False), (80, False), (160, False), (320, False),
            (600, True), (600, True), (600, True),
        ]  # fmt: skip
        job = queue.get("one")
        assert (job.status, job.fault) == ("failed", "crash")
        assert "12 runs" in (job.error or "")
        assert "No start." in (job.error or "")
        assert job.error_hint

    def test_a_stage_that_ends_well_forgives_the_runs_that_did_not_begin(self, queue: JobQueue) -> None:
        queue.add([new("a")])
        for stage in JOB_TYPES["pony_flux"].stages:
            for _ in range(5):
                run = begin_run(queue, "a")
                queue.settle_run(run, batch_id=run, outcome="failure", error="No start.", max_attempts=3)
            do_stage(queue, stage, "a", run := begin_run(queue, "a"))
            queue.release(["a"], run_id=run, status="pending")
        assert queue.get("a").idle_deaths == 0

    @pytest.mark.parametrize("outcome", ["success", "failure"])
    def test_at_the_limit_a_job_has_failed(self, left_behind: JobQueue, outcome: Any) -> None:
        left_behind.settle_run("run", batch_id="batch", outcome=outcome, error="Crashed.", max_attempts=1)
        assert left_behind.get("waiting").status == "pending"
        if outcome == "failure":
            assert left_behind.get("middle").status == "pending", "it did not die alone"
            assert die(left_behind, "middle", stage="enhanced_prompt", max_attempts=1) == "failed"
        else:
            assert left_behind.get("middle").status == "held"

    def test_without_a_batch_only_what_it_ran(self, left_behind: JobQueue) -> None:
        settled = left_behind.settle_run("run", batch_id=None, outcome="failure", error="Crashed.", max_attempts=3)
        assert set(settled) == {"done", "middle"}
        assert left_behind.get("waiting").status == "claimed"

    def test_a_job_that_another_run_has_taken_is_left_alone(self, left_behind: JobQueue) -> None:
        left_behind.start("ended", run_id="second", batch_id=None)
        left_behind.settle_run("run", batch_id="batch", outcome="cancelled", error="", max_attempts=3)
        assert left_behind.running_runs() == {"second": ["ended"]}

    def test_an_unknown_run(self, queue: JobQueue) -> None:
        settled = queue.settle_run("nobody", batch_id="none", outcome="failure", error="", max_attempts=3)
        assert settled == {}


class TestRecords:
    def test_log(self, queue: JobQueue) -> None:
        queue.log("warning", "first", job_id="a", run_id="r", stage="mask", data={"n": 1})
        queue.log("info", "of no job")
        queue.log("error", "second \0", job_id="a")
        first, second = queue.logs("a", 10)
        assert (first.level, first.message, first.run_id, first.stage, first.data) == (
            "warning", "first", "r", "mask", {"n": 1},
        )  # fmt: skip
        assert second.message == "second ?"
        assert [entry.message for entry in queue.logs("a", 1)] == ["second ?"]
        assert [entry.message for entry in queue.logs(None, 2)] == ["of no job", "second ?"]

    def test_the_log_tells_a_jobs_story(self, queue: JobQueue) -> None:
        running(queue)
        queue.complete("a", run_id="run")
        story = [entry.message for entry in queue.logs("a", 99)]
        assert story == ["added by cli", "claimed", "put into batch batch-a", "started", "completed"]

    def test_ideation_is_kept_once_per_iteration(self, queue: JobQueue, database: Database) -> None:
        queue.add([new("a")])
        candidate = {"prompt": "p", "enhanced_prompt": "e", "score": None, "selected": False}
        queue.record_ideation("a", 1, **candidate)
        queue.record_ideation("a", 2, **candidate)
        queue.record_ideation("a", 2, **candidate | {"score": 0.5, "selected": True})
        with database.reader() as session:
            rows = session.scalars(select(IdeationRow).order_by(IdeationRow.iteration)).all()
        assert [(row.iteration, row.score, row.selected) for row in rows] == [(1, None, False), (2, 0.5, True)]

    def test_ideation_of_an_unknown_job(self, queue: JobQueue) -> None:
        with pytest.raises(UnknownJobError):
            queue.record_ideation("nobody", 1, prompt="", enhanced_prompt="", score=None, selected=False)

    def test_records_go_with_their_job(self, queue: JobQueue, database: Database) -> None:
        running(queue)
        do_stage(queue, "mask")
        queue.add([new("g", job_type="group"), new("child", parent_id="g")])
        with database.session() as session:
            session.delete(session.get(JobRow, "a"))
            session.delete(session.get(JobRow, "g"))
        assert queue.stage_results("a") == []
        assert queue.get("child").parent_id is None
        assert len(queue.logs("a", 9)) == 4
        with database.reader() as session:
            assert session.scalar(select(func.count()).select_from(StateRow)) == 1


class TestManyProcesses:
    def test_every_job_is_claimed_exactly_once_and_in_order(self, queue: JobQueue, database: Database) -> None:
        queue.add([new(f"job-{number:03}", priority=number % 3 + 1) for number in range(200)])
        workers = [worker(database, "claim") for _ in range(4)]
        for process in workers:
            assert process.stdout.readline() == "ready\n"
        for process in workers:
            process.stdin.write("go\n")
            process.stdin.flush()
        claimed = [process.communicate()[0].split() for process in workers]
        assert [process.returncode for process in workers] == [0] * 4
        assert sorted(sum(claimed, [])) == sorted(ids(queue.find()))  # noqa: RUF017 - four short lists
        place = {job.id: number for number, job in enumerate(sorted(queue.find(), key=_claim_key))}
        for mine in claimed:
            assert mine == sorted(mine, key=place.__getitem__)

    def test_a_process_killed_inside_a_claim_loses_nothing(self, queue: JobQueue, database: Database) -> None:
        queue.add([new(f"job-{number}") for number in range(20)])
        process = worker(database, "die")
        assert process.stdout.readline() == "inside\n"
        assert queue.counts()["claimed"] == 0
        process.kill()
        process.communicate()
        with database.session() as session:  # waits until the dead process' locks are gone
            session.scalars(select(JobRow.id).with_for_update()).all()
        assert queue.counts()["pending"] == 20
        assert len(queue.claim(99)) == 20

    def test_a_process_killed_between_claims_loses_nothing(self, queue: JobQueue, database: Database) -> None:
        queue.add([new(f"job-{number:03}") for number in range(200)])
        process = worker(database, "claim")
        process.stdin.write("go\n")
        process.stdin.flush()
        told = [process.stdout.readline().strip() for _ in range(6)][1:]
        process.kill()
        told += process.stdout.read().split("\n")[:-1]  # not communicate(), which loses what readline has buffered
        process.communicate()
        with database.session() as session:
            session.scalars(select(JobRow.id).with_for_update()).all()
        claimed = set(ids(queue.find(statuses=["claimed"])))
        assert set(told) <= claimed
        assert len(claimed) - len(told) <= 1  # one may have been claimed and not yet told
        assert queue.counts()["pending"] == 200 - len(claimed)

    def test_no_connection_is_left_over(self, queue: JobQueue, database: Database) -> None:
        for number in range(100):
            queue.add([new(f"job-{number}-{part}") for part in range(20)])
        for _ in range(20):
            for job in queue.claim(100)[:25]:
                with pytest.raises(JobBusyError):
                    queue.start(job.id, run_id="run", batch_id="wrong")
        assert queue.counts()["claimed"] == 2000
        assert database.engine.pool.checkedout() == 0
        assert database.engine.pool.checkedin() == 1
        if database.dialect == "postgresql":
            count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            assert run_sql(url_of(database), count) == [[(2,)]]  # this queue's one, and the asking one


def worker(database: Database, task: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.support.queue_worker", url_of(database), task]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """The statements that are sent to the database meanwhile."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, sql: str, *_: object) -> None:
        sent.append(sql)

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(database.engine, "before_cursor_execute", note)


def _claim_key(job: Job) -> tuple[Any, ...]:
    return job.priority, job.created_at, job.id


def test_a_recipe_is_kept_until_a_person_tries_again(queue: JobQueue) -> None:
    recipe = {"sampling": {"steps": 30}}
    assert running(queue).recipe is None
    with pytest.raises(JobBusyError, match="no longer run other's"):
        queue.set_recipe("a", recipe, run_id="other")
    queue.set_recipe("a", recipe, run_id="run")
    assert queue.fail("a", run_id="run", stage=None, what="broken", hint="repair it")
    assert queue.get("a").recipe == recipe
    assert queue.retry("a").recipe is None
    assert queue.start("a", run_id="second", batch_id=None, recipe=recipe).recipe == recipe
    queue.change_request("a", run_id="second", request=parse_request(REQUEST), source=None, fields=["seed"])
    assert queue.get("a").recipe is None

"""Groups and jobs that come after others, the same on SQLite and on Postgres; and through `fc` and the real graph."""

from __future__ import annotations

import json
import threading
from typing import Any

import dagster as dg
import numpy as np
import pytest
from sqlalchemy import delete, event

from imaging.errors import RejectedError
from imaging.files.provenance import read_provenance
from jobs.model.job import JobBusyError, NewJob
from jobs.model.request import parse_request
from jobs.model.transitions import JobStatus
from jobs.queue.job_queue import JobQueue
from jobs.requests.accept import submit
from jobs.requests.inbox import take_inbox
from resources.database import Database, JobRow
from resources.settings import load_settings
from resources.store.image_store import ImageStore
from tests.graph.test_sensor import keys_of, tick
from tests.support.commands import Fc
from tests.support.graph import add_jobs, claim_batch, materialize, pixels

PROMPT = {"pony_prompt": "portrait of a smiling woman with red hair", "seed": 7}


@pytest.fixture
def rows(any_database: Database) -> JobQueue:
    """A queue on each of the two databases."""
    return JobQueue(any_database)


def job(job_id: str, *, parent: str | None = None, after: str | None = None, hold: bool = False) -> NewJob:
    return NewJob(job_id, parse_request(PROMPT), None, "cli", parent_id=parent, after_id=after, hold=hold)


def group(job_id: str, *, parent: str | None = None) -> NewJob:
    return NewJob(job_id, parse_request({"job_type": "group"}), None, "cli", parent_id=parent)


def start(queue: JobQueue, job_id: str) -> None:
    queue.start(job_id, run_id=f"run-{job_id}", batch_id=None)


def finish(queue: JobQueue, job_id: str, how: JobStatus = "completed") -> None:
    """Run a job by hand to one of its ends."""
    if how == "cancelled":
        queue.cancel([job_id])
        return
    start(queue, job_id)
    if how == "completed":
        assert queue.complete(job_id, run_id=f"run-{job_id}")
        return
    end = {"failed": queue.fail, "needs_review": queue.review, "rejected": queue.reject}[how]
    assert end(job_id, run_id=f"run-{job_id}", stage="portrait", what="W.", hint="M.")


def statuses(queue: JobQueue) -> dict[str, str]:
    return {one.id: one.status for one in queue.find()}


class TestGroups:
    def test_a_group_waits_for_all_its_jobs_and_is_never_claimed(self, rows: JobQueue) -> None:
        rows.add([job("a", parent="g"), group("g"), job("b", parent="g")])
        assert [one.id for one in rows.claim(10)] == ["a", "b"]
        with pytest.raises(JobBusyError):
            start(rows, "g")
        rows.cancel([])
        assert rows.settle_waiting() == {}

    def test_completed_only_if_all_are(self, rows: JobQueue) -> None:
        rows.add([group("g"), job("a", parent="g"), job("b", parent="g")])
        finish(rows, "a")
        assert rows.settle_waiting() == {}
        finish(rows, "b")
        assert rows.settle_waiting() == {"g": "completed"}
        assert rows.settle_waiting() == {}

    @pytest.mark.parametrize(
        ("how", "expected"),
        [("failed", "failed"), ("rejected", "failed"), ("cancelled", "failed"), ("needs_review", "needs_review")],
    )
    def test_one_that_did_not_is_named(self, rows: JobQueue, how: JobStatus, expected: str) -> None:
        rows.add([group("g"), job("a", parent="g"), job("b", parent="g")])
        finish(rows, "a")
        finish(rows, "b", how)
        assert rows.settle_waiting() == {"g": expected}
        ended = rows.get("g")
        assert f"1 of 2 jobs of the group are not completed: b ({how})" in (ended.error or "")
        assert "fc retry g" in (ended.error_hint or "")
        assert ended.finished_at is not None

    def test_a_removed_job_is_no_success(self, rows: JobQueue, any_database: Database) -> None:
        rows.add([group("g"), job("a", parent="g"), job("b", parent="g")])
        finish(rows, "a")
        with any_database.session() as session:
            session.execute(delete(JobRow).where(JobRow.id == "b"))
        assert rows.settle_waiting() == {"g": "failed"}
        assert "1 removed" in (rows.get("g").error or "")

    def test_a_retried_job_brings_its_group_and_the_groups_above_back(self, rows: JobQueue) -> None:
        rows.add([group("top"), group("g", parent="top"), job("a", parent="g"), job("b", parent="g")])
        finish(rows, "a", "failed")
        finish(rows, "b")
        assert rows.settle_waiting() == {"g": "failed", "top": "failed"}
        rows.retry("a")
        assert statuses(rows) == {"top": "waiting", "g": "waiting", "a": "pending", "b": "completed"}
        assert (rows.get("g").error, rows.get("g").finished_at) == (None, None)
        finish(rows, "a")
        assert rows.settle_waiting() == {"g": "completed", "top": "completed"}

    @pytest.mark.parametrize("back", ["approve", "by hand"])
    def test_so_does_one_that_is_brought_back_otherwise(self, rows: JobQueue, back: str) -> None:
        rows.add([group("g"), job("a", parent="g")])
        start(rows, "a")
        rows.begin_stage("a", "mask", run_id="run-a", content_key="k", input={})
        rows.hold_for_review(
            "a", "mask", run_id="run-a", output={"path": "p", "metadata": {}}, milliseconds=1, what="W.", hint="M."
        )
        assert rows.settle_waiting() == {"g": "needs_review"}
        if back == "approve":
            rows.approve("a")
        else:
            start(rows, "a")
        assert rows.get("g").status == "waiting"

    def test_a_new_job_brings_an_ended_group_back(self, rows: JobQueue) -> None:
        rows.add([group("g"), job("a", parent="g")])
        finish(rows, "a")
        rows.settle_waiting()
        rows.add([job("b", parent="g")])
        assert (rows.get("g").status, rows.get("g").children) == ("waiting", 2)

    def test_cancelling_a_group_cancels_what_is_left_of_it(self, rows: JobQueue) -> None:
        rows.add([group("g"), group("h", parent="g"), job("a", parent="h"), job("b", parent="g"), job("c", parent="g")])
        finish(rows, "b")
        start(rows, "c")
        assert [one.id for one in rows.cancel(["g"])] == ["a", "c", "g", "h"]
        assert statuses(rows) == {
            "g": "cancelled",
            "h": "cancelled",
            "a": "cancelled",
            "b": "completed",
            "c": "cancelled",
        }
        assert rows.settle_waiting() == {}


class TestAfter:
    def test_it_gets_its_turn_when_the_other_is_completed(self, rows: JobQueue) -> None:
        rows.add([job("b", after="a"), job("a"), job("c", after="b")])
        assert [one.id for one in rows.claim(10)] == ["a"]
        rows.cancel([])
        rows.assign_batch("batch", ["a"])
        rows.start("a", run_id="r", batch_id="batch")
        assert rows.settle_waiting() == {}
        rows.complete("a", run_id="r")
        assert rows.settle_waiting() == {"b": "pending"}
        assert [one.id for one in rows.claim(10)] == ["b"]

    @pytest.mark.parametrize(("how", "expected"), [("failed", "failed"), ("needs_review", "needs_review")])
    def test_a_chain_ends_with_its_first_and_comes_back_with_it(
        self, rows: JobQueue, how: JobStatus, expected: str
    ) -> None:
        rows.add([group("g"), job("a"), job("b", after="a", parent="g"), job("c", after="b")])
        finish(rows, "a", how)
        assert rows.settle_waiting() == dict.fromkeys("bcg", expected)
        ended = rows.get("b")
        assert f"The job a, for which this one waited, is {how}." in (ended.error or "")
        assert "fc show a" in (ended.error_hint or "")
        rows.retry("a")
        assert statuses(rows) == {"a": "pending", "b": "waiting", "c": "waiting", "g": "waiting"}

    def test_a_removed_one_is_not_waited_for(self, rows: JobQueue, any_database: Database) -> None:
        rows.add([job("a"), job("b", after="a")])
        with any_database.session() as session:
            session.execute(delete(JobRow).where(JobRow.id == "a"))
        assert rows.settle_waiting() == {"b": "failed"}
        assert "no job a any more" in (rows.get("b").error or "")

    def test_what_ended_for_another_reason_stays_ended(self, rows: JobQueue) -> None:
        rows.add([job("a"), job("b", after="a"), job("c", after="a")])
        finish(rows, "a")
        rows.settle_waiting()
        finish(rows, "b", "failed")
        rows.cancel(["c"])
        finish(rows, "a", "failed")
        rows.retry("a")
        assert (rows.get("b").status, rows.get("c").status) == ("failed", "cancelled")

    def test_retried_while_the_other_is_not_completed_it_waits(self, rows: JobQueue) -> None:
        rows.add([job("a"), job("b", after="a")])
        rows.cancel(["b"])
        assert rows.retry("b").status == "waiting"
        start(rows, "b")
        assert rows.get("b").status == "running", "a person may start it all the same"


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("new", "said"),
        [
            ([job("a", after="a")], "a -> a"),
            ([job("a", after="b"), job("b", after="a")], "for ever: "),
            ([job("a", after="c"), job("b", after="a"), job("c", after="b")], "for ever: "),
            ([group("a", parent="a")], "a -> a"),
            ([group("a", parent="b"), group("b", parent="a")], "for ever: "),
            ([group("a"), job("b", parent="a", after="a")], "for ever: "),
            ([group("a"), job("b", parent="a", after="c"), job("c", after="a")], "for ever: "),
            ([job("a", after="nobody")], "after: there is no job nobody"),
            ([job("a", parent="nobody")], "parent: there is no job nobody"),
            ([job("a"), job("b", parent="a")], "parent: the job a is a pony_flux job"),
        ],
    )
    def test_nothing_is_added(self, rows: JobQueue, new: list[NewJob], said: str) -> None:
        with pytest.raises(RejectedError, match=said):
            rows.add(new)
        assert rows.find() == []

    def test_a_cycle_through_jobs_that_are_there(self, rows: JobQueue) -> None:
        rows.add([group("g"), group("h", parent="g"), job("x", after="g"), job("y", after="x")])
        with pytest.raises(RejectedError, match="for ever"):
            rows.add([job("n", parent="h", after="y")])
        assert rows.get("h").children == 0

    def test_a_changed_request_may_not_close_a_cycle(self, rows: JobQueue) -> None:
        faces = parse_request({"job_type": "face_processing", "source_image": "x.png"})
        rows.add([NewJob("a", faces, None, "cli"), job("b", after="a")])
        rows.cancel(["a"])
        for other, said in (("b", "for ever"), ("a", "for ever"), ("nobody", "no job nobody")):
            changed = faces.model_copy(update={"source_image": f"job:{other}"})
            with pytest.raises(RejectedError, match=said):
                rows.retry("a", request=changed)
        assert (rows.get("a").status, rows.get("a").request) == ("cancelled", faces)

    def test_two_who_close_a_circle_at_once(self, rows: JobQueue) -> None:
        """Each alone would be allowed; whoever comes second is refused."""
        rows.add([group("g"), group("h"), job("x", after="h"), job("y", after="g")])
        barrier = threading.Barrier(2)
        refused: list[str] = []

        def add(new: NewJob) -> None:
            barrier.wait()
            try:
                rows.add([new])
            except RejectedError:
                refused.append(new.job_id)

        new = [job("m", parent="g", after="x"), job("n", parent="h", after="y")]
        threads = [threading.Thread(target=add, args=(one,)) for one in new]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(refused) == 1


def test_many_hands_on_one_family_never_block_each_other(rows: JobQueue) -> None:
    """Cancels, retries, settlings and new jobs at once: no deadlock, and the group tells the truth in the end."""
    names = [f"j{number}" for number in range(6)]
    rows.add([group("m"), *(job(name, parent="m") for name in names), job("z", after="m"), job("b", after="j0")])
    faults: list[BaseException] = []

    def guarded(call: Any) -> None:
        try:
            for _ in range(8):
                for name in names:
                    try:
                        call(name)
                    except JobBusyError:
                        continue
        except BaseException as fault:  # noqa: BLE001 - shown by the assertion
            faults.append(fault)

    calls = [
        lambda name: rows.cancel([name]),
        rows.retry,
        lambda _: rows.settle_waiting(),
        lambda _: rows.cancel(["m"]),
    ]
    threads = [threading.Thread(target=guarded, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    rows.cancel(names)
    rows.settle_waiting()
    assert rows.get("m").status in ("failed", "cancelled")


def test_a_look_at_many_jobs_reads_few_of_them(queue: JobQueue, database: Database) -> None:
    """The plan of the query that every tick makes uses the indices. Postgres plans by the rows that are there."""
    asked: list[tuple[str, Any]] = []
    listen = ("before_cursor_execute", lambda _c, _k, text, parameters, *_: asked.append((text, parameters)))
    event.listen(database.engine, *listen)
    queue.settle_waiting()
    event.remove(database.engine, *listen)
    ((text, parameters),) = [one for one in asked if one[0].startswith("SELECT")]
    with database.engine.connect() as connection:
        plan = [str(row) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", parameters)]
    assert any("ix_job_queue_claim" in row for row in plan)
    assert any("ix_job_queue_parent" in row for row in plan)
    assert not any("SCAN job_queue" in row for row in plan)


# ---- a job on another one's picture


def result_of(other: str) -> dict[str, Any]:
    return {"job_type": "face_processing", "source_image": f"job:{other}", "flux_prompt": "a freckled face", "seed": 3}


def test_a_child_takes_the_picture_of_the_job_before_it(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore
) -> None:
    add_jobs(queue, store, PROMPT, result_of("a"))
    assert queue.get("b").status == "waiting"
    (request,) = tick(instance)
    assert keys_of(request, instance) == ["a"]
    assert queue.assign_batch("none", ["a"]) is False
    batch = request.run_key or ""
    assert materialize(instance, "a", batch=batch).success
    (request,) = tick(instance)
    assert keys_of(request, instance) == ["b"]
    assert materialize(instance, "b", batch=request.run_key).success
    done = queue.get("b")
    assert done.status == "completed"
    assert done.source is not None
    assert (done.source["path"], done.source["sha256"]) == ("job:a", store.sha256_of("6-final", "a.png"))
    np.testing.assert_array_equal(pixels(store, "0-generated", "b.png"), pixels(store, "6-final", "a.png"))
    record = json.loads(store.read("requests", "b.json"))
    assert record["source"]["sha256"] == done.source["sha256"]
    assert record["request"]["source_image"] == "job:a"
    parent, child = (read_provenance(store.read("6-final", f"{name}.png")) for name in "ab")
    assert child["digital_source_type"] == parent["digital_source_type"] == "algorithmicMedia"
    assert (child["record"]["origin"], child["record"]["source_job"]) == ("generated", "a")
    assert child["record"]["prompt"] == parent["record"]["prompt"]


def test_a_picture_of_another_job_that_is_only_described_stays_marked(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore
) -> None:
    add_jobs(queue, store, PROMPT, result_of("a") | {"job_type": "description"})
    (request,) = tick(instance)
    assert materialize(instance, "a", batch=request.run_key).success
    (request,) = tick(instance)
    assert materialize(instance, "b", batch=request.run_key).success
    assert read_provenance(store.read("0-generated", "b.png"))["digital_source_type"] == "algorithmicMedia"
    assert "photo" not in json.loads(store.read("descriptions", "b.json"))["answer"]["text"].split(".")[0].lower()


def test_started_too_early_it_fails_and_says_what_to_do(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore
) -> None:
    add_jobs(queue, store, PROMPT, result_of("a"))
    assert not materialize(instance, "b").success
    failed = queue.get("b")
    assert (failed.status, failed.error_stage) == ("failed", "job_request")
    assert "the picture of job a, which is pending" in (failed.error or "")


def test_the_scene_alone_and_the_picture_anew(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, fc: Fc
) -> None:
    """A job without a face pass gives its generated image; a retry from the start takes the newest."""
    scene = {**PROMPT, "job_type": "sdxl_generation"}
    add_jobs(queue, store, scene, {"job_type": "description", "source_image": "job:a"})
    assert materialize(instance, "a").success
    queue.settle_waiting()
    assert materialize(instance, "b").success
    assert (queue.get("b").source or {})["sha256"] == store.sha256_of("0-generated", "a.png")
    assert fc("retry", "a", "--seed", "8")[0] == 0
    assert queue.get("b").status == "completed", "it has what it waited for"
    claim_batch(queue, "again")
    assert materialize(instance, "a", batch="again").success
    assert fc("retry", "b", "--from", "job_request")[0] == 0
    claim_batch(queue, "b-again")
    assert materialize(instance, "b", batch="b-again").success
    assert (queue.get("b").source or {})["sha256"] == store.sha256_of("0-generated", "a.png")
    np.testing.assert_array_equal(pixels(store, "0-generated", "b.png"), pixels(store, "0-generated", "a.png"))


def test_placing_does_not_change_what_is_made(instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore) -> None:
    """Neither group nor time is part of the request, its record or its content keys."""
    plain = add_jobs(queue, store, {**PROMPT, "job_type": "sdxl_generation"})[0]
    placed = {**PROMPT, "job_type": "sdxl_generation", "width": 256, "height": 256}
    group_and_job = [
        ("g", parse_request({"job_type": "group"})),
        ("z", parse_request({**placed, "parent": "g", "after": "a", "at": "2020-01-01T00:00Z"})),
    ]
    _, other = submit(group_and_job, queue=queue, store=store, settings=load_settings(), origin="cli")
    assert other.request == queue.get("z").request == plain.request.model_copy(update={"seed": 7})
    assert (other.parent_id, other.after_id) == ("g", "a")
    for key in "az":
        assert materialize(instance, key).success
    first, second = (queue.stage_result(key, "job_request") for key in "az")
    assert first is not None
    assert second is not None
    assert first.content_key == second.content_key
    assert (first.output or {})["metadata"]["request"] == (second.output or {})["metadata"]["request"]


# ---- the commands


def submitted(fc: Fc, *arguments: str) -> list[dict[str, Any]]:
    code, said, wrong = fc("submit", "--json", *arguments)
    assert code == 0, wrong
    return list(json.loads(said)["data"])


def test_variants(fc: Fc, queue: JobQueue) -> None:
    parent, *children = submitted(
        fc, "-p", "a lighthouse keeper", "--variants", "4", "--id", "v", "--seed", "4294967294"
    )
    assert (parent["job_id"], parent["job_type"], parent["children"]) == ("v", "group", 4)
    assert [one["job_id"] for one in children] == ["v-1", "v-2", "v-3", "v-4"]
    assert [one["request"]["seed"] for one in children] == [4294967294, 4294967295, 0, 1]
    assert {one["parent_id"] for one in children} == {"v"}
    drawn = submitted(fc, "-p", "a lighthouse keeper", "--variants", "2")
    assert len({one["request"]["seed"] for one in drawn[1:]}) == 2


def test_show_and_list_tell_the_family(fc: Fc, queue: JobQueue) -> None:
    submitted(fc, "-p", "x", "--variants", "2", "--id", "v")
    submitted(fc, "--type", "face_processing", "--from-job", "v-1", "--id", "face", "--at", "+2h")
    said = fc("show", "v")[1]
    assert "waiting for its jobs" in said
    assert "v-2" in said
    said = fc("show", "face")[1]
    assert "Comes after v-1" in said
    assert "waiting for v-1" in said
    assert "face" in fc("show", "v-1")[1]
    assert json.loads(fc("show", "v", "--json")[1])["data"]["child_ids"] == ["v-1", "v-2"]
    assert {one["job_id"] for one in json.loads(fc("list", "--parent", "v", "--json")[1])["data"]} == {"v-1", "v-2"}
    assert "waiting 2" in fc("status")[1]


def test_cancel_and_retry_a_group(fc: Fc, queue: JobQueue) -> None:
    submitted(fc, "-p", "x", "--variants", "2", "--id", "v")
    code, said, _ = fc("cancel", "v-2")
    assert code == 0
    finish(queue, "v-1")
    assert queue.settle_waiting() == {"v": "failed"}
    assert fc("retry", "v", "--seed", "3")[0] == 2
    assert "waiting for its jobs" in fc("retry", "v")[1]
    assert statuses(queue) == {"v": "waiting", "v-1": "completed", "v-2": "pending"}
    code, said, _ = fc("cancel", "v")
    assert code == 0
    assert "v-2: cancelled" in said
    assert fc("retry", "v-1", "--set", "after=v-2")[0] == 2


def test_a_file_names_parents_in_itself(fc: Fc, queue: JobQueue, store: ImageStore, tmp_path: Any) -> None:
    lines = [
        {"job_id": "face", "job_type": "face_processing", "source_image": "job:scene", "parent": "series"},
        {"job_id": "scene", "pony_prompt": "x", "job_type": "sdxl_generation", "parent": "series", "at": "+1h"},
        {"job_id": "series", "job_type": "group"},
    ]
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    file = inbox / "family.json"
    file.write_text(json.dumps(lines))
    report = take_inbox(inbox, queue=queue, store=store, settings=load_settings())
    assert report.accepted == {"family.json": ["face", "scene", "series"]}
    file.write_text(json.dumps(lines))
    again = take_inbox(inbox, queue=queue, store=store, settings=load_settings())
    assert again.rejected == {}, "the same file again, as after a crash: its jobs are known"
    assert statuses(queue) == {"face": "waiting", "scene": "pending", "series": "waiting"}
    assert queue.claim(10) == [], "its time has not come"
    table = tmp_path / "more.csv"
    table.write_text("job_id,job_type,pony_prompt,parent,at\ntop,group,,,\nbelow,,x,top,2020-01-01T09:00\n")
    assert fc("submit", "--file", str(table))[0] == 0
    assert [one.id for one in queue.claim(10)] == ["below"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-p", "x", "--after", "nobody"), "after: there is no job nobody"),
        (("-p", "x", "--parent", "A B"), "parent: "),
        (("-p", "x", "--at", "soon"), "at: is no time"),
        (("--type", "group", "--at", "+1h"), "at: a group has no work"),
        (("--type", "face_processing", "--from-job", "A/B"), "source_image: "),
        (("--type", "face_processing", "--from-job", "a", "--after", "b"), "after: the job works on the picture of a"),
        (("-p", "x", "--from-job", "a"), "source_image: "),
    ],
)
def test_what_is_wrong_is_named(fc: Fc, arguments: tuple[str, ...], said: str) -> None:
    code, _, wrong = fc("submit", *arguments)
    assert code == 2
    assert said in wrong

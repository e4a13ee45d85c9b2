"""What a person does with many jobs: holding them, their turn, the pause of the queue, reviews, rejections, stars."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobs.model.job import NewJob
from jobs.model.job_types import JOB_TYPES
from jobs.model.request import parse_request
from jobs.queue.job_queue import JobQueue
from tests.support.commands import Fc


def add(queue: JobQueue, job_id: str, *, hold: bool = False, after: str | None = None, **fields: Any) -> None:
    request = parse_request({"pony_prompt": "a knight", "seed": 1, "job_type": "sdxl_generation", **fields})
    queue.add([NewJob(job_id, request, None, "cli", hold=hold, parent_id=request.parent, after_id=after)])


def start(queue: JobQueue, job_id: str) -> None:
    queue.start(job_id, run_id=f"run-{job_id}", batch_id=None)


def complete(queue: JobQueue, job_id: str) -> None:
    start(queue, job_id)
    for stage in JOB_TYPES["sdxl_generation"].stages:
        queue.finish_stage(
            job_id,
            stage,
            run_id=f"run-{job_id}",
            output={"path": "p", "metadata": {}},
            milliseconds=1,
            content_key="k",
            final_image=f"/0-generated/{job_id}.png" if stage == "generated_image" else None,
        )
    assert queue.complete(job_id, run_id=f"run-{job_id}")


def stop_for_review(queue: JobQueue, job_id: str, *, with_output: bool = True) -> None:
    start(queue, job_id)
    words = {"what": "0.1 is too little.", "hint": "Look."}
    if with_output:
        output = {"path": "p", "metadata": {}}
        queue.begin_stage(job_id, "generated_image", run_id=f"run-{job_id}", content_key="k", input={})
        queue.hold_for_review(job_id, "generated_image", run_id=f"run-{job_id}", output=output, milliseconds=1, **words)
    else:
        queue.review(job_id, run_id=f"run-{job_id}", stage="enhanced_prompt", **words)


# ---- release, priority


def test_a_held_job_is_released(fc: Fc, queue: JobQueue) -> None:
    assert fc("submit", "-p", "x", "--hold", "--id", "a")[0] == 0
    assert "fc release" in fc("show", "a")[1]
    assert queue.claim(5) == []
    assert fc("release", "a") == (0, "a: in the queue.\n", "")
    assert [job.id for job in queue.claim(5)] == ["a"]
    code, _, said = fc("release", "a")
    assert (code, "Job a is claimed, so it cannot be released." in said) == (1, True)


def test_a_group_that_is_held_is_released_and_what_waits_keeps_waiting(fc: Fc, queue: JobQueue) -> None:
    assert fc("submit", "-p", "x", "--hold", "--variants", "2", "--id", "g")[0] == 0
    add(queue, "later", hold=True, after="g-1", at="+2h")
    assert fc("release", "g", "later", "nobody")[0] == 3
    assert {job.id: job.status for job in queue.find()} == {
        "g": "waiting", "g-1": "pending", "g-2": "pending", "later": "waiting",
    }  # fmt: skip
    complete(queue, "g-1")
    queue.settle_waiting()
    assert queue.get("later").status == "pending"


def test_priority(fc: Fc, queue: JobQueue) -> None:
    for job_id in ("first", "second"):
        add(queue, job_id)
    assert fc("priority", "second", "1") == (0, "second: priority 1.\n", "")
    assert queue.get("second").request.priority == 1, "a later retry of it keeps it"
    assert [job.id for job in queue.claim(1)] == ["second"]
    complete(queue, "first")
    code, _, said = fc("priority", "first", "second", "3")
    assert (code, "Job first is completed" in said) == (1, True)
    assert fc("priority", "first", "11")[0] == 2


# ---- pause


def test_a_paused_queue_claims_nothing_until_it_is_resumed(fc: Fc, queue: JobQueue) -> None:
    add(queue, "a")
    code, said, _ = fc("pause", "--reason", "the GPU is needed")
    assert (code, "The queue is paused since" in said, "(the GPU is needed)" in said) == (0, True, True)
    assert JobQueue(queue._database).claim(5) == []
    since = queue.paused()
    assert fc("pause")[0] == 0
    assert queue.paused() == since, "a second one changes nothing"
    assert "The queue is paused since" in fc("status")[1]
    told = json.loads(fc("status", "--json")[1])["data"]["paused"]
    assert (told["reason"], "@" in told["by"]) == ("the GPU is needed", True)
    assert "paused since" in fc("doctor")[1]
    assert fc("resume") == (0, "The queue goes on.\n", "")
    assert "paused" not in fc("status")[1]
    assert [job.id for job in queue.claim(5)] == ["a"]
    assert fc("resume") == (0, "The queue was not paused.\n", "")


# ---- review of many


def test_many_are_approved_at_once_with_an_answer_each(fc: Fc, queue: JobQueue) -> None:
    for job_id in ("a1", "b1", "c1"):
        add(queue, job_id)
        stop_for_review(queue, job_id, with_output=job_id != "b1")
    code, out, said = fc("approve", "a1", "b1", "c1")
    assert code == 1, "one could not be"
    for line, job_id in zip(out.splitlines(), ("a1", "c1"), strict=True):
        assert line == f"{job_id}: approved at generated_image; it is in the queue again."
    assert "Job b1 cannot be approved" in said
    assert {job.id: job.status for job in queue.find()} == {"a1": "pending", "b1": "needs_review", "c1": "pending"}


def test_a_group_or_all_at_once(fc: Fc, queue: JobQueue) -> None:
    queue.add([NewJob("g", parse_request({"job_type": "group"}), None, "cli")])
    for job_id in ("g-1", "g-2"):
        add(queue, job_id, parent="g")
        stop_for_review(queue, job_id)
    add(queue, "other")
    stop_for_review(queue, "other")
    queue.settle_waiting()
    assert queue.get("g").status == "needs_review"
    assert fc("approve")[0] == fc("approve", "g-1", "--all")[0] == fc("approve", "--group", "other")[0] == 2
    assert fc("approve", "--group", "g")[0] == 0
    assert {job.id: job.status for job in queue.find()} == {
        "g": "waiting", "g-1": "pending", "g-2": "pending", "other": "needs_review",
    }  # fmt: skip
    assert fc("reject", "--all", "--reason", "no")[1] == "other: rejected.\n"
    assert fc("reject", "--all") == (0, "No job waits for a person.\n", "")


# ---- completed jobs


def test_a_completed_job_is_rejected_and_what_went_by_it_is_decided_anew(fc: Fc, queue: JobQueue) -> None:
    queue.add([NewJob("g", parse_request({"job_type": "group"}), None, "cli")])
    for job_id in ("g-1", "g-2"):
        add(queue, job_id, parent="g")
    for job_id in ("next", "begun"):
        add(queue, job_id, after="g-1")
    complete(queue, "g-1")
    complete(queue, "g-2")
    queue.settle_waiting()
    complete(queue, "begun")
    assert (queue.get("g").status, queue.get("next").status) == ("completed", "pending")
    assert fc("reject", "g-1", "--reason", "cross-eyed") == (0, "g-1: rejected.\n", "")
    job = queue.get("g-1")
    assert (job.status, job.error, job.final_image) == ("rejected", "cross-eyed", "/0-generated/g-1.png")
    group = queue.get("g")
    assert (group.status, "g-1 (rejected)" in (group.error or "")) == ("failed", True)
    follower = queue.get("next")
    assert (follower.status, "g-1" in (follower.error or "")) == ("failed", True), "its turn had not come"
    assert queue.get("begun").status == "completed"
    assert fc("retry", "g-1", "--seed", "9")[0] == 0
    assert (queue.get("g").status, queue.get("next").status) == ("waiting", "waiting"), "they come back with it"


def test_a_group_is_rejected_by_its_jobs(fc: Fc, queue: JobQueue) -> None:
    queue.add([NewJob("g", parse_request({"job_type": "group"}), None, "cli")])
    add(queue, "g-1", parent="g")
    stop_for_review(queue, "g-1")
    queue.settle_waiting()
    code, _, said = fc("reject", "g")
    assert (code, "fc reject --group g" in said) == (1, True)
    assert fc("reject", "--group", "g")[0] == 0
    assert queue.get("g").status == "failed"


def test_stars(fc: Fc, queue: JobQueue) -> None:
    for job_id in ("good", "better", "plain", "waits"):
        add(queue, job_id)
        if job_id != "waits":
            complete(queue, job_id)
    assert fc("rate", "good", "4") == (0, "good: ****\n", "")
    assert fc("rate", "better", "5")[0] == 0
    assert "Rated 4 of 5: ****" in fc("show", "good")[1]
    listed = fc("list", "--stars", "4", "--json")[1]
    assert {"good", "better"} == {one["job_id"] for one in json.loads(listed)["data"]}
    assert [one["job_id"] for one in json.loads(fc("list", "--stars", "5", "--json")[1])["data"]] == ["better"]
    assert "*****" in fc("list")[1]
    code, _, said = fc("rate", "waits", "plain", "3")
    assert (code, "Job waits is pending" in said, queue.get("plain").stars) == (1, True, 3)
    assert fc("rate", "good", "6")[0] == 2
    assert fc("retry", "good", "--seed", "2")[0] == 0
    assert queue.get("good").stars is None, "it was about another picture"


# ---- parts of ids


def test_any_part_of_an_id_that_is_unique_is_enough(fc: Fc, queue: JobQueue) -> None:
    for job_id in ("261125-1052-aaaa", "261125-1052-bbbb", "library"):
        add(queue, job_id)
    assert "261125-1052-aaaa" in fc("show", "aaaa")[1]
    assert fc("priority", "bbbb", "libr", "2")[1] == "261125-1052-bbbb: priority 2.\nlibrary: priority 2.\n"
    code, _, said = fc("cancel", "2611")
    assert (code, "261125-1052-bbbb, 261125-1052-aaaa" in said) == (2, True)
    assert fc("show", "lib")[0] == 3, "three characters are too few"
    assert fc("show", "lib%")[0] == fc("show", "____")[0] == 3
    assert fc("submit", "-p", "x", "--after", "aaaa", "--id", "later")[0] == 0
    assert queue.get("later").after_id == "261125-1052-aaaa"
    assert fc("cancel", "rary")[1] == "library: cancelled.\n"
    assert fc("archive", "rary", "nobody")[0] == 3
    assert queue.get("library").status == "archived"


@pytest.mark.parametrize("command", ["show", "history", "release", "retry", "approve", "reject", "restore", "remove"])
def test_every_command_tells_an_ambiguous_one(fc: Fc, queue: JobQueue, instance: Any, command: str) -> None:
    add(queue, "one-knight")
    add(queue, "two-knight")
    code, _, said = fc(command, "knight")
    assert (code, "two-knight, one-knight" in said) == (2, True)

"""Whether the process of a run lives: also when its id was given to another one, or nobody collected it."""

from __future__ import annotations

import os
import subprocess
import time

import dagster as dg
from dagster._core.test_utils import create_run_for_test

from jobs.queue.job_queue import JobQueue
from jobs.runs.lifecycle import fail_dead_runs
from jobs.runs.run_process import _lives
from resources.store.image_store import ImageStore
from tests.graph.test_sensor import tick
from tests.support.graph import add_jobs, claim_batch, run_of


def test_a_process_that_runs_lives() -> None:
    assert _lives(os.getpid(), since=time.time())


def test_a_younger_process_of_the_same_id_is_another_one() -> None:
    assert not _lives(os.getpid(), since=0.0)


def test_a_process_that_nobody_collected_does_not_live() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, not yet collected
    assert not _lives(child.pid, since=time.time())
    child.wait()
    assert not _lives(child.pid, since=time.time())


def test_a_tick_frees_the_slot_and_the_jobs_of_a_dead_run(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore
) -> None:
    """As after a power cut: the code server, which would have noticed, is gone as well."""
    child = subprocess.Popen(["true"])
    child.wait()
    dead = run_of(instance, child.pid)
    alive = run_of(instance, os.getpid())
    add_jobs(queue, store, {"pony_prompt": "portrait of a woman"})
    claim_batch(queue, "one")
    queue.start("a", run_id=dead.run_id, batch_id="one")
    (request,) = tick(instance)
    assert request.partition_key == "a"
    assert (queue.get("a").status, queue.get("a").attempts) == ("claimed", 1)
    states = {run.run_id: run.status for run in instance.get_runs()}
    assert states == {dead.run_id: dg.DagsterRunStatus.FAILURE, alive.run_id: dg.DagsterRunStatus.STARTED}
    assert fail_dead_runs(instance) == []


def test_a_run_that_told_no_process_yet_is_left_to_dagster(instance: dg.DagsterInstance) -> None:
    create_run_for_test(instance, status=dg.DagsterRunStatus.STARTING)
    assert fail_dead_runs(instance) == []

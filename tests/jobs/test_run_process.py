"""Whether the process of a run lives: also when its id was given to another one, or nobody collected it."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from tempfile import TemporaryDirectory

import dagster as dg
import pytest
from dagster._core.events import JobFailureData, RunFailureReason
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


@pytest.mark.parametrize("server_lives", [True, False])
def test_a_run_that_died_with_its_code_server_makes_no_suspect(
    server_lives: bool, instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore
) -> None:
    """As after a power cut or a hard restart of all; the run that dies alone is held against the job in hand."""
    child = subprocess.Popen(["true"])
    child.wait()
    add_jobs(queue, store, {"pony_prompt": "portrait of a woman"}, {"pony_prompt": "portrait of a man"})
    claim_batch(queue, "one")
    with TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
        address = f"{folder}/code-server"  # short, as such an address must be
        server.bind(address)
        if server_lives:
            server.listen()
        dead = run_of(instance, child.pid, socket=address)
        queue.start("a", run_id=dead.run_id, batch_id="one")
        queue.begin_stage("a", "job_request", run_id=dead.run_id, content_key="key", input={})
        tick(instance)
    job, neighbour = queue.get("a"), queue.get("b")
    assert (job.solo, job.idle_deaths) == ((True, 0) if server_lives else (False, 1))
    assert (job.attempts, neighbour.attempts, neighbour.solo) == (1, 0, False)


def test_a_run_that_was_told_to_stop_makes_no_suspect(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore
) -> None:
    """Dagster records it as a failure, with the reason: nobody had asked for it in the UI."""
    run = run_of(instance, os.getpid())
    add_jobs(queue, store, {"pony_prompt": "portrait of a woman"}, hold=True)
    queue.start("a", run_id=run.run_id, batch_id=None)
    queue.begin_stage("a", "job_request", run_id=run.run_id, content_key="key", input={})
    told = JobFailureData(error=None, failure_reason=RunFailureReason.UNEXPECTED_TERMINATION)
    instance.report_run_failed(run, "Execution was interrupted unexpectedly.", told)
    tick(instance)
    assert (queue.get("a").solo, queue.get("a").idle_deaths) == (False, 1)


def test_a_run_that_told_no_process_yet_is_left_to_dagster(instance: dg.DagsterInstance) -> None:
    create_run_for_test(instance, status=dg.DagsterRunStatus.STARTING)
    assert fail_dead_runs(instance) == []

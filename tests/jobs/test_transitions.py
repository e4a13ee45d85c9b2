"""No sequence of calls to the queue breaks the table of a job's life. On SQLite and on Postgres."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import select

from jobs.model.faults import Fault
from jobs.model.job import Job, JobBusyError, NewJob
from jobs.model.job_types import JOB_TYPES
from jobs.model.request import parse_request
from jobs.model.stages import STAGES
from jobs.model.transitions import FINAL, JOB_STATUSES, TRANSITIONS, Actor, JobStatus, sources
from jobs.queue.job_queue import JobQueue
from resources.database import AttemptRow, Base, Database, ResultRow

FIRST = frozenset({"pending", "held", "waiting"})  # the statuses that a new job may have
JOBS = st.sampled_from("ab")
RUNS = st.sampled_from(["own", "own", "own", "run-1", "run-2"])  # own: the one that has the job, so that calls meet
SOME_STAGES = st.sampled_from(["generated_image", "portrait", "mask"])
WORDS = {"what": "W.", "hint": "M."}


def test_the_table_names_every_status_and_each_can_be_reached() -> None:
    assert set(TRANSITIONS) == set(JOB_STATUSES)
    reached = set(FIRST)
    while more := {after for before in reached for after in TRANSITIONS[before]} - reached:
        reached |= more
    assert reached == set(JOB_STATUSES)
    assert {"completed", "needs_review", "failed", "cancelled", "rejected", "archived"} == FINAL


def test_sources_are_read_from_the_table() -> None:
    assert sources("claimed", by="sensor") == ("pending",)
    assert sources("claimed", by="person") == ()
    assert set(sources("cancelled", by="person")) == {"held", "waiting", "pending", "claimed", "running"}


def machine(database: Database) -> type[RuleBasedStateMachine]:  # noqa: C901 - one rule per call of the queue
    queue = JobQueue(database)

    class Life(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            with database.session() as session:
                for table in reversed(Base.metadata.sorted_tables):
                    session.execute(table.delete())
            self.before: dict[str, Job] = {}

        @initialize(hold=st.booleans(), group=st.booleans(), after=st.booleans())
        def add(self, hold: bool, group: bool, after: bool) -> None:
            parent = "g" if group else None
            if group:
                queue.add([NewJob("g", parse_request({"job_type": "group"}), None, "cli")])
            for job_id in "ab":
                request = parse_request({"pony_prompt": "x", "seed": 1})
                before = "a" if after and job_id == "b" else None
                hold_it = hold and job_id == "b"
                queue.add([NewJob(job_id, request, None, "cli", parent_id=parent, after_id=before, hold=hold_it)])
            self.before = {job.id: job for job in queue.find()}
            assert {job.status for job in self.before.values()} <= FIRST

        def own(self, job: str, run: str) -> str:
            return (self.before[job].run_id or "run-1") if run == "own" else run

        def step(self, actor: Actor, call: Callable[[], object]) -> None:
            """Make a call; every status that it changed is one that the actor may change so."""
            try:
                call()
            except JobBusyError:
                assert {job.id: job for job in queue.find()} == self.before, "a refusal changes nothing"
            after = {job.id: job for job in queue.find()}
            for job_id, job in after.items():
                was: JobStatus = self.before[job_id].status
                if job.status != was:
                    assert actor in TRANSITIONS[was].get(job.status, ()), f"{was} -> {job.status} by {actor}"
            self.before = after

        @rule(limit=st.integers(0, 3))
        def claim(self, limit: int) -> None:
            self.step("sensor", lambda: queue.claim(limit))

        @rule(some=st.lists(JOBS, max_size=3), batch=st.sampled_from(["b-1", "b-2"]))
        def batch(self, some: list[str], batch: str) -> None:
            self.step("sensor", lambda: queue.assign_batch(batch, some))

        @rule(job=JOBS, run=RUNS, batch=st.sampled_from(["b-1", "b-2"]))
        def start(self, job: str, run: str, batch: str) -> None:
            run, batch = self.own(job, run), self.before[job].batch_id or batch
            self.step("run", lambda: queue.start(job, run_id=run, batch_id=batch))

        @rule(job=JOBS, run=RUNS)
        def start_by_hand(self, job: str, run: str) -> None:
            run = self.own(job, run)
            self.step("person", lambda: queue.start(job, run_id=run, batch_id=None))

        @rule(job=JOBS, run=RUNS, stage=SOME_STAGES)
        def begin(self, job: str, run: str, stage: str) -> None:
            run = self.own(job, run)
            self.step("run", lambda: queue.begin_stage(job, stage, run_id=run, content_key="k", input={}))

        @rule(job=JOBS, run=RUNS, stage=SOME_STAGES, cached=st.booleans())
        def finish(self, job: str, run: str, stage: str, cached: bool) -> None:
            run = self.own(job, run)
            self.step(
                "run",
                lambda: queue.finish_stage(
                    job, stage, run_id=run, output={}, milliseconds=1, content_key="k", cached=cached
                ),
            )

        @rule(job=JOBS, run=RUNS, stage=SOME_STAGES)
        def turned_down(self, job: str, run: str, stage: str) -> None:
            run = self.own(job, run)
            self.step(
                "run",
                lambda: queue.hold_for_review(
                    job, stage, run_id=run, output={"path": "p", "metadata": {}}, milliseconds=1, **WORDS
                ),
            )

        @rule(job=JOBS, run=RUNS, how=st.sampled_from(["review", "reject", "fail"]))
        def end(self, job: str, run: str, how: str) -> None:
            run = self.own(job, run)
            self.step("run", lambda: getattr(queue, how)(job, run_id=run, stage="mask", **WORDS))

        @rule(job=JOBS, run=RUNS)
        def complete(self, job: str, run: str) -> None:
            run = self.own(job, run)
            self.step("run", lambda: queue.complete(job, run_id=run))

        @rule(
            job=JOBS, run=RUNS, most=st.integers(1, 3), fault=st.sampled_from(["crash", "crash", "service", "memory"])
        )
        def retry_later(self, job: str, run: str, most: int, fault: Fault) -> None:
            run = self.own(job, run)
            self.step(
                "run",
                lambda: queue.retry_later(job, run_id=run, stage="mask", fault=fault, max_attempts=most, **WORDS),
            )

        @rule(some=st.lists(JOBS), run=RUNS, to=st.sampled_from(["pending", "held"]))
        def release(self, some: list[str], run: str, to: str) -> None:
            run = self.own("a", run)
            self.step("run", lambda: queue.release(some, run_id=run, status=to))

        @rule(
            run=RUNS,
            batch=st.sampled_from([None, "b-1", "b-2"]),
            outcome=st.sampled_from(["success", "failure", "cancelled"]),
            most=st.integers(1, 3),
        )
        def settle(self, run: str, batch: str | None, outcome: str, most: int) -> None:
            run = self.own("a", run)
            self.step(
                "sensor",
                lambda: queue.settle_run(run, batch_id=batch, outcome=outcome, error="E.", max_attempts=most),
            )

        @rule()
        def settle_waiting(self) -> None:
            self.step("sensor", queue.settle_waiting)
            assert queue.settle_waiting() == {}, "once is enough"
            for job in self.before.values():
                waits_for = [one for one in self.before.values() if job.id == one.parent_id or job.after_id == one.id]
                assert job.status != "waiting" or not {one.status for one in waits_for} <= FINAL

        @invariant()
        def a_group_is_over_only_when_its_jobs_are(self) -> None:
            for job in self.before.values():
                children = {one.status for one in self.before.values() if one.parent_id == job.id}
                assert children <= FINAL or job.status not in FINAL - {"archived"}

        @rule(some=st.lists(st.sampled_from(["a", "b", "g"]), min_size=1, max_size=2))
        def cancel_with_groups(self, some: list[str]) -> None:
            known = [job for job in some if job in self.before]
            self.step("person", lambda: queue.cancel(known))

        @rule(some=st.lists(JOBS, min_size=1, max_size=2))
        def cancel(self, some: list[str]) -> None:
            self.step("person", lambda: queue.cancel(some))

        @rule(job=JOBS, stage=st.sampled_from([None, *STAGES]))
        def retry(self, job: str, stage: str | None) -> None:
            self.step("person", lambda: queue.retry(job, from_stage=stage))

        @rule(job=JOBS)
        def approve(self, job: str) -> None:
            self.step("person", lambda: queue.approve(job))

        @rule(job=JOBS)
        def turn_down(self, job: str) -> None:
            self.step("person", lambda: queue.turn_down(job, reason="R."))

        @rule(job=st.sampled_from(["a", "b", "g"]))
        def release_held(self, job: str) -> None:
            if job in self.before:
                self.step("person", lambda: queue.release_held(job))

        @rule(job=st.sampled_from(["a", "b", "g"]), priority=st.integers(1, 10))
        def set_priority(self, job: str, priority: int) -> None:
            if job in self.before:
                self.step("person", lambda: queue.set_priority(job, priority))

        @rule(job=JOBS, stars=st.integers(1, 5))
        def rate(self, job: str, stars: int) -> None:
            self.step("person", lambda: queue.rate(job, stars))

        @rule(pause=st.booleans())
        def pause(self, pause: bool) -> None:
            self.step("person", lambda: queue.pause(by="me") if pause else queue.resume(by="me"))
            assert pause == (queue.paused() is not None)
            if pause:
                assert queue.claim(3) == []

        @rule(job=JOBS)
        def archive(self, job: str) -> None:
            self.step("person", lambda: queue.archive([job]))

        @invariant()
        def rows_agree_with_the_status(self) -> None:
            for job in self.before.values():
                assert (job.run_id is not None) or job.status != "running"
                assert job.status not in {"pending", "held", "waiting"} or (job.run_id, job.batch_id) == (None, None)
                assert (job.finished_at is not None) == (job.status in FINAL)
                assert set(job.stages_completed) <= set(JOB_TYPES[job.job_type].stages)
            with database.reader() as session:
                at_work = set(session.scalars(select(ResultRow.job_id).where(ResultRow.status == "running")))
                attempts = set(session.scalars(select(AttemptRow.job_id).where(AttemptRow.verdict == "running")))
            running = {job.id for job in self.before.values() if job.status == "running"}
            assert at_work <= running, "a stage runs only in a job that runs"
            assert attempts <= running

    return Life


def test_no_sequence_of_calls_breaks_the_table(any_database: Database) -> None:
    run_state_machine_as_test(
        machine(any_database),
        settings=settings(
            max_examples=25, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


@pytest.mark.parametrize("status", sorted(set(JOB_STATUSES) - {"held", "waiting", "pending", "claimed", "running"}))
def test_a_job_that_ended_is_not_cancelled(status: JobStatus) -> None:
    assert "cancelled" not in TRANSITIONS[status]

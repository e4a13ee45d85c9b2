"""How a stage works through the jobs of a run, each apart from its neighbours.

The way of one stage through a run:

1. The partition keys of the run are looked up; the jobs that this run may work on are started, each with its recipe
   (`opening`).
2. For each job the content key is computed: the stage's code version, the hashes of its inputs, the values of the
   recipe and of the back end that decide the result, and how often a person had it made anew. If the stage's stored
   result has the same key and its file still has the same bytes, that is the result (`cached: true`).
3. The rest is worked on, those together that need the same model. Every finished value is stored, logged as
   materialized and recorded in the database at once. A file that differs from the one before replaces it, and the one
   before is kept under `history`.
4. A job that needs review or is rejected ends there; the others go on. What was turned down is kept for `fc approve`.
   A job that fails ends the step, once all its neighbours are through this stage; they go back to the queue, where the
   sensor asks for their next stage anew. The failed job goes there too, alone and after a while, if its kind of fault
   may pass (`jobs.model.faults`), whoever started the run.
5. A job whose last stage of this run is done is completed, or waits for a person to materialize the rest (`endings`).
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import deque
from collections.abc import Collection, Hashable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import cv2

from fc_assets.engine.endings import close, settle
from fc_assets.engine.events import metadata_of, show_end, show_materialization
from fc_assets.engine.keys import before_hash
from fc_assets.engine.limits import time_limit
from fc_assets.engine.opening import open_jobs
from fc_assets.engine.outcome import Done, Item
from fc_assets.engine.results import encode_result
from fc_assets.engine.step import StageOutput, Step
from imaging.errors import BackendError
from jobs.model.job import Job, JobBusyError, StageResult
from jobs.model.job_types import JOB_TYPES
from jobs.recipes.recipe import Recipe
from resources.generators.in_hand import told_of_calls
from resources.store.image_store import StoredFile


@dataclass(frozen=True, slots=True)
class Asked:
    """One job's work at this stage.

    Attributes:
        item: what the stage is given.
        decides: what besides the inputs decides the result.
        content_key: SHA-256 over all that decides it.
        earlier_key: the one that it had by `keys.before_hash`.
    """

    item: Item
    decides: Mapping[str, Any]
    content_key: str
    earlier_key: str


@dataclass(frozen=True, slots=True)
class InHand:
    """The jobs of a group whose stage has begun. A run that dies is held against these, so it is recorded first."""

    step: Step
    asked: Mapping[str, Asked]
    _begun: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, job_id: str) -> None:
        """Record that the work on a job begins, unless it has.

        Raises:
            JobBusyError: the run does not have it any more.
        """
        with self._lock:
            if job_id in self._begun:
                return
            asked = self.asked[job_id]
            self.step.queue.begin_stage(
                job_id,
                self.step.name,
                run_id=self.step.run_id,
                content_key=asked.content_key,
                input={"sha256": dict(asked.item.input_hashes)},
                settings=asked.decides,
            )
            self._begun.add(job_id)

    def begin_all(self, job_ids: Collection[str]) -> None:
        """A call begins that works on these; one that the run has lost is told when its result is asked for."""
        for job_id in job_ids:
            with suppress(JobBusyError):
                self.begin(job_id)


def run(step: Step) -> Iterator[StageOutput]:
    """Work through the jobs of the run's partitions and yield the step's output.

    Raises:
        dagster.Failure: when a job failed, naming each and why.
    """
    # Runs go side by side: on small pictures OpenCV's own threads take a third more CPU time than they save.
    cv2.setNumThreads(1)
    stored: dict[str, StoredFile] = {}
    waiting: dict[Hashable, deque[Asked]] = {}
    opened = open_jobs(step)
    results_of = step.queue.stage_results_of([job.id for job, _ in opened])  # only this run changes them from here on
    for job, recipe in opened:
        with step.failing(job.id):
            before = results_of[job.id]
            asked = _asked(step, job, recipe, before)
            file = _cached(step, asked, before.get(step.name))
            if file is None:
                waiting.setdefault(step.stage.group_by(asked.item, step.tools), deque()).append(asked)
            else:
                stored[job.id] = file
    for group in waiting.values():
        stored |= _work_on(step, group)
    yield from settle(step, stored)


def _work_on(step: Step, waiting: deque[Asked]) -> dict[str, StoredFile]:
    """Make and store the results of a group; what cannot be made becomes the failure of its job."""
    stored: dict[str, StoredFile] = {}
    results: Iterator[Done | Exception] | None = None
    in_hand = InHand(step, {asked.item.job.id: asked for asked in waiting})
    while waiting:
        if results is None:
            results = step.stage.work(tuple(asked.item for asked in waiting), step.tools)
        asked = waiting.popleft()
        job_id = asked.item.job.id
        started = time.monotonic()
        try:
            done = _next_result(step, job_id, results, in_hand)
        except Exception as error:  # noqa: BLE001 - kept as this job's failure
            step.failures[job_id] = error
            results = None  # an iterator that raised is at its end
            continue
        with step.failing(job_id):
            if isinstance(done, Exception):
                raise done
            file = _finish(step, asked, done, started)
            if file is not None:
                stored[job_id] = file
    return stored


def _asked(step: Step, job: Job, recipe: Recipe, before: Mapping[str, StageResult]) -> Asked:
    values = {stage: by_job[job.id] for stage, by_job in step.inputs.items() if job.id in by_job}
    hashes = {stage: str(one.output["sha256"]) for stage, one in before.items() if stage in values and one.output}
    item = Item(job, recipe, values, hashes)
    decides = step.stage.decides(item, step.tools)
    # Not the request as a whole: `decides` has what of it matters here.
    inputs = {stage: sha256 for stage, sha256 in hashes.items() if stage != "job_request"}
    parts: dict[str, Any] = {"stage": step.name, "code": step.stage.code_version, "inputs": inputs}
    if step.name in job.salts:
        parts["salt"] = job.salts[step.name]

    def key(decides: Mapping[str, Any]) -> str:
        return hashlib.sha256(json.dumps({**parts, "decides": decides}, sort_keys=True).encode()).hexdigest()

    own, earlier = key(decides), before_hash(decides)
    return Asked(item, decides, own, own if earlier is decides else key(earlier))


def _cached(step: Step, asked: Asked, result: StageResult | None) -> StoredFile | None:
    """The stored result, if it was made from the same inputs and settings and its file is whole."""
    job = asked.item.job
    if result is None or result.status != "completed" or not _is_of(result, asked):
        return None
    output = dict(result.output or {})
    artifact, renew = step.stage.artifact, step.stage.renew
    try:
        data = step.store.read(*artifact.place(job.id))
    except FileNotFoundError:
        return None
    if hashlib.sha256(data).hexdigest() != output["sha256"]:
        return None
    renewed = renew(asked.item, step.tools, artifact.load(step.store, job.id)) if renew else None
    if renewed is not None:
        return _finish(step, asked, renewed, time.monotonic(), cached=True)
    file = StoredFile(path=output["path"], sha256=output["sha256"], bytes=len(data))
    show_materialization(step, asked.item, file, {**output["metadata"], "cached": True})
    step.queue.finish_stage(
        job.id,
        step.name,
        run_id=step.run_id,
        output=output,
        milliseconds=result.milliseconds or 0,
        cached=True,
        content_key=asked.content_key,
        final_image=file.path if _delivers(step, job) else None,
    )
    close(step, job)
    return file


def _is_of(result: StageResult, asked: Asked) -> bool:
    """Whether a stored result was made from what is asked, be it before the server knew that checkpoint's hash."""
    if result.content_key == asked.content_key:
        return True
    if result.content_key != asked.earlier_key:
        return False
    metadata = (result.output or {})["metadata"]
    made = metadata["faces"] if "faces" in metadata else [metadata["made_by"]]  # of changed_face, or generated_image
    return all(one.get("model_hash") == asked.decides["generator"]["model_hash"] for one in made)


def _next_result(step: Step, job_id: str, results: Iterator[Done | Exception], in_hand: InHand) -> Done | Exception:
    in_hand.begin(job_id)
    limit = time_limit(step.settings.stage_timeout, f"The stage {step.name} of job {job_id}")
    with told_of_calls(in_hand.begin_all), limit:
        done = next(results, None)
    if done is None:
        raise BackendError(
            f"The stage {step.name} gave no result for job {job_id}.", "This is a fault of its back end."
        )
    return done


def _finish(step: Step, asked: Asked, done: Done, started: float, *, cached: bool = False) -> StoredFile | None:
    """Store a result, record it, and show it in Dagster; None for one that a person must look at first.

    Files are encoded here, and written by the queue when it knows that the job is still this run's.
    """
    job = asked.item.job
    result = encode_result(step, job.id, done)
    seconds = time.monotonic() - started
    metadata = metadata_of(step.name, asked.item, done, seconds, cached=cached)
    output = {"path": result.file.path, "sha256": result.file.sha256, "metadata": metadata}
    milliseconds = round(seconds * 1000)
    if done.turned_down is not None:
        step.queue.hold_for_review(
            job.id,
            step.name,
            run_id=step.run_id,
            output=output,
            milliseconds=milliseconds,
            what=done.turned_down.what,
            hint=done.turned_down.hint,
            images=result.images,
            write=lambda: result.write(step.store),
        )
        show_end(step, job.id, "needs_review", done.turned_down, metadata)
        return None

    def write_and_show() -> None:
        # Shown first, then recorded: after a crash in between the stage is made and shown again. The other way
        # round the job would go on behind a stage that Dagster never shows.
        result.write(step.store)
        show_materialization(step, asked.item, result.file, metadata)

    step.queue.finish_stage(
        job.id,
        step.name,
        run_id=step.run_id,
        output=output,
        milliseconds=milliseconds,
        cached=cached,
        content_key=asked.content_key,
        images=result.images,
        final_image=result.file.path if _delivers(step, job) else None,
        write=write_and_show,
    )
    close(step, job)
    return result.file


def _delivers(step: Step, job: Job) -> bool:
    """Whether this stage's file is the picture to deliver."""
    return JOB_TYPES[job.job_type].delivers == step.name

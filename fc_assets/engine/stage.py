"""How a stage works through the jobs of a run, each apart from its neighbours.

The way of one stage through a run:

1. `Stage.open` takes the partition keys of the run, looks their jobs up, and starts those that this run may work on.
2. For each job it computes the content key: the stage's code version, the hashes of its inputs, the settings and
   fields of the request that decide the result, and how often a person had it made anew. If the stage's stored result
   has the same key and its file still has the same bytes, that is the result (`cached: true`).
3. The rest is worked on. Every finished value is stored, logged as materialized and recorded in the database at once.
   A file that differs from the one before replaces it, and the one before is kept under `history`.
4. A job that needs review or is rejected ends there; the others go on. What was turned down is kept for `fc approve`.
   A job that fails ends the step, once all its neighbours are through this stage; they go back to the queue, where the
   sensor asks for their next stage anew. The failed job goes there too, alone and after a while, if its kind of fault
   may pass (`jobs.model.faults`), whoever started the run.
5. A job whose last stage of this run is done is completed, or waits for a person to materialize the rest.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import cv2
import dagster as dg
import numpy as np
from dagster_postgres.utils import DagsterPostgresException
from numpy.typing import NDArray
from sqlalchemy.exc import SQLAlchemyError

from fc_assets.engine.limits import time_limit
from imaging.errors import BackendError, FaceChangerError, NeedsReviewError, RejectedError, TransientError
from imaging.files.provenance import encode_png
from imaging.files.thumbnail import thumbnail_markdown
from jobs.model.faults import fault_of, most_attempts
from jobs.model.job import ImageRow, Job, JobBusyError, StageResult
from jobs.model.stages import PLANS
from jobs.model.transitions import FINAL
from jobs.queue.job_queue import JobQueue
from jobs.runs.lifecycle import BATCH_TAG, settle_if_over
from resources.artifacts import stage_files
from resources.settings import Settings, load_settings
from resources.store.image_store import ImageStore, StoredFile

# Dagster logs every partition of a range as materialized once a step yields its output, also those that this run left
# out. The stages log each job themselves, so the automatic event is turned off by the one key with which Dagster does
# so for its own observation assets. tests/graph/test_graph_runs.py holds this.
_NO_AUTOMATIC_EVENT: Final = {"__source_asset_observation__": True}


@dataclass(frozen=True, slots=True)
class ExtraImage:
    """A picture that is kept beside the stage's value, for people to look at: uint8, RGB or grey."""

    folder: str
    name: str
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Done:
    """The result of one stage for one job.

    Attributes:
        value: what the next stages read; see `resources.artifacts.records`.
        metadata: what the Dagster UI shows for this partition; JSON values.
        picture: uint8 pixels of the thumbnail, RGB or grey; None for a stage without a picture.
        extras: further pictures to keep.
        face_boxes: (left, top, right, bottom) of the faces in `picture`, when they are known.
        quality: 0 to 1, when it was measured.
        turned_down: why a person must look at it first; the value is kept, and taken if the person approves.
    """

    value: Any
    metadata: Mapping[str, Any] = field(default_factory=dict)
    picture: NDArray[np.uint8] | None = None
    extras: Sequence[ExtraImage] = ()
    face_boxes: Sequence[tuple[int, int, int, int]] | None = None
    quality: float | None = None
    turned_down: NeedsReviewError | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One job at one stage.

    Attributes:
        job: the job.
        inputs: the values of earlier stages, by stage; a stage that the job does not have is missing.
        input_hashes: SHA-256 of the same stages' files.
        content_key: SHA-256 over all that decides the result.
        decides: what besides the inputs went into it.
    """

    job: Job
    inputs: Mapping[str, Any]
    input_hashes: Mapping[str, str]
    content_key: str
    decides: Mapping[str, Any]

    def needs(self, stage: str) -> Any:  # noqa: ANN401 - the value of any stage
        """The value of an earlier stage.

        Raises:
            BackendError: when the job does not have it yet.
        """
        if stage not in self.inputs:
            raise BackendError(
                f"Job {self.job.id} has no {stage} yet.", f"Materialize {stage} of this partition first."
            )
        return self.inputs[stage]


StageOutput = dg.Output[dict[str, StoredFile]]
Work = Callable[[Sequence[Item]], Iterator[Done | Exception]]


def one_by_one(work: Callable[[Item], Done]) -> Work:
    """A stage that works on one job at a time."""
    return lambda items: (work(item) for item in items)


@dataclass
class Stage:
    """One stage in one run.

    Attributes:
        context: Dagster's context of the step.
        store: where values go.
        queue: where each job's life is recorded.
        inputs: the values of earlier stages: stage name to job id to value.
        failures: why a job failed in this step, by job id; one that has failed before `run` is not worked on.
        changed: jobs whose request this step has changed; the queue goes on with what the run leaves of them.
    """

    context: dg.AssetExecutionContext
    store: ImageStore
    queue: JobQueue
    inputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    settings: Settings = field(default_factory=load_settings)
    failures: dict[str, Exception] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    _told: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        """The stage's name, which is its asset's key."""
        return str(self.context.asset_key.path[-1])

    @property
    def run_id(self) -> str:
        """The Dagster run."""
        return str(self.context.run.run_id)

    @property
    def batch_id(self) -> str | None:
        """The batch that the sensor asked this run for; None when a person started it."""
        return self.context.run.tags.get(BATCH_TAG)

    @property
    def code_version(self) -> str:
        """The asset's code version."""
        return str(self.context.assets_def.code_versions_by_key[self.context.asset_key])

    @cached_property
    def _input_events(self) -> dict[str, Mapping[str, int]]:
        """Which event each input of each job was materialized by; Dagster tells from it what is out of date."""
        return {
            stage: self.context.instance.get_latest_storage_id_by_partition(
                dg.AssetKey(stage), dg.DagsterEventType.ASSET_MATERIALIZATION, set(by_job)
            )
            for stage, by_job in self.inputs.items()
        }

    def tell_once(self, text: str) -> None:
        """Put a line into the run's log, unless this step has done so: a line per job would cost more than the job."""
        if text not in self._told:
            self._told.add(text)
            self.context.log.info(text)

    def run(self, work: Work, decides: Callable[[Job], Mapping[str, Any]]) -> Iterator[StageOutput]:
        """Work through the jobs of the run's partitions and yield the step's output.

        Args:
            work: makes the results of several jobs, in their order. It yields an error for a job that fails, or
                raises it; after a raise it is called again for the jobs behind that one.
            decides: everything besides the inputs that decides a job's result: request fields, settings of the back
                end. JSON values.

        Raises:
            dagster.Failure: when a job failed, naming each and why.
        """
        # Runs go side by side: on small pictures OpenCV's own threads take a third more CPU time than they save.
        cv2.setNumThreads(1)
        stored: dict[str, StoredFile] = {}
        waiting: deque[Item] = deque()
        jobs = self._open()
        results_of = self.queue.stage_results_of([job.id for job in jobs])  # only this run changes them from here on
        for job in jobs:
            with self._failing(job.id):
                before = results_of[job.id]
                item = self._item(job, before, decides(job))
                file = self._cached(item, before.get(self.name))
                if file is None:
                    waiting.append(item)
                else:
                    stored[job.id] = file
        results: Iterator[Done | Exception] | None = None
        while waiting:
            if results is None:
                results = work(tuple(waiting))
            item = waiting.popleft()
            started = time.monotonic()
            try:
                done = self._next_result(item, results)
            except Exception as error:  # noqa: BLE001 - kept as this job's failure
                self.failures[item.job.id] = error
                results = None  # an iterator that raised is at its end
                continue
            with self._failing(item.job.id):
                if isinstance(done, Exception):
                    raise done
                file = self._finish(item, done, started)
                if file is not None:
                    stored[item.job.id] = file
        yield from self._settle(stored)

    @contextmanager
    def _failing(self, job_id: str) -> Iterator[None]:
        """Keep an exception of the block as the failure of one job, and go on."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - kept; `_settle` ends the job with it
            self.failures[job_id] = error

    def _open(self) -> list[Job]:
        """The jobs that this stage is to work on, in the order of their partitions, started.

        Left out: jobs that ended earlier in this run, and jobs whose type has no such stage. An unknown job, or one
        that another run works on, becomes a failure.
        """
        keys = [key for key in self.context.partition_keys if key not in self.failures]
        known = self.queue.get_many(keys)
        opened = []
        for key in keys:
            with self._failing(key):
                if key not in known:
                    raise BackendError(
                        f"There is no job {key} in the face-changer database.",
                        "Materialize its job_request with the request as run config, or use `fc submit`.",
                    )
                job = known[key]
                if self.name not in PLANS[job.job_type]:
                    self.context.log.info(f"{key}: a {job.job_type} job has no stage {self.name}; nothing to do.")
                elif self._ended_here(job):
                    self.context.log.info(f"{key}: ended earlier in this run as {job.status}; nothing to do.")
                else:
                    mine = job.status == "running" and job.run_id == self.run_id
                    opened.append(job if mine else self.start(job))
        return opened

    def start(self, job: Job) -> Job:
        """Give a job to this run.

        Raises:
            JobBusyError: it may not have the job.
        """
        try:
            return self.queue.start(job.id, run_id=self.run_id, batch_id=self.batch_id)
        except JobBusyError:
            # The run that has it may have died while no daemon was there to notice.
            if job.run_id is None or not settle_if_over(self.context.instance, self.queue, job.run_id, self.settings):
                raise
            return self.queue.start(job.id, run_id=self.run_id, batch_id=self.batch_id)

    def _ended_here(self, job: Job) -> bool:
        return job.run_id == self.run_id and job.status in FINAL

    def _item(self, job: Job, before: Mapping[str, StageResult], decides: Mapping[str, Any]) -> Item:
        values = {stage: by_job[job.id] for stage, by_job in self.inputs.items() if job.id in by_job}
        hashes = {stage: str(one.output["sha256"]) for stage, one in before.items() if stage in values and one.output}
        # Not the request as a whole: `decides` has those of its fields that matter here.
        inputs = {stage: sha256 for stage, sha256 in hashes.items() if stage != "job_request"}
        parts: dict[str, Any] = {"stage": self.name, "code": self.code_version, "inputs": inputs, "decides": decides}
        if self.name in job.salts:
            parts["salt"] = job.salts[self.name]
        text = json.dumps(parts, sort_keys=True)
        return Item(job, values, hashes, hashlib.sha256(text.encode()).hexdigest(), decides)

    def _cached(self, item: Item, result: StageResult | None) -> StoredFile | None:
        """The stored result, if it was made from the same inputs and settings and its file is whole."""
        job_id = item.job.id
        if result is None or result.status != "completed" or result.content_key != item.content_key:
            return None
        output = dict(result.output or {})
        try:
            data = self.store.read(*stage_files.main_file(self.name, job_id))
        except FileNotFoundError:
            return None
        if hashlib.sha256(data).hexdigest() != output["sha256"]:
            return None
        file = StoredFile(path=output["path"], sha256=output["sha256"], bytes=len(data))
        self._log_materialization(item, file, {**output["metadata"], "cached": True})
        self.queue.finish_stage(
            job_id,
            self.name,
            run_id=self.run_id,
            output=output,
            milliseconds=result.milliseconds or 0,
            cached=True,
            content_key=item.content_key,
            final_image=file.path if self._makes_final(item.job) else None,
        )
        self._close(item.job)
        return file

    def _next_result(self, item: Item, results: Iterator[Done | Exception]) -> Done | Exception:
        self.queue.begin_stage(
            item.job.id,
            self.name,
            run_id=self.run_id,
            content_key=item.content_key,
            input={"sha256": dict(item.input_hashes)},
            settings=item.decides,
        )
        with time_limit(self.settings.stage_timeout, f"The stage {self.name} of job {item.job.id}"):
            done = next(results, None)
        if done is None:
            raise BackendError(
                f"The stage {self.name} gave no result for job {item.job.id}.",
                "This is a fault of its back end.",
            )
        return done

    def _finish(self, item: Item, done: Done, started: float) -> StoredFile | None:
        """Store a result, record it, and show it in Dagster; None for one that a person must look at first.

        Files are encoded here, and written by the queue when it knows that the job is still this run's.
        """
        job = item.job
        different = {id(extra.pixels): extra.pixels for extra in done.extras}  # one picture may be kept in two folders
        pngs = {key: encode_png(pixels) for key, pixels in different.items()}
        files = [(extra.folder, extra.name, pngs[id(extra.pixels)]) for extra in done.extras]
        extras = [self.store.as_stored(folder, name, data=data) for folder, name, data in files]
        images = [
            _image_row(stored, self.name, extra.pixels) for stored, extra in zip(extras, done.extras, strict=True)
        ]
        files += stage_files.encode(self.name, job.id, done.value)
        folder, name, data = files[-1]
        file = self.store.as_stored(folder, name, data=data)

        def write() -> None:
            for folder, name, data in files:
                self.store.replace(folder, name, data=data)

        if done.picture is not None and self.name in stage_files.PNG_STAGES:
            images.append(_image_row(file, self.name, done.picture, done.face_boxes, done.quality))
        seconds = time.monotonic() - started
        preview = (
            {} if done.picture is None else {"preview": thumbnail_markdown(done.picture, f"{self.name} of {job.id}")}
        )
        metadata = {
            **preview,
            **done.metadata,
            "job_type": job.job_type,
            "seconds": round(seconds, 3),
            "cached": False,
        }
        output = {"path": file.path, "sha256": file.sha256, "metadata": metadata}
        milliseconds = round(seconds * 1000)
        if done.turned_down is not None:
            self.queue.hold_for_review(
                job.id,
                self.name,
                run_id=self.run_id,
                output=output,
                milliseconds=milliseconds,
                what=done.turned_down.what,
                hint=done.turned_down.hint,
                images=images,
                write=write,
            )
            self._tell_end(job.id, "needs_review", done.turned_down, metadata)
            return None

        def write_and_show() -> None:
            # Shown first, then recorded: after a crash in between the stage is made and shown again. The other way
            # round the job would go on behind a stage that Dagster never shows.
            write()
            self._log_materialization(item, file, metadata)

        self.queue.finish_stage(
            job.id,
            self.name,
            run_id=self.run_id,
            output=output,
            milliseconds=milliseconds,
            content_key=item.content_key,
            images=images,
            final_image=file.path if self._makes_final(job) else None,
            write=write_and_show,
        )
        self._close(job)
        return file

    def _makes_final(self, job: Job) -> bool:
        """Whether this stage's file is the picture to deliver."""
        return self.name == "final_image" or (
            self.name == "generated_image" and "final_image" not in PLANS[job.job_type]
        )

    def _log_materialization(self, item: Item, file: StoredFile, metadata: Mapping[str, Any]) -> None:
        shown = {name: _shown(name, value) for name, value in metadata.items()}
        shown["path"] = dg.MetadataValue.path(file.path)
        tags = {"dagster/data_version": file.sha256[:16], "dagster/code_version": self.code_version}
        for stage, sha256 in item.input_hashes.items():
            tags[f"dagster/input_data_version/{stage}"] = sha256[:16]
            tags[f"dagster/input_event_pointer/{stage}"] = str(self._input_events[stage].get(item.job.id, "NULL"))
        self._show(dg.AssetMaterialization(self.context.asset_key, partition=item.job.id, metadata=shown, tags=tags))

    def _show(self, event: dg.AssetMaterialization | dg.AssetObservation) -> None:
        """Log an event of a job's partition.

        Raises:
            TransientError: Dagster's storage did not take it.
        """
        try:
            self.context.log_event(event)
        except (SQLAlchemyError, DagsterPostgresException) as error:
            raise TransientError(
                f"Dagster's storage did not take the {self.name} of job {event.partition}: {type(error).__name__}.",
                "The job is tried again by itself; `fc doctor` says whether the storage answers.",
            ) from error

    def _close(self, job: Job) -> None:
        """End a job whose last stage of this run this was."""
        selected = {key.path[-1] for key in self.context.job_def.asset_layer.executable_asset_keys}
        if self.name != [stage for stage in PLANS[job.job_type] if stage in selected][-1]:
            return
        if self.queue.get(job.id).next_stage is None:
            self.queue.complete(job.id, run_id=self.run_id)
        else:
            # A job that was just made or changed from the UI goes to the queue; any other waits for who runs it.
            made_here = self.name == "job_request" and (job.origin == "ui" or job.id in self.changed)
            self.queue.release([job.id], run_id=self.run_id, status="pending" if made_here else "held")

    def _settle(self, stored: Mapping[str, StoredFile]) -> Iterator[StageOutput]:
        failed = {job_id: error for job_id, error in self.failures.items() if not self._ends_quietly(job_id, error)}
        for job_id, error in failed.items():
            self._fail(job_id, error)
        if failed:
            released = self.queue.release(
                list(stored), run_id=self.run_id, status="pending" if self.batch_id else "held"
            )
            note = f" The others go on in another run: {', '.join(released)}." if released else ""
            raise dg.Failure(
                "; ".join(f"{job_id}: {error}" for job_id, error in failed.items()) + note,
                metadata={"failed": list(failed), "released": released},
                allow_retries=False,
            )
        jobs = self.queue.get_many(list(self.context.partition_keys)).values()
        if not all(self._ended_here(job) for job in jobs):
            yield dg.Output(dict(stored), output_name=self.name, metadata=_NO_AUTOMATIC_EVENT)

    def _ends_quietly(self, job_id: str, error: Exception) -> bool:
        """End a job without failing the step, if its error is an outcome of its own; True if so."""
        if isinstance(error, NeedsReviewError):
            self.queue.review(job_id, run_id=self.run_id, stage=self.name, what=error.what, hint=error.hint)
            self._tell_end(job_id, "needs_review", error)
        elif isinstance(error, RejectedError):
            self.queue.reject(job_id, run_id=self.run_id, stage=self.name, what=error.what, hint=error.hint)
            self._tell_end(job_id, "rejected", error)
        elif not isinstance(error, JobBusyError):
            return False
        elif self.batch_id is None and not self._ended_here(self.queue.get(job_id)):
            return False  # a person asked this run for it; of a batch it was cancelled or taken
        else:
            self.context.log.warning(f"{job_id}: {error}")
        return True

    def _tell_end(
        self, job_id: str, status: str, error: FaceChangerError, metadata: Mapping[str, Any] | None = None
    ) -> None:
        """Show in the run's log, and among the asset's events, that a job stopped here without a result, and why."""
        self.context.log.warning(f"{job_id}: {error}")
        said = {"status": status, "why": error.what, "hint": error.hint, **(metadata or {})}
        shown = {name: _shown(name, value) for name, value in said.items()}
        why = f"{status}: {error.what}"
        self._show(dg.AssetObservation(self.context.asset_key, partition=job_id, description=why, metadata=shown))

    def _fail(self, job_id: str, error: Exception) -> None:
        if isinstance(error, JobBusyError):
            return  # its row belongs to another run
        self.context.log.error(f"{job_id}: {error}", exc_info=error)
        what, hint = explain(error)
        fault = fault_of(error)
        if fault != "permanent":
            self.queue.retry_later(
                job_id,
                run_id=self.run_id,
                stage=self.name,
                what=what,
                hint=hint,
                fault=fault,
                max_attempts=most_attempts(fault, self.settings),
                retry_after=error.retry_after if isinstance(error, TransientError) else None,
            )
        elif not self.queue.fail(job_id, run_id=self.run_id, stage=self.name, what=what, hint=hint):
            self.queue.note_failure(job_id, run_id=self.run_id, stage=self.name, what=what, fault=fault)


def explain(error: Exception) -> tuple[str, str]:
    """What is wrong, and the hint, for the job's row."""
    if isinstance(error, FaceChangerError):
        return error.what, error.hint
    return (
        f"{type(error).__name__}: {error}",
        "This is a fault of face-changer or of the machine; the run's log has the details.",
    )


def _shown(name: str, value: Any) -> Any:  # noqa: ANN401 - JSON in, Dagster metadata out
    if name == "preview":
        return dg.MetadataValue.md(value)
    if isinstance(value, Mapping | list | tuple):
        return dg.MetadataValue.json(value)
    if value is None:
        return dg.MetadataValue.null()
    return value


def _image_row(
    file: StoredFile,
    stage: str,
    pixels: NDArray[np.uint8],
    face_boxes: Sequence[tuple[int, int, int, int]] | None = None,
    quality: float | None = None,
) -> ImageRow:
    return ImageRow(
        path=file.path,
        stage=stage,
        width=pixels.shape[1],
        height=pixels.shape[0],
        format="PNG",
        bytes=file.bytes,
        sha256=file.sha256,
        face_count=None if face_boxes is None else len(face_boxes),
        face_boxes=None if face_boxes is None else [list(box) for box in face_boxes],
        quality_score=quality,
    )

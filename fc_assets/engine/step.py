"""One stage in one Dagster run: what is declared of it, and the state of the step."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import dagster as dg

from fc_assets.engine.outcome import Done, Item
from fc_assets.engine.tools import Tools
from jobs.model.job import Job
from jobs.model.transitions import FINAL
from jobs.queue.job_queue import JobQueue
from jobs.runs.lifecycle import BATCH_TAG
from resources.artifacts.artifact import Artifact
from resources.settings import Settings
from resources.store.image_store import ImageStore, StoredFile

StageOutput = dg.Output[dict[str, StoredFile]]
Work = Callable[[Sequence[Item], Tools], Iterator[Done | Exception]]


@dataclass(frozen=True, slots=True)
class Stage:
    """What is declared of a stage.

    Attributes:
        name: its name, which is its asset's key.
        code_version: raised whenever the code makes other results from the same inputs.
        artifact: what it leaves behind.
        reads: the earlier stages whose values it reads; the first stage reads none.
        work: makes the results of several jobs, in their order. It yields an error for a job that fails, or raises it;
            after a raise it is called again for the jobs behind that one.
        decides: everything besides the inputs that decides a job's result: values of its recipe, settings of the back
            end. JSON values.
        group_by: what the jobs of one call of `work` have in common, such as a model.
        renew: what is to be stored in place of a stored value that was found again; None: it stays.
        prepare: what is done with the step's run config before the jobs are looked up.
        config: the class of that config.
    """

    name: str
    code_version: str
    artifact: Artifact
    reads: tuple[str, ...]
    work: Work
    decides: Callable[[Item, Tools], Mapping[str, Any]]
    group_by: Callable[[Item, Tools], Hashable]
    renew: Callable[[Item, Tools, Any], Done | None] | None = None
    prepare: Callable[[Step, Any], None] | None = None
    config: type[dg.Config] | None = None


@dataclass
class Step:
    """One stage in one run.

    Attributes:
        stage: what is declared of it.
        context: Dagster's context of the step.
        tools: what the stage works with.
        inputs: the values of earlier stages: stage name to job id to value.
        failures: why a job failed in this step, by job id; one that has failed before the loop is not worked on.
        changed: jobs whose request this step has changed; the queue goes on with what the run leaves of them.
    """

    stage: Stage
    context: dg.AssetExecutionContext
    tools: Tools
    inputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    failures: dict[str, Exception] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        """The stage's name."""
        return self.stage.name

    @property
    def is_first(self) -> bool:
        """Whether the life of a job begins here."""
        return not self.stage.reads

    @property
    def queue(self) -> JobQueue:
        """Where each job's life is recorded."""
        return self.tools.queue

    @property
    def store(self) -> ImageStore:
        """Where values go."""
        return self.tools.store

    @property
    def settings(self) -> Settings:
        """Those of this machine."""
        return self.tools.settings

    @property
    def run_id(self) -> str:
        """The Dagster run."""
        return self.tools.run_id

    @property
    def batch_id(self) -> str | None:
        """The batch that the sensor asked this run for; None when a person started it."""
        return self.context.run.tags.get(BATCH_TAG)

    @cached_property
    def input_events(self) -> dict[str, Mapping[str, int]]:
        """Which event each input of each job was materialized by; Dagster tells from it what is out of date."""
        return {
            stage: self.context.instance.get_latest_storage_id_by_partition(
                dg.AssetKey(stage), dg.DagsterEventType.ASSET_MATERIALIZATION, set(by_job)
            )
            for stage, by_job in self.inputs.items()
        }

    @contextmanager
    def failing(self, job_id: str) -> Iterator[None]:
        """Keep an exception of the block as the failure of one job, and go on."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - kept; `settle` ends the job with it
            self.failures[job_id] = error

    def ended_here(self, job: Job) -> bool:
        """Whether the job came to its end in this run."""
        return job.run_id == self.run_id and job.status in FINAL

"""The Dagster run launcher that hands runs to workers by way of Redis, and notices workers that are gone.

It is dagster-celery's launcher, with these gaps closed:

- Celery takes a task of a killed worker for started for ever, so a worker's signs of life are looked at as well.
- A cancelled run is told to stop and cancelled in Dagster; the worker's process, and the model in it, go on.
- Queues other than `dagster` are bound so that Redis delivers to them.

A run is given out once: the message is acknowledged when the work begins. One that a worker had taken and not begun
when it was killed is given to another after VISIBILITY_SECONDS; should it come twice, Dagster ignores the second.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Self

from dagster import DagsterRun, DagsterRunStatus, Field, StringSource
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._serdes import ConfigurableClassData
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG
from kombu.entity import Exchange, Queue

from imaging.errors import SettingsError
from resources.connections import DatabaseResource
from resources.settings import load_settings
from resources.workers import Workers

QUEUES: Final = ("gpu", "cpu")
VISIBILITY_SECONDS: Final = 300
RESULT_SECONDS: Final = 7 * 24 * 3600  # how long Celery remembers a run; longer than any run takes

CELERY: Final[dict[str, Any]] = {
    "accept_content": ["json"],
    "broker_connection_retry_on_startup": True,
    "broker_transport_options": {"visibility_timeout": VISIBILITY_SECONDS},
    "result_expires": RESULT_SECONDS,
    "task_create_missing_queues": False,  # a run for a queue that nobody looks at would wait for ever
    # Redis may be restarted meanwhile: a launch waits for it for about ten minutes before the run fails.
    "task_publish_retry_policy": {"max_retries": 60, "interval_start": 0, "interval_step": 1, "interval_max": 10},
    "worker_disable_prefetch": True,  # a busy worker takes no run that an idle one could do
    "worker_prefetch_multiplier": 1,
    "worker_proc_alive_timeout": 60.0,
    "worker_redirect_stdouts": False,
}


class WorkerRunLauncher(CeleryRunLauncher):
    """Launches runs on the workers that `fc worker` starts; the address of Redis is FC_REDIS_URL.

    Args:
        default_queue: where runs go that name none, such as those started in the Dagster UI: `gpu` or `cpu`.

    Raises:
        SettingsError: FC_REDIS_URL is not set, or there is no such queue.
    """

    def __init__(self, default_queue: str = QUEUES[0], inst_data: ConfigurableClassData | None = None) -> None:
        url = load_settings().redis_url.get_secret_value()
        if not url:
            raise SettingsError(
                "FC_REDIS_URL is not set, and this Dagster instance hands its runs to workers.",
                "Set it, for example to redis://127.0.0.1:6379/0; or use another dagster.yaml.",
            )
        if default_queue not in QUEUES:
            raise SettingsError(
                f"dagster.yaml: default_queue {default_queue!r} is not a queue.", f"Use {' or '.join(QUEUES)}."
            )
        super().__init__(
            default_queue=default_queue, broker=url, backend=url, config_source=dict(CELERY), inst_data=inst_data
        )
        self.celery.conf.task_routes = {}  # each run names its queue
        self.celery.conf.task_queues = [_queue(name) for name in QUEUES]

    @classmethod
    def config_type(cls) -> dict[str, Field]:
        """What dagster.yaml may say."""
        return {"default_queue": Field(StringSource, is_required=False, default_value=QUEUES[0])}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Self:
        """Made by Dagster from dagster.yaml."""
        return cls(inst_data=inst_data, **config_value)

    def terminate(self, run_id: str) -> bool:
        """Cancel a run: one that waits at once; one that a worker has at its next step, in Dagster's own way."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        if DAGSTER_CELERY_TASK_ID_TAG in run.tags:
            # Dagster listens to SIGINT while a run is at work; at any other time the worker's process ignores it.
            self.celery.control.revoke(run.tags[DAGSTER_CELERY_TASK_ID_TAG], terminate=True, signal="SIGINT")
        if run.status in (DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTING):
            self._instance.report_run_canceled(run)
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Whether a worker is still at a started run. Run monitoring fails the run if not, and its jobs are settled."""
        if DAGSTER_CELERY_TASK_ID_TAG not in run.tags:
            return CheckRunHealthResult(WorkerStatus.RUNNING)  # handed over this moment; the tag follows
        found = self.celery.backend.get_task_meta(run.tags[DAGSTER_CELERY_TASK_ID_TAG], cache=False)
        if found["status"] not in ("STARTED", "PENDING"):
            # Run monitoring looks at the run again before it fails it, so one that has just ended well is left alone.
            return CheckRunHealthResult(
                WorkerStatus.FAILED, f"The worker's task ended ({found['status']}) without recording the run's end."
            )
        workers = {worker.name: worker for worker in Workers(DatabaseResource().get()).all()}
        if found["status"] == "STARTED":
            name = found["result"]["hostname"]
        else:  # Redis has lost its memory; the worker has not
            name = next((worker.name for worker in workers.values() if run.run_id in worker.run_ids), None)
        if name not in workers:
            return CheckRunHealthResult(WorkerStatus.FAILED, f"Its worker {name or ''} has stopped.".replace("  ", " "))
        silent = workers[name].silent_seconds
        if silent > load_settings().worker_silence:
            return CheckRunHealthResult(
                WorkerStatus.FAILED, f"Its worker {name} gave no sign of life for {silent:.0f} seconds."
            )
        return CheckRunHealthResult(WorkerStatus.RUNNING)

    def get_run_worker_debug_info(
        self,
        run: DagsterRun,
        include_container_logs: bool | None = True,  # noqa: ARG002, FBT001, FBT002 - Dagster's signature
    ) -> str | None:
        """What Celery knows of the run."""
        task = run.tags.get(DAGSTER_CELERY_TASK_ID_TAG)
        return task and f"Celery task {task}: {self.celery.AsyncResult(task).state}. `fc status` lists the workers."


def _queue(name: str) -> Queue:
    exchange = Exchange(name, type="topic")  # type: ignore[no-untyped-call]
    return Queue(name, exchange, routing_key=f"{name}.#")  # type: ignore[no-untyped-call]

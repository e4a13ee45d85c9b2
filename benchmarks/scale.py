"""What many jobs cost: submitting, looking, one tick of the sensors, with 1k to 100k finished jobs in the database.

    .venv/bin/python benchmarks/scale.py [--finished 1000 10000 100000] [--pending 10000] [--postgres]

Every size has a fresh home. Finished jobs are written behind the queue's back, with the rows that their runs leave (3
stages, 1 image, 5 lines of log), and each has its partition and its materializations in a real Dagster instance. Three
processes follow one another, so that each peak of memory is its own: one fills, one submits (a JSONL file of
`--pending` requests, then single ones), one looks (`fc list`, `fc status`, what `fc doctor --fix` compares, a tick of
`job_requests` that claims and one that finds open batches, a tick of `retention`). Times are the best of several where
that changes nothing, after a first call that pays for the imports. `--postgres` puts the queue on a Postgres server of
its own; Dagster's storage is SQLite either way.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import dagster as dg

REQUEST = {"pony_prompt": "portrait of a woman in the rain, soft light", "width": 512, "height": 512, "seed": 7}
CHUNK = 2000
ENDS = ("needs_review", "failed", "cancelled", "rejected", *["completed"] * 16)


def fill(finished: int) -> dict[str, float]:
    """Write the finished jobs and their partitions."""
    import dagster as dg
    from sqlalchemy import insert

    from jobs.model.job_types import JOB_TYPES
    from jobs.model.request import JobRequest
    from jobs.model.stages import PARTITIONS
    from resources.database import ImageMetadataRow, JobRow, LogRow, ResultRow, StateRow, open_database, utc_now
    from resources.settings import load_settings

    stages = JOB_TYPES["sdxl_generation"].stages
    request = JobRequest(**REQUEST, job_type="sdxl_generation").model_dump(mode="json")
    database = open_database(load_settings().resolved_database_url)
    first = utc_now() - timedelta(days=20)
    started = time.monotonic()
    with dg.DagsterInstance.from_config(os.environ["DAGSTER_HOME"]) as instance:
        for start in range(0, finished, CHUNK):
            rows: dict[type, list[dict[str, Any]]] = {
                table: [] for table in (JobRow, StateRow, ResultRow, ImageMetadataRow, LogRow)
            }
            for number in range(start, min(start + CHUNK, finished)):
                job_id, status, at = f"done-{number:07}", ENDS[number % len(ENDS)], first + timedelta(seconds=number)
                well = status == "completed"
                rows[JobRow].append({
                    "id": job_id, "job_type": "sdxl_generation", "status": status, "priority": 5, "request": request,
                    "attempts": 0, "origin": "cli", "error": None if well else "The face is too small.",
                    "error_stage": None if well else stages[-1], "batch_id": f"batch-{number // 16}",
                    "run_id": f"run-{number // 16}", "solo": False, "created_at": at, "claimed_at": at,
                    "started_at": at, "finished_at": at, "updated_at": at,
                })  # fmt: skip
                rows[StateRow].append({
                    "job_id": job_id, "current_stage": stages[-1], "stages_completed": list(stages),
                    "run_ids": [f"run-{number // 16}"],
                    "final_image": f"0-generated/{job_id}.png" if well else None,
                })  # fmt: skip
                rows[ResultRow] += [
                    {
                        "job_id": job_id, "stage": stage, "status": "completed", "input": {"sha256": "0" * 64},
                        "output": {"path": f"{job_id}.png", "sha256": "0" * 64}, "milliseconds": 100, "cached": False,
                        "run_id": f"run-{number // 16}", "content_key": "0" * 64, "runs": 1, "started_at": at,
                        "finished_at": at,
                    }
                    for stage in stages
                ]  # fmt: skip
                rows[ImageMetadataRow].append({
                    "job_id": job_id, "path": f"0-generated/{job_id}.png", "stage": stages[-1], "width": 512,
                    "height": 512, "format": "PNG", "bytes": 400_000, "sha256": "0" * 64,
                })  # fmt: skip
                rows[LogRow] += [
                    {"at": at, "level": "info", "job_id": job_id, "message": message}
                    for message in ("added by cli", "claimed", "put into a batch", "started", status)
                ]
            with database.session() as session:
                for table, some in rows.items():
                    session.execute(insert(table), some)
            job_ids = [row["id"] for row in rows[JobRow]]
            instance.add_dynamic_partitions(PARTITIONS, job_ids)
            for stage in stages:
                _show(instance, stage, job_ids)
    database.dispose()
    return {"fill": time.monotonic() - started}


def _show(instance: dg.DagsterInstance, stage: str, job_ids: list[str]) -> None:
    """Materializations of one stage: the first is Dagster's own, the others are copies of its row."""
    import dagster as dg
    from dagster._core.storage.event_log.schema import SqlEventLogStorageTable as Events
    from sqlalchemy import insert, select

    instance.report_runless_asset_event(dg.AssetMaterialization(stage, partition=job_ids[0]))
    with instance.event_log_storage.index_connection() as connection:
        first = connection.execute(select(Events).order_by(Events.c.id.desc()).limit(1)).mappings().one()
        row = {name: value for name, value in first.items() if name != "id"}
        connection.execute(insert(Events), [{**row, "partition": job_id} for job_id in job_ids[1:]])


def submit(pending: int) -> dict[str, float]:
    """Submit a file of many requests, then single ones."""
    home = Path(os.environ["DAGSTER_HOME"])
    many = home / "many.jsonl"
    many.write_text(
        "".join(json.dumps({**REQUEST, "tags": {"number": str(number)}}) + "\n" for number in range(pending))
    )
    _fc("submit", "-p", "a knight", "--seed", "1")
    found = {"many": _seconds(lambda: _fc("submit", "-f", str(many)))}
    found["one"] = min(_seconds(lambda: _fc("submit", "-p", "a knight", "--seed", "1")) for _ in range(10))
    return found | {"submit_mb": _peak_mb()}


def read_and_tick() -> dict[str, float]:
    """Look at the jobs, and do one tick of each sensor."""
    import dagster as dg

    from jobs.queue.job_queue import JobQueue
    from jobs.runs.repair import Stores, find_disagreements
    from resources.connections import DatabaseResource, StoreResource
    from resources.database import open_database
    from resources.settings import load_settings
    from resources.store.image_store import ImageStore
    from sensors.job_requests import job_requests
    from sensors.retention import retention

    found = {}
    for name, arguments in (
        ("list", ["list"]),
        ("list_failed", ["list", "--status", "failed"]),
        ("status", ["status"]),
    ):
        _fc(*arguments)
        found[name] = min(_seconds(lambda given=arguments: _fc(*given)) for _ in range(3))
    with dg.DagsterInstance.from_config(os.environ["DAGSTER_HOME"]) as instance:
        settings = load_settings()
        queue = JobQueue(open_database(settings.resolved_database_url))
        stores = Stores(instance, queue, ImageStore(settings.resolved_data_dir), settings)
        found["doctor"] = _seconds(lambda: _expect_none(find_disagreements(stores, fix=True)))
        both = {"database": DatabaseResource(), "store": StoreResource()}
        for name, sensor, resources in (
            ("claiming", job_requests, both),
            ("waiting", job_requests, both),
            ("retention", retention, {"database": both["database"]}),
        ):
            context = dg.build_sensor_context(instance=instance, resources=resources)
            found[name] = _seconds(lambda sensor=sensor, context=context: sensor(context))
            if name != "retention":
                found[f"{name}_mb"] = _peak_mb()
    return found | {"look_mb": _peak_mb()}


def _fc(*arguments: str) -> None:
    """One call of the command, in this process, its output thrown away."""
    from jobs.cli.main import main

    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        try:
            main(arguments)
        except SystemExit as end:
            if end.code:
                raise


def _expect_none(found: Iterable[object]) -> None:
    """Else something else was measured."""
    if first := next(iter(found), None):
        raise RuntimeError(f"The filled databases disagree: {str(first)[:300]}")


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)


@contextlib.contextmanager
def fresh_home(*, postgres: bool) -> Iterator[None]:
    """A home and a database of their own, in the environment of the processes that are started."""
    from resources.settings import PROJECT_ROOT

    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="face-changer-scale-")))
        shutil.copy(PROJECT_ROOT / "dagster.yaml", home)
        url = f"sqlite:///{home}/face-changer.sqlite"
        if postgres:
            sys.path.insert(0, str(PROJECT_ROOT))
            from tests.support.postgres import running_postgres

            url = stack.enter_context(running_postgres())
        os.environ.update(
            DAGSTER_HOME=str(home),
            FC_DATABASE_URL=url,
            FC_DATA_DIR=str(home / "data"),
            FC_GENERATOR="sketch",
            FC_WRITER="offline",
            FC_DETECTOR="haar",
        )
        yield


def measure(finished: int, pending: int, *, postgres: bool) -> dict[str, float]:
    """All figures of one size, each part in a process of its own."""
    found: dict[str, float] = {}
    with fresh_home(postgres=postgres):
        for work, given in ((fill, (finished,)), (submit, (pending,)), (read_and_tick, ())):
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                found |= pool.submit(work, *given).result()
    return found


ROWS = (
    ("submit one job, ms", "one", 1000),
    ("submit all pending in one JSONL, s", "many", 1),
    ("`fc list`, s", "list", 1),
    ("`fc list --status failed`, s", "list_failed", 1),
    ("`fc status`, s", "status", 1),
    ("what `fc doctor --fix` compares, s", "doctor", 1),
    ("tick of job_requests that claims 64, s", "claiming", 1),
    ("tick of job_requests with 4 open batches, s", "waiting", 1),
    ("tick of retention that removes 200, s", "retention", 1),
    ("peak memory of submitting, MB", "submit_mb", 1),
    ("peak memory of list, status, doctor and job_requests, MB", "waiting_mb", 1),
    ("peak memory with retention, MB", "look_mb", 1),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--finished", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--pending", type=int, default=10_000)
    parser.add_argument("--postgres", action="store_true")
    given = parser.parse_args()
    print(
        f"{given.pending} pending jobs on {'Postgres' if given.postgres else 'SQLite'}; {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, dagster {version('dagster')}, {platform.system()} {platform.machine()}",
        flush=True,
    )
    sizes = [measure(size, given.pending, postgres=given.postgres) for size in given.finished]
    print("| finished jobs | " + " | ".join(f"{size:,}" for size in given.finished) + " |")
    print("|---" * (len(sizes) + 1) + "|")
    for label, name, factor in ROWS:
        shown = (found[name] * factor for found in sizes)
        print(f"| {label} | " + " | ".join(f"{value:.0f}" if value >= 10 else f"{value:.2f}" for value in shown) + " |")


if __name__ == "__main__":
    main()

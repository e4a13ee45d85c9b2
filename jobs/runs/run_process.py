"""The operating system's process of a Dagster run: does it still live?

Runs of other launchers, and of code servers at an address, are never called dead here.
"""

from __future__ import annotations

import json
import socket
from typing import Final

import dagster as dg
import psutil
from dagster._core.storage.tags import GRPC_INFO_TAG

_CLOCK_SECONDS: Final = 2.0  # by which a process may seem younger than its first event


def server_is_gone(run: dg.DagsterRun) -> bool:
    """Whether the code server on this machine that started the run, and would have told its death, is gone too."""
    where = json.loads(run.tags.get(GRPC_INFO_TAG, "{}"))
    if "socket" not in where:
        return False
    with socket.socket(socket.AF_UNIX) as asked:
        return asked.connect_ex(where["socket"]) != 0


def is_dead(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether the run's process has begun, on this machine, and is gone; False where that cannot be told."""
    if "socket" not in json.loads(run.tags.get(GRPC_INFO_TAG, "{}")):
        return False
    # The process tells its id in its first event ("Started process for run").
    for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        event = entry.dagster_event
        pid = None if event is None else event.engine_event_data.metadata.get("pid")
        if pid is not None:
            return not _lives(int(str(pid.value)), since=entry.timestamp)
    return False


def _lives(pid: int, *, since: float) -> bool:
    """Whether the process that had this id at a time (Unix seconds) still runs; a younger one of the same id is not it.

    One that ended and was never collected by its parent, as the orphans of a killed parent may be, does not run.
    """
    try:
        process = psutil.Process(pid)
        state, started = process.status(), process.create_time()
    except psutil.NoSuchProcess:
        return False
    return state not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD) and started < since + _CLOCK_SECONDS

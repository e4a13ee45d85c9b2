"""The operating system's process of a Dagster run: does it still live?

Runs of other launchers, and of code servers at an address, are never called dead here.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

import dagster as dg
from dagster._core.storage.tags import GRPC_INFO_TAG

_PROC: Final = Path("/proc")
_CLOCK_SECONDS: Final = 2.0  # by which a process may seem younger than its first event


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
    if not (_PROC / "self" / "stat").exists():  # not Linux
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True
    try:
        fields = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    boot = next(line for line in (_PROC / "stat").read_text().splitlines() if line.startswith("btime "))
    started = int(boot.split()[1]) + int(fields[19]) / os.sysconf("SC_CLK_TCK")  # fields[19] is `starttime`
    return fields[0] not in "ZX" and started < since + _CLOCK_SECONDS

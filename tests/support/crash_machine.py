"""A machine that crashes: the daemon, the webserver and all that they start, each of which can be killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Self

from resources.settings import PROJECT_ROOT

# What the command line of each kind of process has in it.
KINDS = {
    "daemon": "dagster-daemon",
    "webserver": "dagster-webserver",
    "code server": "dagster\0api\0grpc",
    "run worker": "multiprocessing.spawn",
}
_MARK = "FC_CRASH_MACHINE"


class Machine:
    """A context manager: at the end everything that was started is killed.

    The daemon and the webserver are started anew by `keep_up` whenever they have ended, as a supervisor would.
    """

    def __init__(self, home: Path) -> None:
        self.logs = home / "service-logs"
        self.logs.mkdir(exist_ok=True)
        self._mark = uuid.uuid4().hex
        self._env = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT), _MARK: self._mark}
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        programs = Path(sys.executable).parent
        workspace = str(PROJECT_ROOT / "workspace.yaml")
        self._commands = {
            "daemon": [str(programs / "dagster-daemon"), "run", "-w", workspace],
            "webserver": [str(programs / "dagster-webserver"), "-w", workspace, "--port", port],
        }
        self._services: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        self.keep_up()
        return self

    def __exit__(self, *_: object) -> None:
        while any(self.kill(kind) for kind in KINDS):
            pass

    def keep_up(self) -> None:
        """Start what does not run."""
        for name, command in self._commands.items():
            if name not in self._services or self._services[name].poll() is not None:
                with (self.logs / f"{name}.log").open("ab") as log:
                    self._services[name] = subprocess.Popen(
                        command, stdout=log, stderr=subprocess.STDOUT, env=self._env, cwd=self.logs,
                        stdin=subprocess.DEVNULL, start_new_session=True,
                    )  # fmt: skip

    def pids(self, kind: str) -> list[int]:
        """The living processes of a kind; also those whose parent was killed."""
        return [pid for pid, command in self._processes().items() if KINDS[kind] in command]

    def kill(self, kind: str) -> int:
        """SIGKILL every process of a kind; how many there were."""
        pids = self.pids(kind)
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for service in self._services.values():
            if service.pid in pids:
                service.wait()
        return len(pids)

    def wait_until(self, ready: Callable[[], bool], *, seconds: float, what: str) -> None:
        """Wait, and keep the services up meanwhile."""
        deadline = time.monotonic() + seconds
        while not ready():
            self.keep_up()
            assert time.monotonic() < deadline, f"{what} did not come within {seconds:g} seconds"
            time.sleep(0.2)

    def _processes(self) -> dict[int, str]:
        """The command lines of what this machine has started, by process id."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if self._mark.encode() in (process / "environ").read_bytes():
                    found[int(process.name)] = (process / "cmdline").read_bytes().decode(errors="replace")
            except OSError:  # it has just ended, or is another user's
                continue
        return found

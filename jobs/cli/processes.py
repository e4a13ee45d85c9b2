"""Child processes that live and die together, such as the Dagster webserver and daemon.

Each child leads its own session and so its own process group. What it starts itself (Dagster's code servers, the
processes of runs) belongs to that group, which is how nothing is left behind.

Children run in the log folder, because Dagster's programs let a `.env` of the folder they run in win over the
environment: in a folder of the user's, it could send them to another Dagster home than the one they were given.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, BinaryIO, Final, Self

import psutil

from imaging.errors import BackendError, SettingsError

POLL_SECONDS: Final = 0.1
KILL_SECONDS: Final = 5.0
STOPPED_BY: Final = (signal.SIGTERM, signal.SIGHUP)  # SIGHUP: the terminal was closed
_TAIL_BYTES: Final = 4000
_TROUBLE: Final = re.compile(r"\b(ERROR|CRITICAL)\b|^([A-Za-z_]\w*\.)*\w*(Error|Exception)\b")
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
_ENDED: Final = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)


class ServiceDiedError(BackendError):
    """A child process ended that should have gone on."""


class StopRequested(BaseException):
    """A signal asked this program to stop."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP raise `StopRequested`, as Ctrl-C raises `KeyboardInterrupt`."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise StopRequested(signal.Signals(number).name)

    before = {number: signal.signal(number, stop) for number in STOPPED_BY}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Services:
    """Several child processes; a context manager that starts them, and at the end stops all, whatever happened.

    Only one `Services` at a time may use a log folder: two daemons on one Dagster home would run everything twice.

    Attributes:
        logs: the folder of the log files, one per command: `<name>.log`, and `<name>.previous.log` of the time before;
            the children's working folder too.

    Args:
        commands: what to start, by name, in this order.
        logs: made when it is missing.
        env: variables to add to, or replace in, this process's own.
        grace_seconds: how long the children may take to stop after an interrupt, and again after a terminate, before
            they are killed.
        on_trouble: called by `check` with what looks like an error in a log: the child's name, and the line. Of lines
            that differ only in digits, as in their time, it gets the first.
    """

    def __init__(
        self,
        commands: Mapping[str, Sequence[str]],
        *,
        logs: Path,
        env: Mapping[str, str] | None = None,
        grace_seconds: float = 15.0,
        on_trouble: Callable[[str, str], None] = lambda _name, _line: None,
    ) -> None:
        self.logs = logs
        self._commands = dict(commands)
        self._env = {**os.environ, **(env or {})}
        self._grace_seconds = grace_seconds
        self._on_trouble = on_trouble
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._lock: IO[str] | None = None
        self._output: dict[str, BinaryIO] = {}
        self._reported: set[tuple[str, str]] = set()

    def __enter__(self) -> Self:
        """Start every command.

        Raises:
            SettingsError: another `Services` uses this log folder, or a command cannot be started; nothing is left.
        """
        self._lock = _locked(self.logs)
        try:
            for name, command in self._commands.items():
                self._start(name, command, self._lock)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def pid(self, name: str) -> int:
        """The process id of a child."""
        return self._children[name].pid

    def log_path(self, name: str) -> Path:
        """The file that a child's output goes to."""
        return self.logs / f"{name}.log"

    def check(self) -> None:
        """Report the trouble in the logs since the last time, and make sure that every child lives.

        Raises:
            ServiceDiedError: says which one died, how, and its last words.
        """
        for name, line in self._trouble():
            kind = (name, re.sub(r"\d+", "", line))
            if kind not in self._reported:
                self._reported.add(kind)
                self._on_trouble(name, line)
        for name, child in self._children.items():
            if child.poll() is not None:
                raise ServiceDiedError(
                    f"{name} ended by itself ({_ending(child.returncode)}). Its last words:\n{self._tail(name)}",
                    f"The whole log is {self.log_path(name)}; `fc doctor` says what is missing.",
                )

    def wait_until(self, ready: Callable[[], bool], *, seconds: float, what: str) -> None:
        """Wait until `ready()` is true.

        Raises:
            ServiceDiedError: a child died meanwhile.
            BackendError: it took longer than `seconds`; `what` says in the message what was waited for.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise BackendError(f"{what} did not come within {seconds:g} seconds.", f"See the logs in {self.logs}.")
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Stop every child and all that it started: interrupt, then terminate, then kill. Safe to call twice.

        A second Ctrl-C while this waits kills at once.
        """
        try:
            for number, seconds in ((signal.SIGINT, self._grace_seconds), (signal.SIGTERM, self._grace_seconds)):
                self._signal(number)
                if self._wait_for_end(seconds):
                    break
        finally:
            self._signal(signal.SIGKILL)
            self._wait_for_end(KILL_SECONDS)
            self._children.clear()
            for log in self._output.values():
                log.close()
            self._output.clear()
            if self._lock is not None:
                self._lock.close()
                self._lock = None

    def _start(self, name: str, command: Sequence[str], lock: IO[str]) -> None:
        path = self.log_path(name)
        if path.exists():
            path.replace(path.with_suffix(".previous.log"))
        with path.open("wb") as log:
            self._output[name] = path.open("rb")
            try:
                self._children[name] = subprocess.Popen(  # noqa: S603 - the commands are this program's own
                    list(command),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self._env,
                    cwd=self.logs,
                    start_new_session=True,
                    # Each child holds the lock too: if this process is killed, what it leaves keeps others away.
                    pass_fds=(lock.fileno(),),
                )
            except OSError as error:
                raise SettingsError(
                    f"{name} cannot be started: {command[0]}: {error.strerror}.",
                    "Install face-changer with its dependencies in this environment.",
                ) from error
        lock.write(f"{self._children[name].pid} ")
        lock.flush()

    def _trouble(self) -> Iterator[tuple[str, str]]:
        for name in self._children:
            log = self._output[name]
            start = log.tell()
            new = log.read()
            whole = new[: new.rfind(b"\n") + 1]  # a line that is still being written waits for the next call
            log.seek(start + len(whole))
            for line in _text(whole).splitlines():
                if _TROUBLE.search(line):
                    yield name, line

    def _signal(self, number: signal.Signals) -> None:
        for child in self._children.values():
            if _group_lives(child.pid):
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, number)

    def _wait_for_end(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while True:
            for child in self._children.values():
                child.poll()  # collects the child, which would count as living otherwise
            if not any(_group_lives(child.pid) for child in self._children.values()):
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)

    def _tail(self, name: str) -> str:
        log = self._output[name]
        log.seek(max(0, os.fstat(log.fileno()).st_size - _TAIL_BYTES))
        return "\n".join(_text(log.read()).splitlines()[-15:]) or "(none)"


def _locked(logs: Path) -> IO[str]:
    """An open file that this process alone has locked, holding its id; the lock goes when all who hold it are gone."""
    try:
        logs.mkdir(parents=True, exist_ok=True)
        lock = (logs / ".services.lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise SettingsError(
            f"The log folder {logs} cannot be written: {error.strerror}.", "Check DAGSTER_HOME and this user's rights."
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.seek(0)
        first, *children = lock.read().split() or ["unknown"]
        lock.close()
        raise SettingsError(
            f"face-changer already runs on {logs.parent}.",
            f"Stop that `fc up` (process {first}) or, if it was killed, what it left (processes {' '.join(children)}); "
            "or set DAGSTER_HOME to another folder.",
        ) from None
    lock.truncate(0)
    lock.write(f"{os.getpid()} ")
    lock.flush()
    return lock


def _text(output: bytes) -> str:
    return _COLOUR.sub("", output.decode("utf-8", "replace"))


def _ending(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"


def _group_lives(group: int) -> bool:
    """Whether a process of the group still runs. One that ended, and that its parent has not yet collected, does not.

    `killpg(group, 0)` alone cannot tell those apart, and inside a container nobody may ever collect an orphan.
    """
    for pid in psutil.pids():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(pid) == group and psutil.Process(pid).status() not in _ENDED:
                return True
    return False

"""Child processes that live and die together, such as the Dagster webserver and daemon.

Each child leads its own session and so its own process group. What it starts itself (Dagster's code servers, the
processes of runs) belongs to that group, which is how nothing is left behind. If this process is killed, a small shell,
the keeper, sees the end of its pipe and stops the groups; should that be killed too, the next start on the log folder
does it, by the process ids and start times in the lock file.

Children run in the log folder, because Dagster's programs let a `.env` of the folder they run in win over the
environment: in a folder of the user's, it could send them to another Dagster home than the one they were given.
"""

from __future__ import annotations

import fcntl
import math
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Final, NamedTuple, Self

import psutil

from imaging.errors import BackendError, SettingsError
from jobs.cli.service_output import Output

POLL_SECONDS: Final = 0.1
KILL_SECONDS: Final = 5.0
STOPPED_BY: Final = (signal.SIGTERM, signal.SIGHUP)  # SIGHUP: the terminal was closed
GRACE_SECONDS: Final = 15.0
LOCK: Final = ".services.lock"
_ENDED: Final = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
_START_TOLERANCE: Final = 2.0  # seconds: the boot time, from which start times are counted, is rounded
# Reads a process group a line; at the end of its input, which is the end of who writes it, terminates, then kills them.
_KEEPER: Final = """
while read -r group; do groups="$groups -$group"; done
lives() { for group in $groups; do kill -s 0 -- "$group" && return 0; done; return 1; }
for number in $groups; do kill -s TERM -- "$number"; done
while [ "$1" -gt 0 ] && lives; do sleep 1; set -- $(($1 - 1)); done
for number in $groups; do kill -s KILL -- "$number"; done
"""


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
        logs: the folder of the log files, one per command: `<name>.log`, which rotates, and `<name>.previous.log` of
            the time before; the children's working folder too.

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
        grace_seconds: float = GRACE_SECONDS,
        on_trouble: Callable[[str, str], None] = lambda _name, _line: None,
    ) -> None:
        self.logs = logs
        self._commands = dict(commands)
        self._env = {**os.environ, **(env or {})}
        self._grace_seconds = grace_seconds
        self._on_trouble = on_trouble
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._lock: IO[str] | None = None
        self._output: dict[str, Output] = {}
        self._keeper: subprocess.Popen[bytes] | None = None
        self._reported: set[tuple[str, str]] = set()

    def __enter__(self) -> Self:
        """Stop what a killed program left on this log folder, then start every command.

        Raises:
            SettingsError: another `Services` uses this log folder, or a command cannot be started; nothing is left.
        """
        take_over(self.logs, grace_seconds=self._grace_seconds)
        self._lock = _locked(self.logs)
        try:
            self._keeper = subprocess.Popen(  # noqa: S603 - our own words
                ["/bin/sh", "-c", _KEEPER, "keeper", str(math.ceil(self._grace_seconds))],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # what a terminal or a supervisor sends to this process's group passes it by
            )
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
                    f"{name} ended by itself ({_ending(child.returncode)}). Its last words:\n"
                    f"{self._output[name].last_words()}",
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
            _stop_groups([child.pid for child in self._children.values()], self._grace_seconds, self._collect)
        finally:
            self._children.clear()
            if self._keeper is not None:
                self._keeper.kill()
                self._keeper.communicate()
                self._keeper = None
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
        try:
            child = self._children[name] = subprocess.Popen(  # noqa: S603 - the commands are this program's own
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=self._env,
                cwd=self.logs,
                start_new_session=True,
                # Each child holds the lock too: while one is left of a killed program, nobody else may start.
                pass_fds=(lock.fileno(),),
            )
        except OSError as error:
            raise SettingsError(
                f"{name} cannot be started: {command[0]}: {error.strerror}.",
                "Install face-changer with its dependencies in this environment.",
            ) from error
        assert self._keeper is not None and self._keeper.stdin is not None and child.stdout is not None  # noqa: S101, PT018
        self._keeper.stdin.write(f"{child.pid}\n".encode())
        self._keeper.stdin.flush()
        self._output[name] = Output(path, child.stdout)
        _write_down(lock, child.pid)

    def _trouble(self) -> Iterator[tuple[str, str]]:
        for name, output in self._output.items():
            yield from ((name, line) for line in output.trouble())

    def _collect(self) -> None:
        """Children that ended would count as living otherwise."""
        for child in self._children.values():
            child.poll()


class _Known(NamedTuple):
    """A process as it was written down, and may be no more: its id, and when it started (Unix time)."""

    pid: int
    start: float

    def lives(self) -> bool:
        """Whether that very process still runs, not another one that got its id."""
        try:
            found = psutil.Process(self.pid)
            return abs(found.create_time() - self.start) < _START_TOLERANCE and found.status() not in _ENDED
        except psutil.NoSuchProcess:
            return False


def take_over(logs: Path, *, grace_seconds: float = GRACE_SECONDS) -> list[int]:
    """Stop what a program that was killed left running on this log folder; nothing, if that program still lives.

    Returns:
        The ids of the children that were left.
    """
    recorded = _recorded(logs / LOCK)
    if not recorded or recorded[0].lives():
        return []
    left = [one.pid for one in recorded[1:] if one.lives()]
    _stop_groups(left, grace_seconds)
    return left


def _recorded(lock: Path) -> list[_Known]:
    """The process that last held the lock, and its children."""
    try:
        lines = [line.split() for line in lock.read_text(encoding="utf-8").splitlines()]
        return [_Known(int(pid), float(start)) for pid, start in lines]
    except (OSError, ValueError):  # none, or one without start times: who cannot get the lock is told why
        return []


def _write_down(lock: IO[str], pid: int) -> None:
    with suppress(psutil.NoSuchProcess):
        lock.write(f"{pid} {psutil.Process(pid).create_time()}\n")
        lock.flush()


def _stop_groups(groups: Collection[int], grace_seconds: float, collect: Callable[[], None] = lambda: None) -> None:
    """Interrupt process groups, then terminate, then kill them; `collect` is called before each look."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            _signal(groups, number)
            if _end(groups, grace_seconds, collect):
                break
    finally:
        _signal(groups, signal.SIGKILL)
        _end(groups, KILL_SECONDS, collect)


def _signal(groups: Collection[int], number: signal.Signals) -> None:
    for group in groups:
        if _group_lives(group):
            with suppress(ProcessLookupError):
                os.killpg(group, number)


def _end(groups: Collection[int], seconds: float, collect: Callable[[], None]) -> bool:
    """Wait for the end of process groups; whether it came in time."""
    deadline = time.monotonic() + seconds
    while True:
        collect()
        if not any(map(_group_lives, groups)):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)


def _locked(logs: Path) -> IO[str]:
    """An open file that this process alone has locked, holding its id; the lock goes when all who hold it are gone."""
    try:
        logs.mkdir(parents=True, exist_ok=True)
        lock = (logs / LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        raise SettingsError(
            f"The log folder {logs} cannot be written: {error.strerror}.", "Check DAGSTER_HOME and this user's rights."
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.seek(0)
        first = next(iter(lock.read().split()), "unknown")
        lock.close()
        raise SettingsError(
            f"face-changer already runs on {logs.parent} (process {first}).",
            "Stop it, or set DAGSTER_HOME to another folder.",
        ) from None
    lock.truncate(0)
    _write_down(lock, os.getpid())
    return lock


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

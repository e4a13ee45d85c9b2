"""Time limits that are reached when the test says so, and not when the machine has been slow enough."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

PATIENCE = 120.0  # seconds; longer than anything takes on a machine with much else to do


class LeapingClock:
    """Stands in for a module's `time`: its clock goes as the real one, and leaps by an hour once `ready` is true.

    It leaps at two looks: on a slow machine it may be ready before the limit begins, by the first of them. What comes
    after the limit takes a look before a limit of its own begins, as when it notes its start.
    """

    def __init__(self, ready: Callable[[], object]) -> None:
        self._ready = ready
        self._leaps = 0

    def monotonic(self) -> float:
        self._leaps += self._leaps < 2 and bool(self._ready())
        return time.monotonic() + 3600 * self._leaps

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


def wait_until(ready: Callable[[], object]) -> None:
    """Wait for what another thread or process does."""
    ends = time.monotonic() + PATIENCE
    while not ready():
        assert time.monotonic() < ends, "what the test waits for did not come"
        time.sleep(0.01)


@contextmanager
def alarm_when(ready: Callable[[], object]) -> Iterator[None]:
    """Inside the block, the alarm of `time_limit` goes off once `ready` is true."""

    def watch() -> None:
        wait_until(ready)
        os.kill(os.getpid(), signal.SIGALRM)

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    yield
    watching.join()

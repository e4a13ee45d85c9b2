"""A time limit for the work of one stage on one job."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from imaging.errors import TransientError

_AGAIN_SECONDS: Final = 60.0


class StageTimeoutError(TransientError):
    """A stage spent more than its time on one job."""


@contextmanager
def time_limit(seconds: float, what: str) -> Iterator[None]:
    """End the block with `StageTimeoutError` after `seconds` of wall time.

    It works by SIGALRM, so it can only be set in the main thread, where Dagster's in-process executor runs steps. In
    another thread the run's own limit (`dagster/max_runtime`) is the only one.

    Raises:
        StageTimeoutError: inside the block, at the first Python instruction after the limit.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    reached = StageTimeoutError(
        f"{what} took longer than {seconds:g} seconds.", "Raise FC_STAGE_TIMEOUT, or ask for a smaller image."
    )
    is_over = False

    def on_alarm(_signal: int, _frame: FrameType | None) -> None:
        nonlocal is_over
        is_over = True
        raise reached

    previous = signal.signal(signal.SIGALRM, on_alarm)
    # Again after a while: an exception that is raised inside a finalizer is lost. What cleans up has that long.
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_SECONDS)
    try:
        yield
    except Exception as error:
        if is_over and error is not reached:
            raise reached from error  # a library on the way wrapped it in an error of its own
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)

"""Whose images a back end makes in one call, told before it begins: if it kills its process, one of them is why."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

Told = Callable[[Collection[str]], None]
"""It is given the ids of jobs, in any thread. What it raises ends the call."""

_told: Final[ContextVar[Told | None]] = ContextVar("told", default=None)


@contextmanager
def told_of_calls(told: Told) -> Iterator[None]:
    """Inside the block, `told` hears of the calls of back ends that make several images in one."""
    before = _told.set(told)
    try:
        yield
    finally:
        _told.reset(before)


def who_is_told() -> Told:
    """Whom a back end tells of its calls; asked in the thread that asks for images, for in others it is unknown."""
    return _told.get() or (lambda _job_ids: None)

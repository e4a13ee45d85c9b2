"""One pipeline call after another: which tasks share a call, calls made ahead, and a watch over each.

Belongs here: batching, the thread that keeps the device busy while finished images are put away, progress, time limits
and cancellation between steps. Does not: any model.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from imaging.errors import TransientError
from resources.generators.base import Outcome

_log = logging.getLogger(__name__)

Task = TypeVar("Task")
Made = TypeVar("Made")

PROGRESS_SECONDS: Final = 1.0


class StoppedError(Exception):
    """Nobody waits for the image any more."""


class ImageTimeoutError(TransientError):
    """An image took more than its time."""


@dataclass
class Watch:
    """Looks at a pipeline between its steps, as the `callback_on_step_end` of diffusers.

    Attributes:
        seconds: how long each image of a call may take.
        stop: set when nobody waits for the images any more.
    """

    seconds: float
    stop: threading.Event = field(default_factory=threading.Event)
    _images: int = 0
    _steps: int = 0
    _began: float = 0.0
    _told: float = 0.0

    def begin(self, images: int, steps: int) -> None:
        """A call begins that makes so many images in so many steps.

        Raises:
            StoppedError: nobody waits for them.
        """
        if self.stop.is_set():
            raise StoppedError
        self._images, self._steps = images, steps
        self._began = self._told = time.monotonic()

    def __call__(self, _pipeline: object, step: int, _timestep: object, tensors: dict[str, Any]) -> dict[str, Any]:
        """A step is done; puts a line into the log, though not more than one a second.

        Args:
            step: its number, from 0.
            tensors: given back as they are.

        Raises:
            StoppedError: nobody waits for the images any more.
            ImageTimeoutError: the call has taken longer than its images may.
        """
        now = time.monotonic()
        if self.stop.is_set():
            raise StoppedError
        if now - self._began > self.seconds * self._images:
            raise ImageTimeoutError(
                f"{step + 1} of {self._steps} steps took {now - self._began:.0f} seconds, and an image may take "
                f"{self.seconds:g} ({self._images} in this call).",
                "Raise FC_IMAGE_TIMEOUT, or ask for fewer steps or a smaller image.",
            )
        if now - self._told >= PROGRESS_SECONDS:
            self._told = now
            _log.info(
                "Step %d of %d, %d %s", step + 1, self._steps, self._images, "image" if self._images == 1 else "images"
            )
        return tensors


def run_batches(
    tasks: Sequence[Task],
    *,
    key: Callable[[Task], Hashable],
    size: int,
    make: Callable[[Sequence[Task], Watch], Sequence[Outcome]],
    seconds: float,
) -> Iterator[Outcome]:
    """One outcome per task, in order, made in batches, one batch ahead of the reader.

    Args:
        tasks: what to make.
        key: tasks of equal keys may share a call.
        size: most tasks of one call.
        make: makes a batch; one outcome per task. It runs in a thread of its own, one batch at a time.
        seconds: how long each image of a call may take.
    """
    watch = Watch(seconds)
    order = batches([key(task) for task in tasks], size)
    calls = [lambda batch=batch: make([tasks[index] for index in batch], watch) for batch in order]
    made: dict[int, Outcome] = {}
    waiting = iter(order)
    with closing(made_ahead(calls, watch.stop)) as finished:
        for index in range(len(tasks)):
            while index not in made:
                made.update(zip(next(waiting), next(finished), strict=True))
            yield made.pop(index)


def batches(keys: Sequence[Hashable], size: int) -> list[list[int]]:
    """The indices of equal keys together, at most `size` in a batch, ascending; the batch of the lowest index first."""
    groups: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        groups.setdefault(key, []).append(index)
    return sorted(group[start : start + size] for group in groups.values() for start in range(0, len(group), size))


def made_ahead(calls: Sequence[Callable[[], Made]], stop: threading.Event) -> Generator[Made, None, None]:
    """The results of the calls, in order; while the reader works on one, the next call runs in a thread.

    Args:
        calls: run one at a time. One that raises ends it; its exception reaches the reader.
        stop: set when the reader goes away; the call that is under way has ended when this returns.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="generator") as thread:
        try:
            ahead = thread.submit(calls[0]) if calls else None
            for following in [*calls[1:], None]:
                if ahead is None:
                    return
                result = ahead.result()
                ahead = thread.submit(following) if following else None
                yield result
        finally:
            stop.set()

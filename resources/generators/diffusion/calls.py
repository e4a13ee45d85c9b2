"""One pipeline call after another: which tasks share a call, calls made ahead, and a watch over each."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from imaging.errors import TransientError
from resources.generators.base import ImageTask, InpaintTask, Outcome
from resources.generators.diffusion.memory import is_out_of_memory
from resources.generators.diffusion.model_cache import free_memory
from resources.generators.diffusion.outcomes import Loaded, failed, sampling_of
from resources.generators.in_hand import Told, who_is_told

_log = logging.getLogger(__name__)

Task = TypeVar("Task")
AnyTask = TypeVar("AnyTask", ImageTask, InpaintTask)
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
    _first_step_counts: bool = True
    _began: float = 0.0
    _told: float = 0.0

    def begin(self, images: int, steps: int, *, first_step_counts: bool = True) -> None:
        """A call begins that makes so many images in so many steps.

        Args:
            images: how many, for the time that they may take together.
            steps: how many, for the log.
            first_step_counts: False when the first step may compile something, which takes no image's time.

        Raises:
            StoppedError: nobody waits for them.
        """
        if self.stop.is_set():
            raise StoppedError
        self._images, self._steps, self._first_step_counts = images, steps, first_step_counts
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
        if step == 0 and not self._first_step_counts:
            self._began = now
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


@dataclass(frozen=True)
class Calls(Generic[AnyTask]):
    """The pipeline calls of one generator.

    Attributes:
        model: what is called.
        call: makes the images of one batch: float32 RGB of shape (tasks, height, width, 3), 0 to 1.
        finished: the outcome of a task, its image, and its place in the batch.
        told: hears whose images a call makes, before it begins.
    """

    model: Loaded
    call: Callable[[Sequence[AnyTask], Watch], NDArray[np.float32]]
    finished: Callable[[AnyTask, NDArray[np.float32], Mapping[str, Any]], Outcome]
    told: Told = field(default_factory=who_is_told)

    def outcomes(self, tasks: Sequence[AnyTask], watch: Watch) -> list[Outcome]:
        """One batch. When it does not fit into memory, in smaller ones; when it fails, its tasks one by one."""
        self.told({sampling_of(task).job_id for task in tasks})
        memory = self.model.memory
        first = sampling_of(tasks[0])
        most = memory.fits(first) or len(tasks)
        if len(tasks) > most:
            return self._in_parts(tasks, most, watch)
        start = time.perf_counter()
        try:
            images = self.call(tasks, watch)
        except StoppedError:
            raise
        except Exception as error:  # noqa: BLE001 - told as the outcome of each task that fails alone
            failure = error
        else:
            seconds = round((time.perf_counter() - start) / len(tasks), 4)
            return [
                self.finished(task, image, {"batch_size": len(tasks), "batch_index": index, "seconds": seconds})
                for index, (task, image) in enumerate(zip(tasks, images, strict=True))
            ]
        traceback.clear_frames(failure.__traceback__)  # they hold the call's tensors in the GPU's memory
        free_memory()
        if is_out_of_memory(failure):
            saving = memory.save(self.model, len(tasks), first)
            if saving is not None:
                _log.warning("The %s is out of memory; going on %s.", memory.device, saving)
                return self.outcomes(tasks, watch)
        elif len(tasks) > 1 and not isinstance(failure, ImageTimeoutError):
            _log.warning("A batch of %d images failed, so they are made one by one: %s", len(tasks), failure)
            return self._in_parts(tasks, 1, watch)
        return [failed(self.model, task, failure) for task in tasks]

    def _in_parts(self, tasks: Sequence[AnyTask], most: int, watch: Watch) -> list[Outcome]:
        parts = [tasks[start : start + most] for start in range(0, len(tasks), most)]
        return [outcome for part in parts for outcome in self.outcomes(part, watch)]


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

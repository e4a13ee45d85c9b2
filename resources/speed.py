"""How many images per second the configured generator makes."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from imaging.errors import FaceChangerError
from resources.choose import make_generator
from resources.generators.base import Generated, Generator, ImageTask, InpaintTask, Outcome
from resources.settings import Settings


@dataclass(frozen=True, slots=True)
class Speed:
    """What one batch size gave.

    Attributes:
        batch: images per call.
        images: how many were made within the time.
        warmup_seconds: for one batch before; the first one includes loading, and each may include compiling.
        seconds: for all images, by the wall clock.
        images_per_second: images / seconds.
        gpu_gib: the most that torch held on the CUDA device in that time; None without one.
    """

    batch: int
    images: int
    warmup_seconds: float
    seconds: float
    images_per_second: float
    gpu_gib: float | None


def task(number: int, size: int, steps: int) -> ImageTask:
    """An image as MLPerf Inference measures SDXL: Euler, CFG 8, a negative prompt; 20 steps and 1024 pixels there."""
    return ImageTask(
        job_id=f"image-{number}",
        prompt="portrait of a woman with red hair in a forest, soft light",
        negative_prompt="blurry, low quality",
        seed=number,
        width=size,
        height=size,
        steps=steps,
        cfg_scale=8.0,
        scheduler="Euler",
    )


def face_task(size: int) -> InpaintTask:
    """A grey square whose middle is made anew in one step."""
    mask = np.zeros((size, size), np.uint8)
    mask[size // 4 : size * 3 // 4, size // 4 : size * 3 // 4] = 255
    return InpaintTask(task(0, size, 1), np.full((size, size, 3), 128, np.uint8), mask, 1.0)


def made(generator: Generator, tasks: list[ImageTask]) -> Generated:
    """Make images, and return the last; see `last`."""
    return last(generator.generate(tasks))


def last(outcomes: Iterator[Outcome]) -> Generated:
    """The last of some images that must all be good.

    Raises:
        FaceChangerError: the first error among the outcomes.
    """
    image: Generated | None = None
    for outcome in outcomes:
        if isinstance(outcome, FaceChangerError):
            raise outcome
        image = outcome
    if image is None:
        raise ValueError("there is nothing to make")
    return image


def measure(settings: Settings, *, batches: list[int], images: int, size: int, steps: int) -> Iterator[Speed]:
    """Measure the configured generator, one batch size after the other.

    Each makes at least `images`, and whole batches only. Before, it makes one batch outside the clock.

    Raises:
        FaceChangerError: an image fails; or the generator cannot be made.
    """
    for batch in batches:
        generator, _why = make_generator(settings.model_copy(update={"sdxl_batch_size": batch}))
        start = time.perf_counter()
        made(generator, [task(number, size, steps) for number in range(batch)])
        warm = time.perf_counter()
        count = -(-images // batch) * batch
        _reset_peak()
        begin = time.perf_counter()
        made(generator, [task(number, size, steps) for number in range(count)])
        seconds = time.perf_counter() - begin
        yield Speed(batch, count, round(warm - start, 3), round(seconds, 3), round(count / seconds, 4), _peak())


def _on_cuda() -> bool:
    return "torch" in sys.modules and bool(sys.modules["torch"].cuda.is_available())


def _reset_peak() -> None:
    if _on_cuda():
        import torch

        torch.cuda.reset_peak_memory_stats()


def _peak() -> float | None:
    if not _on_cuda():
        return None
    import torch

    return round(torch.cuda.max_memory_allocated() / 1024**3, 2)

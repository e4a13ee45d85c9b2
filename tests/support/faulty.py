"""Back ends that work as the embedded ones do, and fail for the prompts that ask for it.

They are named by setting (`FC_GENERATOR=tests.support.faulty:FaultyGenerator`), like any back end of a
user's own would be, so that runs in other processes use them too.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from imaging.errors import BackendError, NeedsReviewError, OutOfMemoryError, TransientError
from jobs.queue.job_queue import JobQueue
from resources.database import open_database
from resources.generators.base import ImageTask, InpaintTask, Outcome
from resources.generators.in_hand import who_is_told
from resources.settings import Settings
from resources.writers.base import DescriptionAnswer, Picture, PromptAnswer, PromptDraft
from resources.writers.offline import OfflineWriter
from sketch.generator import SketchGenerator


def _in_mask(task: InpaintTask, new: np.ndarray) -> np.ndarray:
    """New pixels where the mask is, as servers blend them."""
    weight = task.mask[..., None] / 255
    return np.rint(task.image * (1 - weight) + new * weight).astype(np.uint8)


def _noise(side: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (side, side, 3), dtype=np.uint8)


DAMAGED_FACES = {
    "black": lambda task: _in_mask(task, np.zeros_like(task.image)),
    "grey": lambda task: _in_mask(task, np.full_like(task.image, 128)),
    "noisy": lambda task: _in_mask(task, _noise(len(task.image))),
    "coarse": lambda task: _in_mask(task, np.repeat(np.repeat(_noise(len(task.image) // 8), 8, 0), 8, 1)),
    "half-size": lambda task: task.image[::2, ::2],
    "wide": lambda task: task.image[: len(task.image) // 2],
    "rgba": lambda task: np.dstack([task.image, task.mask]),
    "float": lambda task: np.full(task.image.shape, np.nan, np.float32),
    "flat-array": lambda task: task.image[..., 0],
}


class FaultyGenerator(SketchGenerator):
    """The sketch generator, with faults on demand.

    `broken-scene`: an error for that task. `raising-scene`: raises in the middle of the batch. `blank-scene`: a blank
    image. `broken-face`: an error in the face pass. `NAME-face` of `DAMAGED_FACES`: such a face.
    `rgba-scene`: a picture with transparency. `busy-scene`: a fault that may pass. `asked-scene`: one with a
    Retry-After of 900 s. `large-scene`: short memory. `torch-scene`: raises an error of torch's of that name.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()

    def generate(self, tasks: Sequence[ImageTask]) -> Iterator[Outcome]:
        for task in tasks:
            if "raising-scene" in task.prompt:
                raise RuntimeError("the GPU fell off the bus")
            if "broken-scene" in task.prompt:
                yield BackendError(f"Job {task.job_id} hit a broken scene.", "Repair it.")
            elif "busy-scene" in task.prompt:
                yield TransientError(f"Job {task.job_id} met a busy back end.", "Wait.")
            elif "asked-scene" in task.prompt:
                yield TransientError(f"Job {task.job_id} was asked to wait.", "Wait.", retry_after=900.0)
            elif "large-scene" in task.prompt:
                yield OutOfMemoryError(f"Job {task.job_id} does not fit.", "Make it smaller.")
            elif "torch-scene" in task.prompt:
                raise type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory.")
            else:
                outcome = next(super().generate([task]))
                if "blank-scene" in task.prompt and not isinstance(outcome, Exception):
                    outcome = replace(outcome, pixels=np.full_like(outcome.pixels, 127))
                if "rgba-scene" in task.prompt and not isinstance(outcome, Exception):
                    outcome = replace(outcome, pixels=np.dstack([outcome.pixels, outcome.pixels[..., 0]]))
                yield outcome

    def inpaint(self, tasks: Sequence[InpaintTask]) -> Iterator[Outcome]:
        for task in tasks:
            if "broken-face" in task.task.prompt:
                yield BackendError(f"Job {task.task.job_id} hit a broken face.", "Repair it.")
                continue
            outcome = next(super().inpaint([task]))
            for name, damaged in DAMAGED_FACES.items():
                if f"{name}-face" in task.task.prompt and not isinstance(outcome, Exception):
                    outcome = replace(outcome, pixels=damaged(task))
            yield outcome


class KilledOnce(SketchGenerator):
    """Kills its own process at the third image, the first time; the file named by FC_TEST_KILLED remembers it."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()

    def generate(self, tasks: Sequence[ImageTask]) -> Iterator[Outcome]:
        marker = Path(os.environ["FC_TEST_KILLED"])
        for number, task in enumerate(tasks):
            if number == 2 and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            yield from super().generate([task])


class Poison(SketchGenerator):
    """Kills its own process, in the hand of the job, over a `poison-scene`."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()

    def generate(self, tasks: Sequence[ImageTask]) -> Iterator[Outcome]:
        for task in tasks:
            if "poison-scene" in task.prompt:
                os.kill(os.getpid(), signal.SIGKILL)
            yield from super().generate([task])


class CallsOfTwo(SketchGenerator):
    """Makes two images in a call, as a GPU does, and says which; the jobs then in hand are noted in FC_TEST_IN_HAND."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._queue = JobQueue(open_database(settings.resolved_database_url))

    def generate(self, tasks: Sequence[ImageTask]) -> Iterator[Outcome]:
        tell = who_is_told()
        for start in range(0, len(tasks), 2):
            call = tasks[start : start + 2]
            tell([task.job_id for task in call])
            running = [job.id for job in self._queue.find(statuses=["running"], newest_first=False)]
            begun = [one for one in running for stage in self._queue.stage_results(one) if stage.status == "running"]
            with Path(os.environ["FC_TEST_IN_HAND"]).open("a") as noted:
                noted.write(f"{' '.join(begun)}\n")
            yield from list(super().generate(call))


class HeldUp(SketchGenerator):
    """Takes as long as the test wants over a `slow-scene`: until there is a file `JOB.go` in FC_TEST_GATE.

    `JOB.begun` says that it is at it. It gives up after five minutes.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()

    def generate(self, tasks: Sequence[ImageTask]) -> Iterator[Outcome]:
        gate = Path(os.environ["FC_TEST_GATE"])
        for task in tasks:
            if "slow-scene" in task.prompt:
                (gate / f"{task.job_id}.begun").touch()
                ends = time.monotonic() + 300
                while not (gate / f"{task.job_id}.go").exists():
                    if time.monotonic() > ends:
                        raise TimeoutError(f"nobody opened the gate for {task.job_id}")
                    time.sleep(0.05)
            yield from super().generate([task])


class WorkerKilledOnce(SketchGenerator):
    """Kills the worker that its process belongs to at the third image, the first time, and waits to die with it.

    The file named by FC_TEST_KILLED remembers which one it was.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()

    def generate(self, tasks: Sequence[ImageTask]) -> Iterator[Outcome]:
        marker = Path(os.environ["FC_TEST_KILLED"])
        for number, task in enumerate(tasks):
            if number == 2:
                with suppress(FileExistsError), marker.open("x") as file:
                    file.write(str(os.getppid()))
                    file.close()
                    os.kill(os.getppid(), signal.SIGKILL)
                    signal.pause()
            yield from super().generate([task])


class WaitsAtGate(SketchGenerator):
    """Writes its process id into `begun` of the folder FC_TEST_GATE, and waits there for the file `open`."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()

    def generate(self, tasks: Sequence[ImageTask]) -> Iterator[Outcome]:
        folder = Path(os.environ["FC_TEST_GATE"])
        (folder / "new").write_text(str(os.getpid()))
        (folder / "new").replace(folder / "begun")
        while not (folder / "open").exists():
            time.sleep(0.05)
        yield from super().generate(tasks)


class FaultyWriter(OfflineWriter):
    """The offline writer, with faults on demand: `broken-words`, `refused-words`, `unsafe-words`, and so on."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()

    def enhance(self, draft: PromptDraft) -> PromptAnswer:
        if "broken-words" in draft.pony_prompt:
            raise BackendError(f"Job {draft.job_id} hit broken words.", "Repair them.")
        if "refused-words" in draft.pony_prompt:
            raise NeedsReviewError(f"The model refused the words of job {draft.job_id}.", "Change them.")
        answer = super().enhance(draft)
        unsafe = {"pony_prompt": "a nude woman"} if "unsafe-words" in draft.pony_prompt else {}
        return answer.model_copy(update=unsafe)

    def describe_image(self, picture: Picture) -> DescriptionAnswer:
        if "unsafe-description" in picture.prompt:
            return super().describe_image(picture).model_copy(update={"text": "A woman wearing nothing."})
        if "broken-description" in picture.prompt:
            raise BackendError(f"Job {picture.job_id} hit a broken description.", "Repair it.")
        return super().describe_image(picture)

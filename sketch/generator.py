"""The embedded generator: a procedural painter, which needs no model, no GPU and no network."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import cv2
import numpy as np
import PIL

from imaging.errors import BackendError
from resources.generators.base import Generated, ImageTask, InpaintTask, Outcome
from sketch.paint import PAINTER_VERSION, paint_scene
from sketch.repaint import repaint_face

MODEL: Final = "none (procedural painter)"
NATIVE_SIZE: Final = 512


class SketchGenerator:
    """Paints stylised portraits by geometry: the same task gives the same bytes on one set of versions."""

    name = "sketch"

    def describe(self) -> dict[str, Any]:
        """The painter's version and the libraries that draw for it."""
        return {
            "generator": self.name,
            "model": MODEL,
            "note": "Drawn by a program from words and a seed; no model made it.",
            "painter": PAINTER_VERSION,
            "numpy": np.__version__,
            "opencv": cv2.__version__,
            "pillow": PIL.__version__,
        }

    def native_size(self) -> int:
        """512: the size of a face pass."""
        return NATIVE_SIZE

    def generate(self, tasks: Sequence[ImageTask]) -> Iterator[Outcome]:
        """Paint one picture per task; see `Generator.generate`."""
        for task in tasks:
            yield self._one(task, None)

    def inpaint(self, tasks: Sequence[InpaintTask]) -> Iterator[Outcome]:
        """Paint over one masked face per task; see `Generator.inpaint`."""
        for task in tasks:
            yield self._one(task.task, task)

    def _one(self, task: ImageTask, inpaint: InpaintTask | None) -> Outcome:
        start = time.perf_counter()
        try:
            if inpaint is None:
                pixels = paint_scene(task.prompt, task.negative_prompt, task.seed, task.width, task.height)
            else:
                _check(inpaint)
                pixels = repaint_face(
                    inpaint.image,
                    inpaint.mask,
                    task.prompt,
                    task.seed,
                    inpaint.denoising_strength,
                    inpaint.face,
                )
        except Exception as error:  # noqa: BLE001 - whatever goes wrong is this task's; the next one is painted
            failed = BackendError(
                f"Job {task.job_id}: the painter failed ({type(error).__name__}: {error}).",
                "Report it with the prompt, the seed and the size.",
            )
            failed.__cause__ = error
            return failed
        return Generated(
            pixels,
            {
                "generator": self.name,
                "model": MODEL,
                "painter": PAINTER_VERSION,
                "device": "cpu",
                "unused": ["steps", "cfg_scale", "scheduler"],
                "seconds": round(time.perf_counter() - start, 4),
            },
        )


def _check(inpaint: InpaintTask) -> None:
    size = (inpaint.task.height, inpaint.task.width)
    if inpaint.image.shape != (*size, 3) or inpaint.mask.shape != size:
        raise ValueError(
            f"image {inpaint.image.shape} and mask {inpaint.mask.shape} do not have the task's size {size}"
        )

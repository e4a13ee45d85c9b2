"""A generator of colour gradients: the least that a back end of your own needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from resources.backends import BackEnd, BackEndSettings
from resources.generators.base import Generated, Generator, ImageTask, InpaintTask, Outcome


class GradientSettings(BackEndSettings):
    """Read from the environment and `.env`: `FC_GRADIENT_BRIGHTNESS`."""

    gradient_brightness: int = Field(160, ge=1, le=255, description="Value of the brightest pixel.")


class GradientGenerator:
    """From a dark colour to a bright one, both drawn by the seed."""

    name = "gradient"

    def __init__(self, brightness: int) -> None:
        self._brightness = brightness

    def describe(self) -> dict[str, Any]:
        """All that decides the pixels besides the task."""
        return {"generator": self.name, "version": 1, "brightness": self._brightness}

    def native_size(self) -> int:
        """The side of the face pass, in pixels."""
        return 256

    def generate(self, tasks: Sequence[ImageTask]) -> Iterator[Outcome]:
        """One gradient per task."""
        for task in tasks:
            yield Generated(self._paint(task), self.describe())

    def inpaint(self, tasks: Sequence[InpaintTask]) -> Iterator[Outcome]:
        """The face tinted, as strongly as is asked for."""
        for one in tasks:
            share = one.denoising_strength * one.mask[..., None] / 255
            mixed = one.image * (1 - share) + self._paint(one.task) * share
            yield Generated(np.rint(mixed).astype(np.uint8), self.describe())

    def _paint(self, task: ImageTask) -> NDArray[np.uint8]:
        dark, bright = np.random.default_rng(task.seed).uniform((0, 0.7), (0.3, 1), (3, 2)).T * self._brightness
        along = np.linspace(0, 1, task.height * task.width).reshape(task.height, task.width, 1)
        return np.asarray(np.rint(dark * (1 - along) + bright * along), dtype=np.uint8)


BACK_END: Final = BackEnd[Generator](
    kind="generator",
    name="gradient",
    about="colour gradients, as an example of a back end of your own",
    make=lambda _settings, _choice: GradientGenerator(GradientSettings.read().gradient_brightness),
    own_settings=GradientSettings,
    trained=False,
)

"""What the tests of SDXL share: the tiny checkpoint, generators over it, tasks, and looking at outcomes."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from resources.generators.base import Generated, ImageTask, InpaintTask, Outcome
from resources.generators.diffusion.sdxl import SdxlGenerator
from tests.support.diffusion import sdxl
from tests.support.tiny_sdxl import build_tiny_sdxl

SIDE = 32  # pixels; small, as most tests care for the calls and not for the pictures


@pytest.fixture(scope="session")
def tiny_sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    torch.set_num_threads(1)  # for tensors this small, threads that wait for each other cost more than they bring
    return build_tiny_sdxl(tmp_path_factory.mktemp("sdxl") / "tiny")


@pytest.fixture
def own_copy(tiny_sdxl: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint that a test may change."""
    return Path(shutil.copytree(tiny_sdxl, tmp_path / "own"))


@pytest.fixture
def generator(tiny_sdxl: Path) -> SdxlGenerator:
    return sdxl(model=str(tiny_sdxl), device="cpu", batch_size=4)


def task(job_id: str = "job-1", **changes: Any) -> ImageTask:
    fields = {
        "job_id": job_id,
        "prompt": "a woman in the rain",
        "negative_prompt": "blur",
        "seed": 7,
        "width": SIDE,
        "height": SIDE,
        "steps": 2,
        "cfg_scale": 6.0,
        "scheduler": "Euler a",
    }
    return ImageTask(**{**fields, **changes})


def photo(size: int = SIDE) -> NDArray[np.uint8]:
    rows, columns = np.mgrid[0:size, 0:size] * 255 // size
    return np.dstack([rows, columns, np.full_like(rows, 90)]).astype(np.uint8)


def inpaint_task(strength: float = 0.5, size: int = SIDE, **changes: Any) -> InpaintTask:
    mask = np.zeros((size, size), np.uint8)
    mask[8:24, 8:24] = 255
    return InpaintTask(task(width=size, height=size, **changes), photo(size), mask, strength)


def pixels(outcomes: Iterable[Outcome]) -> list[NDArray[np.uint8]]:
    """The images of outcomes that must all be good."""
    return [good(outcome).pixels for outcome in outcomes]


def good(outcome: Outcome) -> Generated:
    """An outcome that must be an image."""
    assert isinstance(outcome, Generated), outcome
    return outcome

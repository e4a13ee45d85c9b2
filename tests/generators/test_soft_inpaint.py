"""Soft inpainting through the real diffusers: a cell of strength s is free in the last s of the steps."""

from dataclasses import replace

import numpy as np
import pytest

from resources.generators.base import InpaintTask
from resources.generators.diffusion.sdxl import SdxlGenerator
from resources.generators.diffusion.sdxl_model import load_model
from tests.support.diffusion import sdxl
from tests.support.sdxl import SIDE, inpaint_task, pixels
from tests.support.tiny_sdxl import build_tiny_sdxl

pytest.importorskip("diffusers")
torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]

LEVELS = (0, 51, 102, 153, 204, 255)  # fifths of the whole strength
BAND = 4  # columns of pixels per level


def stairs(strength: float = 1.0, **changes) -> InpaintTask:
    """A task whose mask climbs from the left to the right, in bands."""
    asked = inpaint_task(strength, **changes)
    mask = np.zeros_like(asked.mask)
    for number, level in enumerate(LEVELS):
        mask[:, number * BAND : (number + 1) * BAND] = level
    return replace(asked, mask=mask)


@pytest.fixture
def off(tiny_sdxl) -> SdxlGenerator:
    return sdxl(model=str(tiny_sdxl), device="cpu", batch_size=4, soft_inpaint="off")


@pytest.mark.parametrize(("scheduler", "strength"), [("Euler a", 0.5), ("Heun", 0.5), ("DPM++ 2M SDE", 1.0)])
def test_a_hard_mask_gives_the_same_bytes_as_without(generator, off, scheduler, strength):
    asked = inpaint_task(strength, scheduler=scheduler, steps=4)
    assert set(np.unique(asked.mask)) == {0, 255}
    np.testing.assert_array_equal(*pixels([*generator.inpaint([asked]), *off.inpaint([asked])]))


@pytest.mark.parametrize(("scheduler", "cfg_scale"), [("Euler", 1.0), ("Euler a", 6.0), ("DPM++ 2M", 6.0)])
def test_a_cell_is_free_in_as_many_of_the_last_steps_as_its_mask_says(generator, monkeypatch, scheduler, cfg_scale):
    unet = load_model(generator.names, generator.options).parts["unet"]
    seen = []
    monkeypatch.setattr(unet, "forward", _noting(unet.forward, seen))
    asked = stairs(scheduler=scheduler, cfg_scale=cfg_scale, steps=5)
    runs = []
    for mask in (asked.mask, np.zeros_like(asked.mask)):
        seen.clear()
        list(generator.inpaint([replace(asked, mask=mask)]))
        runs.append(np.stack(seen))
    freed = (runs[0] != runs[1]).any(axis=(1, 2, 3)).sum(axis=0)  # steps that did not see the re-noised original
    cells = len(freed) * BAND // SIDE
    expected = [min(number, 4) for number in range(len(LEVELS))]  # the first of the five sees no change yet
    assert freed[: cells * len(LEVELS)].tolist() == np.repeat(expected, cells).tolist()


def _noting(forward, seen):
    def noted(latents, *args, **kwargs):
        seen.append(latents[:1].numpy().copy())
        return forward(latents, *args, **kwargs)

    return noted


@pytest.mark.parametrize("scheduler", ["Euler", "DPM++ 2M"])
def test_the_change_fades_towards_the_edge_and_ends_there(generator, monkeypatch, scheduler):
    """Of the latents, band by band, from the kept ones to the new ones; an average over several seeds."""
    vae = load_model(generator.names, generator.options).parts["vae"]
    decoded = []
    monkeypatch.setattr(vae, "decode", _noting_latents(vae.decode, decoded))
    changes = []
    for seed in range(6):
        asked = stairs(1.0, scheduler=scheduler, steps=5, seed=seed)
        for mask in (asked.mask, np.zeros_like(asked.mask)):
            list(generator.inpaint([replace(asked, mask=mask)]))
        soft, kept = decoded[-2:]
        changes.append(np.abs(soft - kept).mean(axis=(0, 1, 2)))
    cells = SIDE // len(changes[0])
    bands = np.mean(changes, axis=0)[: len(LEVELS) * BAND // cells].reshape(len(LEVELS), -1).mean(axis=1)
    assert bands[0] == 0
    assert (np.diff(bands) > 0).all()


def _noting_latents(decode, seen):
    def noted(latents, *args, **kwargs):
        seen.append(latents.numpy().copy())
        return decode(latents, *args, **kwargs)

    return noted


@pytest.mark.parametrize("scheduler", ["Euler a", "Heun", "DPM++ 2M SDE", "LCM"])
def test_each_image_of_a_batch_has_its_own_mask_and_is_the_same_alone(generator, scheduler):
    one = stairs(0.75, scheduler=scheduler, steps=4)
    other = replace(stairs(0.75, scheduler=scheduler, steps=4, seed=8), mask=one.mask[:, ::-1].copy())
    together = pixels(generator.inpaint([one, other]))
    alone = [pixels(generator.inpaint([task]))[0] for task in (one, other)]
    for first, second in zip(together, alone, strict=True):
        assert np.abs(first.astype(int) - second).max() <= 1


def test_a_soft_mask_changes_less_than_the_same_mask_made_hard(generator, off):
    asked = stairs(1.0, steps=5)
    soft, hard = pixels([*generator.inpaint([asked]), *off.inpaint([asked])])
    assert np.abs(soft.astype(int) - hard).max() > 1


def test_an_inpainting_checkpoint_sees_its_mask_as_before(tmp_path):
    model = str(build_tiny_sdxl(tmp_path / "nine", in_channels=9))
    generators = [sdxl(model=model, device="cpu", soft_inpaint=soft) for soft in ("auto", "off")]
    np.testing.assert_array_equal(*pixels(next(generator.inpaint([stairs()])) for generator in generators))

"""The embedded generator behind the protocol, and the choice of a generator."""

import importlib.util
import json

import numpy as np
import pytest
from skimage import data

from imaging.errors import BackendError, SettingsError
from resources.choose import make_generator
from resources.generators.base import Generated, ImageTask, InpaintTask
from resources.settings import Settings
from sketch.generator import SketchGenerator


class OwnGenerator:
    """A plugin, for the test of dotted paths."""

    name = "own"

    def __init__(self, settings):
        self.settings = settings


def settings(monkeypatch, **fields):
    for name in ("FC_GENERATOR", "FC_SDXL_MODEL"):
        monkeypatch.delenv(name, raising=False)
    return Settings(_env_file=None, **fields)


def task(job_id="job-1", **changes):
    fields = {
        "job_id": job_id,
        "prompt": "portrait of a woman",
        "negative_prompt": "",
        "seed": 7,
        "width": 96,
        "height": 64,
        "steps": 30,
        "cfg_scale": 6.0,
        "scheduler": "Euler a",
    }
    return ImageTask(**{**fields, **changes})


def test_each_task_gives_its_picture_in_order():
    outcomes = list(SketchGenerator().generate([task(), task(width=64), task(seed=8)]))
    assert [outcome.pixels.shape for outcome in outcomes] == [(64, 96, 3), (64, 64, 3), (64, 96, 3)]
    details = outcomes[0].details
    assert (details["generator"], details["model"]) == ("sketch", "none (procedural painter)")
    assert details["seconds"] > 0
    assert details["unused"] == ["steps", "cfg_scale", "scheduler"]
    json.dumps(dict(details))


def test_neighbours_and_sampling_settings_do_not_change_the_pixels():
    (alone,) = SketchGenerator().generate([task()])
    _, beside = SketchGenerator().generate([task(seed=1), task(steps=5, cfg_scale=2.0, scheduler="DDIM")])
    np.testing.assert_array_equal(alone.pixels, beside.pixels)


def test_pictures_come_one_by_one():
    def endless():
        yield task()
        raise AssertionError("the second task was asked for before the first picture was taken")

    outcomes = SketchGenerator().generate(endless())
    assert isinstance(next(outcomes), Generated)


def test_a_task_that_fails_yields_its_error_and_the_next_one_is_painted():
    image = data.astronaut()
    good = InpaintTask(task(width=512, height=512), image, np.full((512, 512), 255, np.uint8), 0.5)
    wrong = InpaintTask(task("job-bad", width=512, height=512), image, np.zeros((5, 5), np.uint8), 0.5)
    failed, painted = SketchGenerator().inpaint([wrong, good])
    assert isinstance(failed, BackendError)
    assert "job-bad" in failed.what
    assert isinstance(painted, Generated)
    assert (painted.pixels != image).mean() > 0.5


def test_inpaint_paints_only_the_mask():
    image, mask = data.astronaut(), np.zeros((512, 512), np.uint8)
    mask[60:180, 170:280] = 255
    (outcome,) = SketchGenerator().inpaint([InpaintTask(task(width=512, height=512), image, mask, 0.8)])
    np.testing.assert_array_equal(outcome.pixels[mask == 0], image[mask == 0])
    assert (outcome.pixels[mask == 255] != image[mask == 255]).mean() > 0.5


def test_the_description_says_that_no_model_was_used_and_is_stable():
    described = SketchGenerator().describe()
    assert described["model"] == "none (procedural painter)"
    assert "no model" in described["note"]
    assert {"painter", "numpy", "opencv", "pillow"} <= described.keys()
    assert json.dumps(described) == json.dumps(SketchGenerator().describe())
    assert SketchGenerator().native_size() == 512


def test_auto_is_sketch_without_a_model(monkeypatch):
    generator, why = make_generator(settings(monkeypatch))
    assert generator.name == "sketch"
    assert "FC_SDXL_MODEL, FC_FORGE_URL and FC_COMFYUI_URL are not set" in why
    assert make_generator(settings(monkeypatch, generator="sketch", sdxl_model="some/model"))[0].name == "sketch"


def test_sdxl_without_its_packages_says_what_to_install(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "diffusers" else found(name))
    with pytest.raises(SettingsError, match="diffusers") as caught:
        make_generator(settings(monkeypatch, sdxl_model="some/model"))
    assert "pip install 'face-changer[sdxl]'" in caught.value.hint


def test_dotted_paths_and_unknown_names(monkeypatch):
    chosen = settings(monkeypatch, generator=f"{__name__}:OwnGenerator")
    generator, why = make_generator(chosen)
    assert generator.settings is chosen
    assert "FC_GENERATOR" in why
    with pytest.raises(SettingsError, match="is not a generator"):
        make_generator(settings(monkeypatch, generator="dalle"))

"""Flux through the real diffusers, over checkpoints with random weights of 3 MB."""

import json
import logging
import shutil
import subprocess
import sys
import weakref
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from imaging.errors import BackendError, SettingsError
from resources.generators.base import Generated, ImageTask, InpaintTask
from resources.generators.diffusion.calls import Watch
from resources.generators.diffusion.flux import FluxGenerator
from resources.generators.diffusion.flux_model import FluxModel, load_flux
from resources.generators.diffusion.memory import Memory
from resources.generators.diffusion.model_cache import MODELS
from resources.generators.diffusion.sdxl_loading import load_parts
from resources.models.checkpoint import find_checkpoint
from resources.models.flux_checkpoint import FLUX, model_kind
from resources.models.weights import parameters
from resources.settings import PROJECT_ROOT, Settings
from tests.support.diffusion import flux
from tests.support.tiny_flux import CELL, VAE_SCALE, build_tiny_flux
from tests.support.tiny_sdxl import build_tiny_sdxl

pytest.importorskip("diffusers")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
BAD_PROMPT = 12  # the tokenizer refuses it, and with it the whole call
SIDE = 32  # pixels; small, as most tests care for the calls and not for the pictures


@pytest.fixture(scope="session")
def tiny_flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    torch.set_num_threads(1)  # for tensors this small, threads that wait for each other cost more than they bring
    return build_tiny_flux(tmp_path_factory.mktemp("flux") / "tiny")


@pytest.fixture(scope="session")
def tiny_schnell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_flux(tmp_path_factory.mktemp("flux") / "schnell", "schnell")


@pytest.fixture(scope="session")
def tiny_fill(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_flux(tmp_path_factory.mktemp("flux") / "fill", "fill")


@pytest.fixture
def own_copy(tiny_flux: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint that a test may change."""
    return Path(shutil.copytree(tiny_flux, tmp_path / "own"))


@pytest.fixture
def generator(tiny_flux: Path) -> FluxGenerator:
    return flux(model=str(tiny_flux), device="cpu", batch_size=4)


@pytest.fixture
def empty_cache() -> Iterator[None]:
    """No model is loaded, and what the test loads is let go of."""
    MODELS.clear()
    yield
    MODELS.clear()


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hub cache, and no Hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def task(job_id="job-1", **changes) -> ImageTask:
    fields = {
        "job_id": job_id,
        "prompt": "a woman in the rain",
        "negative_prompt": "",
        "seed": 7,
        "width": SIDE,
        "height": SIDE,
        "steps": 2,
        "cfg_scale": 6.0,
        "scheduler": "Euler a",
    }
    return ImageTask(**{**fields, **changes})


def photo(height=SIDE, width=SIDE) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width] * 255 // max(height, width)
    return np.dstack([rows, columns, np.full_like(rows, 90)]).astype(np.uint8)


def inpaint_task(strength=0.5, width=SIDE, **changes) -> InpaintTask:
    """A mask that lies on no cell's edges: pixels 9 to 21, so cells 8 to 23."""
    mask = np.zeros((SIDE, width), np.uint8)
    mask[9:22, 9:22] = 255
    return InpaintTask(task(width=width, **changes), photo(SIDE, width), mask, strength)


def loaded(generator: FluxGenerator) -> FluxModel:
    return load_flux(generator.names, generator.options)


def pixels(outcomes) -> list[np.ndarray]:
    """The images of outcomes that must all be good."""
    return [outcome.pixels for outcome in outcomes if _good(outcome)]


def _good(outcome) -> bool:
    assert isinstance(outcome, Generated), outcome
    return True


def furthest(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


# --- Text to image --------------------------------------------------------------------------------------------------


def test_an_image_has_the_size_asked_for_and_says_how_it_was_made(generator):
    (outcome,) = generator.generate([task(width=48)])
    assert outcome.pixels.shape == (SIDE, 48, 3)
    assert outcome.pixels.dtype == np.uint8
    assert outcome.pixels.std() > 1
    details = json.loads(json.dumps(dict(outcome.details)))
    assert details.pop("seconds") > 0
    versions = {name: details.pop(name) for name in ("torch", "diffusers", "transformers")}
    assert all(versions.values())
    assert details == {
        "device": "cpu",
        "gpu": None,
        "dtype": "float32",
        "memory_savings": [],
        "batch_size": 1,
        "batch_index": 0,
        "scheduler_class": "FlowMatchEulerDiscreteScheduler",
        "steps": 2,
        "denoising_steps": 2,
        "guidance_scale": 3.5,
        "not_used": ["cfg_scale", "scheduler"],
        "prompt_tokens_cut": 0,
        "clip_tokens_cut": 0,
    }


def test_the_same_tasks_give_the_same_bytes_and_another_seed_gives_others(generator):
    tasks = [task(seed=1), task(seed=2)]
    first, again = pixels(generator.generate(tasks)), pixels(generator.generate(tasks))
    np.testing.assert_array_equal(first, again)
    assert furthest(first[0], first[1]) > 1


def test_tasks_of_many_kinds_come_back_in_their_order_and_batched(tiny_flux):
    generator = flux(model=str(tiny_flux), device="cpu", batch_size=2)
    # CFG, scheduler and negative prompt mean nothing to Flux, so they part no batch
    other = {"prompt": "a man", "cfg_scale": 1.0, "scheduler": "UniPC", "negative_prompt": "hat"}
    tasks = [task(), task(width=48), task(seed=8, **other), task(seed=9), task(steps=1), task(width=48, seed=3)]
    outcomes = list(generator.generate(tasks))
    assert [image.shape[1] for image in pixels(outcomes)] == [SIDE, 48, SIDE, SIDE, SIDE, 48]
    layout = [(outcome.details["batch_size"], outcome.details["batch_index"]) for outcome in outcomes]
    assert layout == [(2, 0), (2, 0), (2, 1), (1, 0), (1, 0), (2, 1)]
    for one, outcome in zip(tasks, outcomes, strict=True):
        assert furthest(outcome.pixels, pixels(generator.generate([one]))[0]) <= 1


def test_an_image_is_there_before_the_next_batch_is_made(tiny_flux, monkeypatch):
    generator = flux(model=str(tiny_flux), device="cpu", batch_size=1)
    calls = []
    monkeypatch.setattr(FluxModel, "generate", _noting(FluxModel.generate, calls))
    outcomes = generator.generate([task(seed=1), task(seed=2)])
    assert isinstance(next(outcomes), Generated)
    assert len(calls) == 1
    assert list(generator.generate([])) == []


def test_a_size_between_two_cells_is_made_larger_and_cut(generator):
    odd, even = pixels(generator.generate([task(width=34, height=30), task(width=36, height=32)]))
    assert odd.shape == (30, 34, 3)
    np.testing.assert_array_equal(odd, even[:30, :34])


def test_only_guidance_guides(generator, tiny_flux):
    (asked,) = pixels(generator.generate([task()]))
    strange = task(cfg_scale=20.0, scheduler="UniPC", negative_prompt="hat")
    (same,) = generator.generate([strange])
    np.testing.assert_array_equal(same.pixels, asked)
    assert same.details["not_used"] == ["cfg_scale", "scheduler", "negative_prompt"]
    for guidance, differs in ((3.5, False), (50.0, True)):
        (other,) = flux(model=str(tiny_flux), device="cpu", guidance=guidance).generate([task()])
        assert other.details["guidance_scale"] == guidance
        assert (furthest(other.pixels, asked) > 0) == differs


def test_schnell_takes_no_guidance_and_4_steps_at_most(tiny_schnell, monkeypatch):
    calls = []
    tool = flux(model=str(tiny_schnell), device="cpu", guidance=9.0)
    transformer = loaded(tool).parts["transformer"]
    monkeypatch.setattr(transformer, "forward", _noting(transformer.forward, calls))
    for steps, used in ((30, 4), (3, 3)):
        calls.clear()
        (outcome,) = tool.generate([task(steps=steps)])
        assert outcome.details["steps"] == outcome.details["denoising_steps"] == len(calls) == used
        assert outcome.details["guidance_scale"] is None
        assert ("steps" in outcome.details["not_used"]) == (used != steps)
    calls.clear()
    (half,) = tool.inpaint([inpaint_task(0.5, steps=30)])
    assert half.details["denoising_steps"] == len(calls) == 2


@pytest.mark.parametrize(("model", "limit"), [("tiny_flux", 512), ("tiny_schnell", 256)])
def test_words_beyond_the_text_encoders_limits_are_counted_and_not_seen(request, model, limit):
    tool = flux(model=str(request.getfixturevalue(model)), device="cpu")
    fits = "x" * (limit - 2)  # a mark for the word's start and one for the end beside them
    whole, longer = tool.generate([task(prompt=fits), task(prompt=fits + "yyy")])
    assert whole.details["prompt_tokens_cut"] == 0
    assert longer.details["prompt_tokens_cut"] == 3
    assert longer.details["clip_tokens_cut"] == limit + 1 + 2 - 77
    (other,) = tool.generate([task(prompt=fits[:-5] + "yyyyy")])
    assert furthest(other.pixels, whole.pixels) > 0
    np.testing.assert_array_equal(longer.pixels, whole.pixels)


# --- Inpainting -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["tiny_flux", "tiny_schnell"])
def test_inpainting_makes_the_masked_cells_anew_and_keeps_the_latents_of_the_others(request, monkeypatch, model):
    tool = flux(model=str(request.getfixturevalue(model)), device="cpu")
    vae = loaded(tool).parts["vae"]
    decoded = []
    monkeypatch.setattr(vae, "decode", _first_seen(vae.decode, decoded))
    asked = inpaint_task(1.0, steps=3)
    for mask in (asked.mask, np.zeros_like(asked.mask)):
        (image,) = pixels(tool.inpaint([replace(asked, mask=mask)]))
        assert image.shape == (SIDE, SIDE, 3)
    changed = (decoded[0] != decoded[1]).any(axis=(0, 1))
    expected = np.zeros((SIDE, SIDE), bool)
    expected[8:24, 8:24] = True  # the mask, out to the edges of its cells
    assert CELL == 4
    np.testing.assert_array_equal(changed, expected[::VAE_SCALE, ::VAE_SCALE])


def _first_seen(function, seen):
    def noted(latents, *args, **kwargs):
        seen.append(latents.numpy().copy())
        return function(latents, *args, **kwargs)

    return noted


def _noting(call, calls):
    def noted(*args, **kwargs):
        calls.append(args)
        return call(*args, **kwargs)

    return noted


@pytest.mark.parametrize(("strength", "steps", "done"), [(1.0, 4, 4), (0.5, 4, 2), (0.01, 4, 1), (0.56, 25, 14)])
def test_a_strength_is_a_share_of_the_steps_and_at_least_one(generator, monkeypatch, strength, steps, done):
    calls = []
    transformer = loaded(generator).parts["transformer"]
    monkeypatch.setattr(transformer, "forward", _noting(transformer.forward, calls))
    (outcome,) = generator.inpaint([inpaint_task(strength, steps=steps)])
    assert outcome.details["denoising_steps"] == len(calls) == done


def test_strength_0_gives_the_image_back_to_the_last_bit(generator):
    asked = inpaint_task(0.0)
    outcome, changed = generator.inpaint([asked, inpaint_task(0.6)])
    np.testing.assert_array_equal(outcome.pixels, asked.image)
    assert outcome.details["denoising_steps"] == 0
    assert furthest(changed.pixels, asked.image) > 1


def test_a_soft_edge_is_made_anew_to_its_very_end(generator):
    hard = inpaint_task(1.0)
    soft = replace(hard, mask=np.where(hard.mask > 0, 1, 0).astype(np.uint8))
    np.testing.assert_array_equal(*pixels(next(generator.inpaint([one])) for one in (soft, hard)))


def test_inpainting_tasks_of_many_kinds_keep_their_order_and_their_own_images(generator):
    dark = inpaint_task(0.5, seed=8)
    dark = replace(dark, image=dark.image // 3, mask=np.roll(dark.mask, 6, axis=1))
    tasks = [inpaint_task(0.5), inpaint_task(0.9, width=46), dark, inpaint_task(0.9)]
    outcomes = list(generator.inpaint(tasks))
    assert [image.shape[1] for image in pixels(outcomes)] == [SIDE, 46, SIDE, SIDE]
    assert [outcome.details["batch_size"] for outcome in outcomes] == [2, 1, 2, 1]
    for one, outcome in zip(tasks, outcomes, strict=True):
        assert furthest(outcome.pixels, pixels(generator.inpaint([one]))[0]) <= 1


def test_an_image_between_two_cells_goes_on_as_it_ends(generator):
    narrow = inpaint_task(1.0, width=46)
    wide = inpaint_task(1.0, width=48)
    wide.image[:] = np.pad(narrow.image, [(0, 0), (0, 2), (0, 0)], mode="edge")
    cut, whole = pixels(next(generator.inpaint([one])) for one in (narrow, wide))
    np.testing.assert_array_equal(cut, whole[:, :46])


def test_fill_inpaints_by_its_mask_and_says_that_it_cannot_start_from_text(tiny_fill):
    tool = flux(model=str(tiny_fill), device="cpu")
    asked = inpaint_task(1.0)
    outcome, other = tool.inpaint([asked, replace(asked, mask=255 - asked.mask)])
    assert outcome.details["guidance_scale"] == 30.0
    assert outcome.details["denoising_steps"] == 2
    assert furthest(outcome.pixels, other.pixels) > 1
    (error,) = tool.generate([task("text")])
    assert isinstance(error, BackendError)
    assert error.what.startswith("Job text: Flux Fill is an inpainting checkpoint")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_both_pipelines_share_the_weights_and_leave_their_dtype_alone(tiny_flux, monkeypatch, dtype):
    import diffusers
    import torch

    used = []
    for kind in (diffusers.FluxPipeline, diffusers.FluxInpaintPipeline):
        monkeypatch.setattr(kind, "__call__", _noting(kind.__call__, used))
    tool = flux(model=str(tiny_flux), device="cpu", dtype=dtype)
    (first,) = pixels(tool.generate([task()]))
    (_,) = pixels(tool.inpaint([inpaint_task()]))
    (again,) = pixels(tool.generate([task()]))
    np.testing.assert_array_equal(first, again)
    pipelines = [args[0] for args in used]
    assert len({id(pipeline.scheduler) for pipeline in pipelines}) == len(pipelines) == 3
    for part in ("transformer", "vae", "text_encoder", "text_encoder_2"):
        assert len({id(getattr(pipeline, part)) for pipeline in pipelines}) == 1
        assert getattr(pipelines[0], part).dtype == getattr(torch, dtype)


def test_offloading_changes_no_pixel_and_outlives_a_failure(generator, empty_cache):
    pytest.importorskip("accelerate")
    model = loaded(generator)
    expected = model.inpaint([inpaint_task()], 0.0, Watch(60))
    offloaded = replace(model, memory=Memory("cpu", offloaded=True))
    np.testing.assert_allclose(offloaded.inpaint([inpaint_task()], 0.0, Watch(60)), expected, atol=1e-5)
    hooked = [name for name, part in model.parts.items() if hasattr(part, "_hf_hook")]
    assert sorted(hooked) == ["text_encoder", "text_encoder_2", "transformer", "vae"]
    with pytest.raises(ValueError, match="text input must be"):
        offloaded.generate([task(prompt=BAD_PROMPT)], 0.0, Watch(60))
    np.testing.assert_allclose(offloaded.inpaint([inpaint_task()], 0.0, Watch(60)), expected, atol=1e-5)


# --- One bad task ---------------------------------------------------------------------------------------------------


def test_a_task_that_breaks_its_batch_fails_alone(generator, caplog):
    tasks = [task("good-1", seed=1), task("bad", prompt=BAD_PROMPT), task("good-2", seed=2)]
    first, bad, last = generator.generate(tasks)
    assert isinstance(bad, BackendError)
    assert bad.what.startswith("Job bad: ")
    assert "A batch of 3 images failed" in caplog.text
    np.testing.assert_array_equal(first.pixels, pixels(generator.generate([tasks[0]]))[0])
    np.testing.assert_array_equal(last.pixels, pixels(generator.generate([tasks[2]]))[0])


def test_an_image_of_another_size_than_its_task_fails_alone(generator):
    wrong = replace(inpaint_task(), image=photo(64))
    bad, good = generator.inpaint([wrong, inpaint_task()])
    assert isinstance(bad, BackendError)
    assert "(64, 32, 3)" in bad.what
    assert isinstance(good, Generated)


def test_a_prompt_that_overflows_fails_alone_within_its_batch(own_copy):
    from safetensors.torch import load_file, save_file

    weights = own_copy / "text_encoder_2/model.safetensors"
    tensors = load_file(weights)
    pieces = json.loads((own_copy / "tokenizer_2/tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    (number,) = (number for number, (piece, _) in enumerate(pieces) if piece == "Q")
    tensors["shared.weight"][number] = float("nan")
    save_file(tensors, weights, metadata={"format": "pt"})
    tool = flux(model=str(own_copy), device="cpu")
    outcomes = list(tool.generate([task("a"), task("b", prompt="Q"), task("c", seed=9)]))
    assert [type(outcome) for outcome in outcomes] == [Generated, BackendError, Generated]
    assert "Job b" in outcomes[1].what
    assert "FC_SDXL_DTYPE" in outcomes[1].hint
    assert [outcomes[index].details["batch_size"] for index in (0, 2)] == [3, 3]


def test_out_of_memory_is_told_with_the_size(generator, monkeypatch):
    import torch

    def no_memory(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(loaded(generator).parts["transformer"], "forward", no_memory)
    first, second = generator.generate([task("one"), task("two")])
    assert isinstance(second, BackendError)
    assert first.what == "Job one: the cpu is out of memory (32x32 pixels, float32 on cpu, one image alone)."
    assert isinstance(first.__cause__, torch.OutOfMemoryError)


# --- Loading --------------------------------------------------------------------------------------------------------


def test_the_weights_are_loaded_once_for_all_calls_and_instances(tiny_flux, caplog, empty_cache):
    caplog.set_level(logging.INFO)
    for device in ("auto", "cpu"):
        tool = flux(model=str(tiny_flux), device=device)
        list(tool.generate([task()]))
        list(tool.inpaint([inpaint_task()]))
    assert caplog.text.count("Loaded the Flux checkpoint tiny") == 1


def test_other_weights_in_the_same_folder_are_loaded_and_told(own_copy):
    from safetensors.torch import load_file, save_file

    tool = flux(model=str(own_copy), device="cpu")
    (before,), told = pixels(tool.generate([task()])), tool.describe()
    weights = own_copy / "transformer/diffusion_pytorch_model.safetensors"
    save_file({name: tensor * 3 for name, tensor in load_file(weights).items()}, weights, metadata={"format": "pt"})
    (after,) = pixels(tool.generate([task()]))
    assert furthest(before, after) > 1
    assert tool.describe() == {**told, "weights": tool.describe()["weights"]} != told


def test_flux_and_sdxl_take_turns_in_a_budget_that_holds_one(tiny_flux, tmp_path, empty_cache):
    sdxl = find_checkpoint(str(build_tiny_sdxl(tmp_path / "sdxl")), "")
    found = find_checkpoint(str(tiny_flux), "", family=FLUX)
    needs = {checkpoint.label: 4 * parameters(checkpoint.paths()) for checkpoint in (sdxl, found)}
    budget = max(needs.values()) + 1
    assert sum(needs.values()) > budget
    tool = flux(model=str(tiny_flux), device="cpu", memory=(budget + 1) / 2**30)

    def unet() -> weakref.ref:
        parts = MODELS.get(
            "sdxl", lambda: load_parts(sdxl, "cpu", "float32"), label="sdxl", needs=needs["sdxl"], budget=budget
        )
        return weakref.ref(parts.parts["unet"])

    def transformer() -> weakref.ref:
        list(tool.inpaint([inpaint_task()]))
        return weakref.ref(loaded(tool).parts["transformer"])

    first = unet()
    assert MODELS.labels() == ["sdxl"]
    second = transformer()
    assert (MODELS.labels(), first()) == (["tiny"], None)
    unet()
    assert (MODELS.labels(), second()) == (["sdxl"], None)


def test_the_memory_that_is_needed_is_that_of_the_loaded_weights(generator):
    checkpoint = generator.names.find_checkpoint(FLUX)
    parts = [loaded(generator).parts[name] for name in ("transformer", "vae", "text_encoder", "text_encoder_2")]
    assert parameters(checkpoint.paths()) == sum(weight.numel() for part in parts for weight in part.parameters())


@pytest.mark.parametrize(
    "name",
    [
        "model_index.json",
        "transformer/config.json",
        "transformer/diffusion_pytorch_model.safetensors",
        "text_encoder_2/model.safetensors",
        "scheduler/scheduler_config.json",
        "tokenizer_2/tokenizer.json",
    ],
)
def test_a_missing_file_is_named(own_copy, name):
    (own_copy / name).unlink()
    tool = flux(model=str(own_copy), setting="FC_SDXL_MODEL" if name == "model_index.json" else "FC_FACE_MODEL")
    for use in (tool.describe, lambda: next(tool.inpaint([inpaint_task()]))):
        with pytest.raises(SettingsError, match=tool.names.setting) as caught:
            use()
        assert name in caught.value.what
        assert "hf download" in caught.value.hint


def test_pickled_weights_are_refused(own_copy):
    weights = own_copy / "transformer/diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(SettingsError, match=r"FC_FACE_MODEL.*pickles only \(diffusion_pytorch_model.bin\)"):
        next(flux(model=str(own_copy)).inpaint([inpaint_task()]))


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        ({"_class_name": "StableDiffusionXLPipeline"}, "holds a StableDiffusionXLPipeline, not a Flux", "FluxPipeline"),
        ({"_class_name": "FluxKontextPipeline"}, "holds a FluxKontextPipeline, not a Flux", "for FluxPipeline"),
        ({"transformer": ["my_flux", "MyTransformer"]}, "code from outside", "custom"),
        ({"transformer": [None, None]}, "names no transformer", "for FluxPipeline"),
    ],
)
def test_other_models_and_foreign_code_are_refused(own_copy, change, message, hint):
    index = own_copy / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), **change}))
    with pytest.raises(SettingsError, match=message) as caught:
        next(flux(model=str(own_copy)).generate([task()]))
    assert hint in caught.value.hint


@pytest.mark.parametrize(("kept", "message"), [(50, "within its header"), (-50, "and its header promises")])
def test_damaged_weights_are_told_with_their_place(own_copy, kept, message):
    weights = own_copy / "vae/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    with pytest.raises(BackendError, match=message) as caught:
        next(flux(model=str(own_copy), device="cpu").generate([task()]))
    assert str(own_copy) in caught.value.what


@pytest.mark.parametrize("model", ["/no/such/folder", "./models/none", "just-a-name"])
def test_a_folder_that_is_not_there_is_told(model):
    with pytest.raises(SettingsError, match=r"FC_FACE_MODEL=.* is neither the whole path of a folder") as caught:
        flux(model=model).describe()
    assert "black-forest-labs/FLUX.1-dev" in caught.value.hint


def test_a_hub_id_that_cannot_be_reached_is_told_when_it_is_needed_and_not_before(hub_cache):
    tool = flux(model="somebody/some-model")
    told = tool.describe()
    assert (told["model"], told["commit"], told["weights"]) == ("somebody/some-model", None, None)
    assert model_kind("somebody/some-model") == "unknown"
    assert not hub_cache.exists()
    with pytest.raises(BackendError, match="FC_FACE_MODEL=somebody/some-model") as caught:
        next(tool.generate([task()]))
    assert "hf download somebody/some-model" in caught.value.hint


def test_a_hub_id_in_the_cache_needs_no_network(hub_cache, tiny_flux, generator):
    cached = hub_cache / "models--somebody--some-model"
    shutil.copytree(tiny_flux, cached / "snapshots" / COMMIT)
    (cached / "refs").mkdir()
    (cached / "refs/main").write_text(COMMIT)
    hub = flux(model="somebody/some-model", device="cpu", batch_size=4)
    assert hub.describe() == {**generator.describe(), "model": "somebody/some-model", "commit": COMMIT}
    assert model_kind("somebody/some-model") == model_kind("somebody/some-model", COMMIT) == "flux"
    np.testing.assert_array_equal(pixels(hub.generate([task()])), pixels(generator.generate([task()])))
    (cached / "snapshots" / COMMIT / "vae/diffusion_pytorch_model.safetensors").unlink()
    assert hub.describe()["weights"] is None


# --- What is told, and how it is set --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("index", "kind"),
    [
        ('{"_class_name": "StableDiffusionXLPipeline"}', "sdxl"),
        ('{"_class_name": "StableDiffusionXLInpaintPipeline"}', "sdxl"),
        ('{"_class_name": "FluxFillPipeline"}', "flux"),
        ('{"_class_name": "StableDiffusionPipeline"}', "unknown"),
        ("{}", "unknown"),
        ("[]", "unknown"),
        ("not JSON", "unknown"),
        (None, "unknown"),
    ],
)
def test_the_kind_of_a_model_is_read_from_its_index(tmp_path, index, kind):
    if index is not None:
        (tmp_path / "model_index.json").write_text(index, encoding="utf-8")
    assert model_kind(str(tmp_path)) == kind


@pytest.mark.parametrize("model", ["", "just-a-name", "a/b/c", "/no/such/folder", __file__])
def test_what_is_no_checkpoint_is_of_no_kind(hub_cache, model):
    assert model_kind(model) == "unknown"


def test_describing_and_choosing_import_no_torch(tiny_flux):
    program = (
        "import sys, json\n"
        "from resources.generators.diffusion.flux import FluxGenerator\n"
        "from resources.models.flux_checkpoint import model_kind\n"
        "from resources.settings import Settings\n"
        f"tool = FluxGenerator.from_settings(Settings(_env_file=None, face_model={str(tiny_flux)!r}))\n"
        "print(json.dumps([model_kind(tool.names.checkpoint), tool.name, tool.describe(), tool.native_size()]))\n"
        "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["flux", "flux", flux(model=str(tiny_flux)).describe(), 1024]


def test_every_field_comes_from_the_settings():
    settings = Settings(
        _env_file=None,
        face_model="somebody/some-flux",
        sdxl_model="somebody/other-flux",
        sdxl_revision="v2",
        sdxl_device="cpu",
        sdxl_dtype="float16",
        sdxl_batch_size=3,
        face_size=512,
        model_memory=40.0,
    )
    told = FluxGenerator.from_settings(settings)
    assert asdict(told.options) == {
        "device": "cpu",
        "dtype": "float16",
        "batch_size": 3,
        "face_size": 512,
        "compile_mode": "off",
        "image_timeout": 300.0,
        "memory": 40.0,
    }
    assert (told.names.checkpoint, told.names.revision, told.guidance) == ("somebody/some-flux", "", 0.0)
    assert told.names.setting == "FC_FACE_MODEL"
    scene = FluxGenerator.from_settings(settings, "FC_SDXL_MODEL").names
    assert (scene.checkpoint, scene.revision, scene.setting) == ("somebody/other-flux", "v2", "FC_SDXL_MODEL")
    assert told.native_size() == 512


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"face_model": ""}, "FC_FACE_MODEL"),
        ({"sdxl_device": "gpu"}, "FC_SDXL_DEVICE=gpu"),
        ({"sdxl_dtype": "half"}, "FC_SDXL_DTYPE=half"),
        ({"face_size": 500}, "FC_FACE_SIZE=500"),
    ],
)
def test_a_wrong_setting_is_named(fields, name):
    settings = Settings(_env_file=None, **{"face_model": "somebody/some-model", **fields})
    with pytest.raises(SettingsError, match=name):
        FluxGenerator.from_settings(settings)

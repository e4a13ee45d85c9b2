"""SDXL through the real diffusers, over a checkpoint with random weights of 3 MB."""

import json
import logging
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.errors import BackendError, SettingsError
from jobs.recipes.values import Scheduler
from resources.choose import make_generator
from resources.generators.base import Generated
from resources.generators.diffusion.calls import batches
from resources.generators.diffusion.outcomes import steps_done
from resources.generators.diffusion.sdxl import SdxlGenerator
from resources.generators.diffusion.sdxl_model import load_model
from resources.generators.diffusion.sdxl_schedulers import SCHEDULERS, make_scheduler
from resources.settings import PROJECT_ROOT, Settings
from tests.support.diffusion import sdxl
from tests.support.sdxl import SIDE, inpaint_task, photo, pixels, task
from tests.support.tiny_sdxl import NATIVE_SIZE, build_tiny_sdxl

pytest.importorskip("diffusers")
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]

COMMIT = "0123456789abcdef0123456789abcdef01234567"
BAD_SEED = 2**70  # torch refuses it, and with it the whole call
NAN_PROMPT = "Q"


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hub cache, and no Hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def furthest(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


# --- Text to image --------------------------------------------------------------------------------------------------


def test_an_image_has_the_size_asked_for_and_says_how_it_was_made(generator):
    (outcome,) = generator.generate([task(width=48, height=SIDE)])
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
        "batch_size": 1,
        "batch_index": 0,
        "compiled": False,
        "memory_savings": [],
        "scheduler_class": "EulerAncestralDiscreteScheduler",
        "denoising_steps": 2,
        "prompt_tokens": 15,
        "negative_tokens": 4,
    }


def test_the_same_tasks_give_the_same_bytes_and_another_seed_gives_others(generator):
    tasks = [task(seed=1), task(seed=2)]
    first, again = pixels(generator.generate(tasks)), pixels(generator.generate(tasks))
    np.testing.assert_array_equal(first, again)
    assert furthest(first[0], first[1]) > 1


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_scheduler_draws_its_noise_from_the_image_s_own_seed(generator, scheduler):
    tasks = [task(seed=seed, scheduler=scheduler, steps=3) for seed in (1, 2)]
    together = pixels(generator.generate(tasks))
    alone = [pixels(generator.generate([one]))[0] for one in tasks]
    assert furthest(together[0], alone[0]) <= 1
    assert furthest(together[1], alone[1]) <= 1
    assert furthest(alone[0], alone[1]) > 1


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("steps", [1, 9])
def test_every_scheduler_gives_finite_pixels_with_few_and_odd_steps(generator, scheduler, steps):
    assert len(pixels(generator.generate([task(scheduler=scheduler, steps=steps)]))) == 1


def test_tasks_of_many_kinds_come_back_in_their_order_and_batched(tiny_sdxl):
    generator = sdxl(model=str(tiny_sdxl), device="cpu", batch_size=2)
    tasks = [task(), task(width=64), task(seed=8), task(seed=9), task(steps=1), task(width=64, seed=3)]
    outcomes = list(generator.generate(tasks))
    assert [image.shape[1] for image in pixels(outcomes)] == [SIDE, 64, SIDE, SIDE, SIDE, 64]
    layout = [(outcome.details["batch_size"], outcome.details["batch_index"]) for outcome in outcomes]
    assert layout == [(2, 0), (2, 0), (2, 1), (1, 0), (1, 0), (2, 1)]
    for one, outcome in zip(tasks, outcomes, strict=True):
        assert furthest(outcome.pixels, pixels(generator.generate([one]))[0]) <= 1


def test_an_image_is_there_before_the_next_batch_is_made(tiny_sdxl):
    generator = sdxl(model=str(tiny_sdxl), device="cpu", batch_size=1)
    outcomes = generator.generate([task(seed=1), task(seed=2)])
    assert isinstance(next(outcomes), Generated)
    assert list(generator.generate([])) == []


def test_no_negative_prompt_is_another_thing_than_an_empty_one_and_neighbours_do_not_change_that(generator):
    import diffusers

    model = load_model(generator.names, generator.options)
    none, other = pixels(generator.generate([task(negative_prompt=""), task(negative_prompt="hat")]))
    reference = diffusers.StableDiffusionXLPipeline(
        **model.parts, scheduler=make_scheduler("Euler a", model.scheduler_config), add_watermarker=False
    )
    reference.set_progress_bar_config(disable=True)

    def expected(negative):
        import torch

        images = reference(
            prompt=[task().prompt],
            negative_prompt=negative,
            generator=[torch.Generator("cpu").manual_seed(7)],
            width=SIDE,
            height=SIDE,
            num_inference_steps=2,
            guidance_scale=6.0,
            output_type="np",
        ).images
        return np.rint(images[0] * 255).astype(np.uint8)

    np.testing.assert_array_equal(none, expected(None))
    np.testing.assert_array_equal(other, expected(["hat"]))
    assert furthest(expected([""]), none) > 0


def test_words_beyond_clip_s_77_tokens_are_seen_and_do_not_touch_a_shorter_neighbour(generator):
    short, long, other = [task(prompt="x" * count + end) for count, end in ((30, ""), (100, "y"), (100, "z"))]
    outcomes = list(generator.generate([short, long, other]))
    first, second, third = pixels(outcomes)
    assert [one.details["prompt_tokens"] for one in outcomes] == [30, 101, 101]
    assert [one.details["batch_size"] for one in outcomes] == [1, 2, 2]
    assert furthest(second, third) > 0
    np.testing.assert_array_equal(first, pixels(generator.generate([short]))[0])


# --- Inpainting -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_inpainting_makes_the_masked_latents_anew_and_keeps_the_others(generator, monkeypatch, scheduler):
    vae = load_model(generator.names, generator.options).parts["vae"]
    decoded = []
    monkeypatch.setattr(vae, "decode", _first_seen(vae.decode, decoded))
    asked = inpaint_task(1.0, steps=3, scheduler=scheduler)
    for mask in (asked.mask, np.zeros_like(asked.mask)):
        (image,) = pixels(generator.inpaint([replace(asked, mask=mask)]))
        assert image.shape == (SIDE, SIDE, 3)
        assert image.dtype == np.uint8
    changed = (decoded[0] != decoded[1]).any(axis=(0, 1))
    np.testing.assert_array_equal(changed, asked.mask[::2, ::2] > 0)


def _first_seen(function, seen):
    def noted(latents, *args, **kwargs):
        seen.append(latents.numpy().copy())
        return function(latents, *args, **kwargs)

    return noted


@pytest.mark.parametrize(("strength", "steps", "done"), [(1.0, 4, 4), (0.5, 4, 2), (0.01, 4, 1), (0.29, 100, 29)])
def test_a_strength_is_a_share_of_the_steps_and_at_least_one(generator, monkeypatch, strength, steps, done):
    model = load_model(generator.names, generator.options)
    seen = []
    monkeypatch.setattr(model.parts["unet"], "forward", _counting(model.parts["unet"].forward, seen))
    (outcome,) = generator.inpaint([inpaint_task(strength, steps=steps, scheduler="Euler")])
    assert outcome.details["denoising_steps"] == len(seen) == done


def _counting(forward, seen):
    def counted(*args, **kwargs):
        seen.append(1)
        return forward(*args, **kwargs)

    return counted


@given(st.floats(0, 1), st.integers(1, 150))
def test_steps_done_stay_within_the_steps(strength, steps):
    done = steps_done(strength, steps)
    assert (done == 0) == (strength == 0)
    assert 0 <= done <= steps
    if done > 1:
        assert done == pytest.approx(strength * steps, abs=1 + 1e-5)


def test_strength_0_gives_the_image_back_to_the_last_bit(generator):
    asked = inpaint_task(0.0)
    outcome, changed = generator.inpaint([asked, inpaint_task(0.6)])
    np.testing.assert_array_equal(outcome.pixels, asked.image)
    assert outcome.details["denoising_steps"] == 0
    assert furthest(changed.pixels, asked.image) > 1


def test_without_soft_inpainting_an_edge_is_made_anew_to_its_very_end(tiny_sdxl):
    generator = sdxl(model=str(tiny_sdxl), device="cpu", soft_inpaint="off")
    soft = inpaint_task(1.0)
    hard = replace(soft, mask=np.where(soft.mask > 0, 255, 0).astype(np.uint8))
    soft.mask[8:24, 8:12] = 1
    assert soft.mask.min(initial=255, where=hard.mask > 0) == 1
    np.testing.assert_array_equal(*pixels(next(generator.inpaint([one])) for one in (soft, hard)))


def test_inpainting_tasks_of_many_kinds_keep_their_order(generator):
    tasks = [inpaint_task(0.5), inpaint_task(0.9, size=64), inpaint_task(0.5, seed=8), inpaint_task(0.9)]
    outcomes = list(generator.inpaint(tasks))
    assert [image.shape[0] for image in pixels(outcomes)] == [SIDE, 64, SIDE, SIDE]
    assert [outcome.details["batch_size"] for outcome in outcomes] == [2, 1, 2, 1]


def test_an_image_of_another_size_than_its_task_fails_alone(generator):
    wrong = replace(inpaint_task(), image=photo(64))
    bad, good = generator.inpaint([wrong, inpaint_task()])
    assert isinstance(bad, BackendError)
    assert "(64, 64, 3)" in bad.what
    assert isinstance(good, Generated)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_both_pipelines_share_the_weights_and_leave_their_dtype_alone(tiny_sdxl, monkeypatch, dtype):
    import diffusers
    import torch

    used = []
    for kind in (diffusers.StableDiffusionXLPipeline, diffusers.StableDiffusionXLInpaintPipeline):
        monkeypatch.setattr(kind, "__call__", _noting(kind.__call__, used))
    generator = sdxl(model=str(tiny_sdxl), device="cpu", dtype=dtype)
    (first,) = pixels(generator.generate([task()]))
    (_,) = pixels(generator.inpaint([inpaint_task()]))
    (again,) = pixels(generator.generate([task()]))
    np.testing.assert_array_equal(first, again)
    assert len(used) == 3
    assert len({id(pipeline.scheduler) for pipeline in used}) == 3
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        assert len({id(getattr(pipeline, part)) for pipeline in used}) == 1
        assert {weight.dtype for weight in getattr(used[0], part).parameters()} == {getattr(torch, dtype)}


def _noting(call, used):
    def noted(self, *args, **kwargs):
        used.append(self)
        return call(self, *args, **kwargs)

    return noted


def test_an_inpainting_checkpoint_inpaints_and_says_that_it_cannot_start_from_text(tmp_path):
    generator = sdxl(model=str(build_tiny_sdxl(tmp_path / "nine", in_channels=9)), device="cpu")
    (outcome,) = pixels(generator.inpaint([inpaint_task()]))
    assert outcome.shape == (SIDE, SIDE, 3)
    (error,) = generator.generate([task()])
    assert isinstance(error, BackendError)
    assert "inpainting checkpoint" in error.what


# --- One bad task ---------------------------------------------------------------------------------------------------


def test_a_task_that_breaks_its_batch_fails_alone(generator, caplog):
    tasks = [task("good-1", seed=1), task("bad", seed=BAD_SEED), task("good-2", seed=2)]
    first, bad, last = generator.generate(tasks)
    assert isinstance(bad, BackendError)
    assert bad.what.startswith("Job bad: ")
    assert "A batch of 3 images failed" in caplog.text
    np.testing.assert_array_equal(first.pixels, pixels(generator.generate([tasks[0]]))[0])
    np.testing.assert_array_equal(last.pixels, pixels(generator.generate([tasks[2]]))[0])


def test_a_prompt_that_overflows_fails_alone_within_its_batch(own_copy):
    from safetensors.torch import load_file, save_file

    weights = own_copy / "text_encoder/model.safetensors"
    tensors = load_file(weights)
    (table,) = (name for name in tensors if name.endswith("token_embedding.weight"))
    vocabulary = json.loads((own_copy / "tokenizer/vocab.json").read_text(encoding="utf-8"))
    tensors[table][vocabulary[f"{NAN_PROMPT.lower()}</w>"]] = float("nan")
    save_file(tensors, weights, metadata={"format": "pt"})
    generator = sdxl(model=str(own_copy), device="cpu")
    outcomes = list(generator.generate([task("a"), task("b", prompt=NAN_PROMPT), task("c", seed=9)]))
    assert [type(outcome) for outcome in outcomes] == [Generated, BackendError, Generated]
    assert "Job b" in outcomes[1].what
    assert "float32" in outcomes[1].what
    assert "FC_SDXL_DTYPE" in outcomes[1].hint
    assert [outcomes[index].details["batch_size"] for index in (0, 2)] == [3, 3]


def test_an_unknown_scheduler_is_named_with_the_known_ones(generator):
    bad, good = generator.generate([task("bad", scheduler="LMS"), task()])
    assert isinstance(bad, BackendError)
    assert "'LMS'" in bad.what
    assert "UniPC" in bad.hint
    assert isinstance(good, Generated)


def test_out_of_memory_is_told_with_the_size(own_copy, monkeypatch):
    import torch

    def no_memory(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    generator = sdxl(model=str(own_copy), device="cpu")
    model = load_model(generator.names, generator.options)
    monkeypatch.setattr(model.parts["unet"], "forward", no_memory)
    first, second = generator.generate([task("one"), task("two")])
    assert isinstance(second, BackendError)
    assert first.what == "Job one: the cpu is out of memory (32x32 pixels, float32 on cpu, one image alone)."
    assert isinstance(first.__cause__, torch.OutOfMemoryError)


def test_a_failure_while_the_vae_is_upcast_does_not_spoil_the_next_image(tiny_sdxl, monkeypatch):
    import torch

    generator = sdxl(model=str(tiny_sdxl), device="cpu", dtype="float16")
    (before,) = pixels(generator.generate([task()]))
    vae = load_model(generator.names, generator.options).parts["vae"]
    seen = []

    def failing(*args, **kwargs):
        seen.append(vae.dtype)
        raise RuntimeError("the device was lost for a moment")

    with monkeypatch.context() as patch:
        patch.setattr(vae, "decode", failing)
        (error,) = generator.generate([task()])
    assert isinstance(error, BackendError)
    assert seen == [torch.float32]
    np.testing.assert_array_equal(pixels(generator.generate([task()]))[0], before)


# --- Loading --------------------------------------------------------------------------------------------------------


def test_the_weights_are_loaded_once_for_all_calls_and_instances(own_copy, caplog):
    caplog.set_level(logging.INFO)
    for device in ("auto", "cpu"):
        generator = sdxl(model=str(own_copy), device=device)
        list(generator.generate([task()]))
        list(generator.inpaint([inpaint_task()]))
    assert caplog.text.count("Loaded the SDXL checkpoint own") == 1


def test_other_weights_in_the_same_folder_are_loaded_and_told(own_copy, tmp_path):
    generator = sdxl(model=str(own_copy), device="cpu")
    (before,), told = pixels(generator.generate([task()])), generator.describe()
    from safetensors.torch import load_file, save_file

    weights = own_copy / "unet/diffusion_pytorch_model.safetensors"
    save_file({name: tensor * 3 for name, tensor in load_file(weights).items()}, weights, metadata={"format": "pt"})
    (after,) = pixels(generator.generate([task()]))
    assert furthest(before, after) > 1
    assert generator.describe() == {**told, "weights": generator.describe()["weights"]} != told


@pytest.mark.parametrize(
    "name",
    [
        "model_index.json",
        "unet/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder_2/model.safetensors",
        "scheduler/scheduler_config.json",
        "tokenizer_2/tokenizer.json",
    ],
)
def test_a_missing_file_is_named(own_copy, name):
    (own_copy / name).unlink()
    generator = sdxl(model=str(own_copy))
    for use in (generator.describe, lambda: next(generator.generate([task()]))):
        with pytest.raises(SettingsError, match="FC_SDXL_MODEL") as caught:
            use()
        assert name in caught.value.what
        assert "hf download" in caught.value.hint


def test_a_missing_shard_is_named(own_copy):
    unet = own_copy / "unet"
    (unet / "diffusion_pytorch_model.safetensors").rename(unet / "diffusion_pytorch_model-00001-of-00002.safetensors")
    shards = {"a": "diffusion_pytorch_model-00001-of-00002.safetensors"}
    shards["b"] = shards["a"].replace("00001-", "00002-")
    (unet / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(SettingsError, match=f"unet/{shards['b']}"):
        sdxl(model=str(own_copy)).describe()


def test_pickled_weights_are_refused(own_copy):
    weights = own_copy / "unet/diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(SettingsError, match=r"pickles only \(diffusion_pytorch_model.bin\)"):
        next(sdxl(model=str(own_copy)).generate([task()]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_class_name": "FluxPipeline"}, "a FluxPipeline, not an SDXL checkpoint"),
        ({"unet": ["my_unet", "MyUNet"]}, "code from outside"),
        ({"text_encoder": [None, None]}, "names no text_encoder"),
    ],
)
def test_other_models_and_foreign_code_are_refused(own_copy, change, message):
    index = own_copy / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), **change}))
    with pytest.raises(SettingsError, match=message):
        next(sdxl(model=str(own_copy)).generate([task()]))


def test_damaged_weights_are_told_with_the_folder(own_copy):
    weights = own_copy / "vae/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BackendError, match="is cut off") as caught:
        next(sdxl(model=str(own_copy), device="cpu").generate([task()]))
    assert str(own_copy) in caught.value.what


def test_a_checkpoint_with_half_precision_files_only_is_loaded(own_copy, generator):
    for path in own_copy.rglob("*.safetensors"):
        path.rename(path.with_suffix(".fp16.safetensors"))
    (found,) = pixels(sdxl(model=str(own_copy), device="cpu").generate([task()]))
    np.testing.assert_array_equal(found, pixels(generator.generate([task()]))[0])


@pytest.mark.parametrize("model", ["/no/such/folder", "./models/none", "just-a-name", "~/none/at/all"])
def test_a_folder_that_is_not_there_is_told(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=r"neither the whole path of a folder or \.safetensors file on"):
        sdxl(model=model).native_size()


def test_a_device_that_is_not_there_is_told(tiny_sdxl):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has the device")
    with pytest.raises(SettingsError, match="FC_SDXL_DEVICE=cuda"):
        next(sdxl(model=str(tiny_sdxl), device="cuda").generate([task()]))


# --- The Hub --------------------------------------------------------------------------------------------------------


def test_a_hub_id_that_cannot_be_reached_is_told_when_it_is_needed_and_not_before(hub_cache):
    generator = sdxl(model="somebody/some-model")
    assert generator.native_size() == 1024
    told = generator.describe()
    assert (told["model"], told["commit"], told["weights"]) == ("somebody/some-model", None, None)
    assert not hub_cache.exists()
    with pytest.raises(BackendError, match="FC_SDXL_MODEL=somebody/some-model") as caught:
        next(generator.generate([task()]))
    assert "hf download somebody/some-model" in caught.value.hint


def test_a_hub_id_in_the_cache_needs_no_network(hub_cache, tiny_sdxl, generator):
    cached = hub_cache / "models--somebody--some-model"
    shutil.copytree(tiny_sdxl, cached / "snapshots" / COMMIT)
    (cached / "refs").mkdir()
    (cached / "refs/main").write_text(COMMIT)
    hub = sdxl(model="somebody/some-model", device="cpu")
    local = generator.describe()
    assert local["model"] == "tiny"
    assert hub.describe() == {**local, "model": "somebody/some-model", "commit": COMMIT}
    assert hub.native_size() == NATIVE_SIZE
    np.testing.assert_array_equal(
        pixels(hub.generate([task()])),
        pixels(generator.generate([task()])),
    )
    (cached / "snapshots" / COMMIT / "vae/diffusion_pytorch_model.safetensors").unlink()
    assert hub.describe()["weights"] is None


# --- What is told, and how it is set --------------------------------------------------------------------------------


def test_describing_and_choosing_import_no_torch(tiny_sdxl):
    program = (
        "import sys, json\n"
        "from resources.choose import make_generator\n"
        "from resources.settings import Settings\n"
        f"tool, why = make_generator(Settings(_env_file=None, sdxl_model={str(tiny_sdxl)!r}))\n"
        "print(json.dumps([why, tool.name, tool.describe(), tool.native_size()]))\n"
        "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    why, name, told, size = json.loads(done.stdout)
    assert why == "sdxl, as FC_SDXL_MODEL is set."
    assert name == "sdxl"
    assert told == sdxl(model=str(tiny_sdxl)).describe()
    assert size == NATIVE_SIZE


def test_the_fingerprint_sees_a_change_anywhere_in_a_large_file(own_copy):
    weights = own_copy / "vae/diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes() * 4)  # over 4 MiB, so it is sampled
    seen = set()
    for start in (None, 0, len(content) // 2, len(content) - 40_000):
        if start is not None:
            content[start : start + 40_000] = bytes(40_000)
        weights.write_bytes(content)
        seen.add(sdxl(model=str(own_copy)).describe()["weights"])
    assert len(seen) == 4


def test_the_face_size_is_the_one_that_is_set(tiny_sdxl):
    assert sdxl(model=str(tiny_sdxl), face_size=768).native_size() == 768
    assert sdxl(model=str(tiny_sdxl)).native_size() == NATIVE_SIZE


def test_every_field_comes_from_the_settings():
    settings = Settings(
        _env_file=None,
        sdxl_model="somebody/some-model",
        sdxl_revision="v2",
        sdxl_config="somebody/configs",
        sdxl_vae="somebody/vae",
        sdxl_loras="somebody/lora=0.5; other/lora",
        sdxl_embeddings="/models/word.safetensors",
        lora_dir="/models/loras",
        sdxl_device="cpu",
        sdxl_dtype="float16",
        sdxl_batch_size=3,
        face_size=512,
        sdxl_compile="max",
        model_memory=20,
        image_timeout=60,
    )
    generator = SdxlGenerator.from_settings(settings)
    assert asdict(generator.names) == {
        "checkpoint": "somebody/some-model",
        "revision": "v2",
        "config": "somebody/configs",
        "vae": "somebody/vae",
        "loras": ("somebody/lora=0.5", "other/lora"),
        "more_loras": (),
        "embeddings": ("/models/word.safetensors",),
        "clip_skip": 2,
        "lora_dir": Path("/models/loras"),
        "setting": "FC_SDXL_MODEL",
        "own": {"more_loras"},
    }
    assert asdict(generator.options) == {
        "device": "cpu",
        "dtype": "float16",
        "batch_size": 3,
        "face_size": 512,
        "compile_mode": "max",
        "memory": 20.0,
        "image_timeout": 60.0,
    }
    assert generator.soft_inpaint == "auto"


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"sdxl_model": ""}, "FC_SDXL_MODEL"),
        ({"sdxl_device": "gpu"}, "FC_SDXL_DEVICE=gpu"),
        ({"sdxl_dtype": "half"}, "FC_SDXL_DTYPE=half"),
        ({"face_size": 500}, "FC_FACE_SIZE=500"),
    ],
)
def test_a_wrong_setting_is_named(fields, name):
    settings = Settings(_env_file=None, generator="sdxl", **{"sdxl_model": "somebody/some-model", **fields})
    with pytest.raises(SettingsError, match=name):
        make_generator(settings)


def test_the_schedulers_are_those_that_a_request_may_name():
    assert set(get_args(Scheduler)) == set(SCHEDULERS)


SDXL_SCHEDULER = {  # scheduler_config.json of stable-diffusion-xl-base-1.0
    "_class_name": "EulerDiscreteScheduler",
    "_diffusers_version": "0.19.0.dev0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "interpolation_type": "linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "sample_max_value": 1.0,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "trained_betas": None,
    "use_karras_sigmas": False,
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_finds_the_distribution_whose_noise_is_known(name):
    """Normally distributed data, for which the noise to be predicted has a closed form (Karras et al. 2022, eq. 3)."""
    import inspect

    import torch

    scheduler = make_scheduler(name, SDXL_SCHEDULER)
    scheduler.set_timesteps(40)
    mean, spread = torch.linspace(-2, 2, 16), 0.5
    generator = torch.Generator().manual_seed(5)
    latents = torch.randn(256, 16, generator=generator) * scheduler.init_noise_sigma
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    kept = torch.cumprod(1 - betas, 0).numpy()
    noise_levels = np.log((1 - kept) / kept)
    draws = {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}
    for step in scheduler.timesteps:
        seen = scheduler.scale_model_input(latents, step)
        signal = 1 / (1 + float(np.exp(np.interp(float(step), np.arange(1000), noise_levels))))
        noise = (seen - signal**0.5 * mean) * (1 - signal) ** 0.5 / (signal * spread**2 + 1 - signal)
        latents = scheduler.step(noise, step, latents, **draws).prev_sample
    torch.testing.assert_close(latents.mean(0), mean, rtol=0, atol=0.2)
    # LCM leaps to the end and back at every step, which keeps the spread only for a model that was distilled for it.
    assert float(latents.std(0).mean()) == pytest.approx(spread, abs=0.2 if name == "LCM" else 0.08)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_is_made_without_a_warning_for_every_image(name):
    import diffusers

    warned = []
    logger = diffusers.utils.logging.get_logger("diffusers.configuration_utils")
    logger.addFilter(warned.append)
    try:
        make_scheduler(name, SDXL_SCHEDULER)
    finally:
        logger.removeFilter(warned.append)
    assert warned == []


def test_lightning_checkpoints_start_at_the_last_time_step():
    scheduler = make_scheduler("Euler SGM Uniform", SDXL_SCHEDULER)
    scheduler.set_timesteps(4)
    assert scheduler.timesteps.tolist() == [999, 749, 499, 249]


def test_a_noise_schedule_that_a_scheduler_cannot_run_is_told():
    with pytest.raises(BackendError, match="EDMEulerScheduler"):
        make_scheduler("Euler", {"_class_name": "EDMEulerScheduler", "sigma_data": 0.5})
    zero_snr = {"beta_schedule": "scaled_linear", "rescale_betas_zero_snr": True}
    with pytest.raises(BackendError, match=r"zero signal.*Euler, Euler a,") as caught:
        make_scheduler("Heun", zero_snr)
    assert "Heun" not in caught.value.hint
    assert make_scheduler("Euler", zero_snr).config.rescale_betas_zero_snr


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 8))
def test_batches_hold_each_task_once_and_equal_keys_only(keys, size):
    made = batches(keys, size)
    assert sorted(index for batch in made for index in batch) == list(range(len(keys)))
    for batch in made:
        assert 1 <= len(batch) <= size
        assert batch == sorted(batch)
        assert len({keys[index] for index in batch}) == 1

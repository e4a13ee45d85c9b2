"""SDXL in service: short memory, time limits, cancellation, and compiled parts that nothing compiles anew."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import numpy as np
import pytest

from jobs.queue.job_queue import JobQueue
from resources.generators.base import Generated
from resources.generators.diffusion import calls, sdxl_model
from resources.generators.diffusion.calls import ImageTimeoutError, Watch
from resources.generators.diffusion.model_cache import MODELS
from resources.generators.diffusion.sdxl import SdxlGenerator
from resources.generators.diffusion.sdxl_model import COMPILED_BATCHES, Model, load_model
from resources.store.image_store import ImageStore
from tests.support.clock import PATIENCE
from tests.support.diffusion import sdxl
from tests.support.graph import add_jobs, materialize
from tests.support.sdxl import SIDE, good, inpaint_task, pixels, task
from tests.support.tiny_sdxl import NATIVE_SIZE


@pytest.fixture
def own_generator(own_copy: Path) -> Iterator[SdxlGenerator]:
    """A generator whose model no other test uses, as a model learns what fits into memory."""
    yield sdxl(model=str(own_copy), device="cpu", batch_size=8)
    MODELS.clear()


def loaded(generator: SdxlGenerator) -> Model:
    return load_model(generator.names, generator.options)


def memory_for(model: Model, monkeypatch: pytest.MonkeyPatch, *, unet_images: int, vae_latents: int = 10**9) -> None:
    """Let the model's parts fail as a GPU does when they are given more than so much."""
    import torch

    unet, decoder = model.parts["unet"].forward, model.parts["vae"].decoder.forward

    def small(most: int, size_of: Callable[[Any], int], forward: Callable[..., Any]) -> Callable[..., Any]:
        def run(sample: Any, *args: Any, **kwargs: Any) -> Any:
            if size_of(sample) > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
            return forward(sample, *args, **kwargs)

        return run

    monkeypatch.setattr(model.parts["unet"], "forward", small(unet_images * 2, len, unet))
    monkeypatch.setattr(
        model.parts["vae"].decoder,
        "forward",
        small(vae_latents, lambda sample: sample.shape[-1] * sample.shape[-2], decoder),
    )


def test_a_batch_that_does_not_fit_is_halved_until_it_does_and_the_next_ones_know(
    own_generator: SdxlGenerator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = [task(f"job-{number}", seed=number) for number in range(7)]
    expected = pixels(own_generator.generate(tasks))
    model = loaded(own_generator)
    memory_for(model, monkeypatch, unet_images=2)
    outcomes = [good(one) for one in own_generator.generate(tasks)]
    assert [one.details["batch_size"] for one in outcomes] == [1] * 7  # 7, 3, 1: whole halves
    assert all(one.details["memory_savings"] == ["small batch"] for one in outcomes)
    assert "out of memory; going on 3 of 7 images at once" in caplog.text
    for one, other in zip(outcomes, expected, strict=True):
        assert np.abs(one.pixels.astype(int) - other).max() <= 1
    caplog.clear()
    assert len(pixels(own_generator.generate(tasks))) == 7
    assert caplog.text == ""
    (smaller,) = own_generator.generate([task(width=SIDE // 2, height=SIDE // 2)])
    assert good(smaller).details["batch_size"] == 1
    assert model.memory.fits(task(width=SIDE // 2, height=SIDE // 2)) == 4 * (model.memory.fits(task()) or 0)


def test_one_image_that_does_not_fit_is_decoded_in_tiles(
    own_generator: SdxlGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = task(width=64, height=64)
    (whole,) = pixels(own_generator.generate([large]))
    model = loaded(own_generator)
    memory_for(model, monkeypatch, unet_images=1, vae_latents=16 * 16)
    (outcome,) = own_generator.generate([large])
    assert good(outcome).details["memory_savings"] == ["tiled VAE"]
    assert good(outcome).pixels.shape == whole.shape
    assert np.abs(good(outcome).pixels.astype(int) - whole).mean() < 10, "the same picture, but for the tiles' edges"
    assert not model.parts["vae"].use_tiling, "smaller images are made as before"
    (small,) = own_generator.generate([task()])
    assert good(small).details["memory_savings"] == []


def test_other_models_go_first_when_memory_is_short(
    own_generator: SdxlGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded(own_generator)
    MODELS.get("other", object, label="another model", needs=1)
    assert model.memory.save(model, 4, task()) == "without another model"
    assert model.memory.save(model, 4, task()) == "2 of 4 images at once"
    assert model.memory.save(model, 1, task()) == "with the VAE in tiles"
    assert model.memory.save(model, 1, task()) is None, "nothing is left on a CPU"
    monkeypatch.setattr(model.memory, "device", "cuda")
    assert model.memory.save(model, 1, task()) == "with the model's parts in main memory"
    assert model.memory.save(model, 1, task()) is None
    assert model.memory.savings(task()) == ["small batch", "tiled VAE", "offload"]


def test_an_image_past_its_time_ends_between_two_steps_and_says_so(
    own_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = sdxl(model=str(own_copy), device="cpu", image_timeout=60)
    looks = itertools.count(step=121)  # two images may take 120 seconds together
    monkeypatch.setattr(calls, "time", SimpleNamespace(monotonic=lambda: next(looks), perf_counter=time.perf_counter))
    first, second = generator.generate([task("a", steps=9), task("b", steps=9)])
    for name, error in (("a", first), ("b", second)):
        assert isinstance(error, ImageTimeoutError)
        assert error.what.startswith(f"Job {name}: 1 of 9 steps took 121 seconds, and an image may take 60")
        assert "FC_IMAGE_TIMEOUT" in error.hint


def test_a_reader_that_goes_stops_the_batch_that_is_made_ahead(
    own_generator: SdxlGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = replace(own_generator, options=replace(own_generator.options, batch_size=1))
    steps = 0
    second_runs = threading.Event()
    real = Watch.__call__

    def slow(watch: Watch, pipeline: object, step: int, timestep: object, tensors: dict[str, Any]) -> dict[str, Any]:
        nonlocal steps
        steps += 1
        if steps == 3:  # the first step of the second image
            second_runs.set()
            assert watch.stop.wait(PATIENCE)
        return real(watch, pipeline, step, timestep, tensors)

    monkeypatch.setattr(Watch, "__call__", slow)
    outcomes = generator.generate([task(steps=2), task(steps=2, seed=2), task(steps=2, seed=3)])
    assert isinstance(next(outcomes), Generated)
    assert second_runs.wait(PATIENCE)
    outcomes.close()  # type: ignore[attr-defined]
    assert steps == 3, "it ended at its next step, and the third image was never begun"


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """The shapes of the latents of every graph that was compiled, by a compiler that changes nothing."""
    import torch

    seen: list[tuple[int, ...]] = []

    def compiler(graph: Any, inputs: list[Any]) -> Any:
        shapes = [tuple(one.shape) for one in inputs if getattr(one, "ndim", 0) == 4]
        seen.append(next(shape for shape in shapes if shape[1:] == (4, NATIVE_SIZE // 2, NATIVE_SIZE // 2)))
        return graph.forward

    monkeypatch.setattr(sdxl_model, "COMPILER", compiler)
    torch._dynamo.reset()
    yield seen
    torch._dynamo.reset()


def test_nothing_is_compiled_anew_in_service(own_generator: SdxlGenerator, compilations: list[tuple[int, ...]]) -> None:
    generator = replace(own_generator, options=replace(own_generator.options, compile_mode="default"))
    size = {"width": NATIVE_SIZE, "height": NATIVE_SIZE}
    eager = pixels(own_generator.generate([task(**size, seed=seed) for seed in range(3)]))
    three = [good(one) for one in generator.generate([task(**size, seed=seed) for seed in range(3)])]
    assert all(one.details["compiled"] for one in three)
    assert [one.details["batch_size"] for one in three] == [3, 3, 3]
    for one, other in zip(three, eager, strict=True):
        assert np.abs(one.pixels.astype(int) - other).max() <= 1
    first = len(compilations)
    assert first > 0
    assert {shape[0] for shape in compilations} == {8, 4}, "four images, for the UNet with and without the prompt"

    pixels(generator.generate([task(**size, steps=5, prompt="another", scheduler="Euler") for _ in range(4)]))
    pixels(generator.inpaint([inpaint_task(size=NATIVE_SIZE, seed=seed) for seed in range(3)]))
    assert len(compilations) == first, (
        "other prompts, steps, samplers, a smaller batch and inpainting run what is there"
    )

    (odd,) = generator.generate([task(width=NATIVE_SIZE, height=NATIVE_SIZE + 8)])
    assert not good(odd).details["compiled"], "a size that few people use is not worth a compilation"
    assert len(compilations) == first


def test_what_is_compiled_is_kept_in_the_data_folder_unless_the_user_says_where(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._inductor.runtime.cache_dir_utils import cache_dir, default_cache_dir

    for before, after in ((default_cache_dir(), home / "data/torch-compile"), (str(home / "mine"), home / "mine")):
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", before)
        sdxl_model._keep_compiled()
        assert cache_dir() == str(after)


def test_compiled_sizes_are_those_of_sdxl_at_the_model_s_scale(own_generator: SdxlGenerator) -> None:
    model = loaded(own_generator)
    model.compile_mode, model.native_size = "max", 1024
    for width, height in ((1024, 1024), (896, 1152), (1216, 832), (768, 1344)):
        assert model.is_compiled(task(width=width, height=height))
    assert not model.is_compiled(task(width=1000, height=1000))
    model.memory.offloaded = True
    assert not model.is_compiled(task(width=1024, height=1024))
    assert COMPILED_BATCHES[0] == 1


def test_the_run_s_log_tells_what_the_generator_does(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, own_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FC_GENERATOR", "sdxl")
    monkeypatch.setenv("FC_SDXL_MODEL", str(own_copy))
    monkeypatch.setenv("FC_SDXL_DEVICE", "cpu")
    monkeypatch.setattr(calls, "PROGRESS_SECONDS", 0)
    add_jobs(
        queue, store, {"job_type": "sdxl_generation", "pony_prompt": "rain", "width": 64, "height": 64, "steps": 3}
    )
    result = materialize(instance, "a")
    told = [record.user_message for record in instance.all_logs(result.run_id) if record.dagster_event is None]
    assert any(line.startswith("Loaded the SDXL checkpoint") for line in told)
    assert [line for line in told if line.startswith("Step ")] == [f"Step {step} of 3, 1 image" for step in (1, 2, 3)]
    MODELS.clear()

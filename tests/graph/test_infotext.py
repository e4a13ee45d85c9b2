"""The text in a picture's PNG means to A1111, ComfyUI and Civitai what it says; read by their rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import dagster as dg
import pytest

from fc_assets.stages.provenance import TOOL, generated_provenance
from imaging.files.provenance import parse_a1111, read_provenance
from jobs.queue.job_queue import JobQueue
from jobs.recipes.values import Scheduler
from resources.generators.base import ImageTask
from resources.samplers import SAMPLERS
from resources.store.image_store import ImageStore
from tests.support import readers
from tests.support.graph import add_jobs, materialize

MADE_BY = {"generator": "sdxl", "model": "pony_v6", "clip_skip": 2}


@pytest.fixture
def said(queue: JobQueue, store: ImageStore) -> Any:
    """The text of a generated picture."""
    (job,) = add_jobs(queue, store, {"pony_prompt": "a fox"})

    def text(scheduler: str = "Euler a", generator: str = "sdxl", **made_by: Any) -> str:
        task = ImageTask(job.id, "a fox, sitting", "blurry", 7, 1024, 768, 25, 6.5, scheduler)
        return generated_provenance(job, task, generator, MADE_BY | {"generator": generator} | made_by, {}).parameters

    return text


@pytest.mark.parametrize("scheduler", get_args(Scheduler))
def test_every_sampler_is_read_back_as_what_it_was(scheduler: str, said: Any) -> None:
    found = readers.a1111(said(scheduler))
    sampler, schedule = SAMPLERS[scheduler].forge
    assert (found["Sampler"], found["Schedule type"]) == (sampler, schedule)
    assert readers.a1111_sampling(found) == (sampler, schedule)


def test_the_keys_mean_what_a1111_means_by_them(said: Any) -> None:
    found = readers.a1111(said(model_hash="67ab2fd8ec", clip_skip=1))
    assert found == {
        "Prompt": "a fox, sitting", "Negative prompt": "blurry", "Steps": "25", "Sampler": "Euler a",
        "Schedule type": "Uniform", "CFG scale": "6.5", "Seed": "7", "Size-1": "1024", "Size-2": "768",
        "Model": "pony_v6", "Model hash": "67ab2fd8ec", "Hashes": '{"model": "67ab2fd8ec"}', "Version": TOOL,
        "Clip skip": "1", "Hires resize-1": "0",
    }  # fmt: skip
    assert readers.a1111(said())["Clip skip"] == "2"
    assert "Model" not in readers.a1111(said(generator="sketch", model="none"))


def test_files_are_linked_by_their_hashes(said: Any) -> None:
    loras = [{"name": "film-grain", "weight": 0.8}, {"name": "owner/style", "weight": 0.5, "text_weight": 1}]
    infotext = {
        "Model hash": "67ab2fd8ec", "VAE": "sdxl.safetensors", "VAE hash": "235745af8d",
        "Lora hashes": "film-grain: 0123456789ab, style: ba9876543210",
    }  # fmt: skip
    text = said(loras=loras, infotext=infotext)
    found = readers.a1111(text)
    assert found["Prompt"] == "a fox, sitting <lora:film-grain:0.8> <lora:style:1:0.5>"
    assert found["Lora hashes"] == infotext["Lora hashes"]
    assert (found["VAE"], found["VAE hash"]) == ("sdxl.safetensors", "235745af8d")
    hashes = {
        "model": "67ab2fd8ec", "vae": "235745af8d", "lora:film-grain": "0123456789ab", "lora:style": "ba9876543210",
    }  # fmt: skip
    assert readers.civitai(text) == hashes
    assert json.loads(parse_a1111(text)["settings"]["Hashes"]) == hashes


def test_what_a_server_says_was_in_force_is_told_and_what_is_another_s_is_not(said: Any) -> None:
    server = {"RNG": "CPU", "Emphasis": "No norm", "Steps": "1", "Denoising strength": "0.5", "Version": "v1.10"}
    found = readers.a1111(said(infotext=server))
    assert (found["RNG"], found["Emphasis"], found["Steps"]) == ("CPU", "No norm", "25")
    assert "Denoising strength" not in found


def test_what_a_workflow_leaves_aside_is_told_as_it_has_it(said: Any) -> None:
    in_workflow = {"steps": 4, "cfg_scale": 1.0, "scheduler": "Euler SGM Uniform"}
    comfyui = {"workflow": "ab", "model": "scene.json", "generator": "comfyui", "unused": ["steps", "cfg_scale"]}
    found = readers.a1111(said(checkpoint="sd_xl_base_1.0", in_workflow=in_workflow, **comfyui))
    assert [found[key] for key in ("Model", "Steps", "CFG scale", "Sampler", "Schedule type")] == [
        "sd_xl_base_1.0", "4", "1.0", "Euler", "SGM Uniform",
    ]  # fmt: skip
    found = readers.a1111(said(**comfyui))
    assert not {"Model", "Steps", "CFG scale"} & found.keys()


def test_every_face_s_words_and_strength_are_told(
    instance: dg.DagsterInstance,
    queue: JobQueue,
    store: ImageStore,
    yunet_model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FC_DETECTOR", "yunet")
    monkeypatch.setenv("FC_YUNET_MODEL", str(yunet_model))
    request = {
        "pony_prompt": "two friends on a beach, sunset", "width": 512, "height": 384, "seed": 7,
        "flux_prompt": "red eyes [SEP] blue eyes, old", "negative_prompt": "hat [SEP] beard",
        "face_rules": ["2nd from left: strength=0.2"],
    }  # fmt: skip
    add_jobs(queue, store, request)
    assert materialize(instance, "a").success
    told = read_provenance(store.read("6-final", "a.png"))
    found, faces = readers.a1111(told["parameters"]), told["record"]["face_pass"]["faces"]
    assert [face["negative_prompt"] for face in faces] == ["hat", "beard"]
    assert told["record"]["negative_prompt"] == "hat, beard"
    assert found["ADetailer prompt"] == " [SEP] ".join(face["prompt"] for face in faces)
    assert "blue eyes, old" in found["ADetailer prompt"].partition(" [SEP] ")[2]
    assert found["ADetailer negative prompt"] == "hat [SEP] beard"
    assert sorted(found["ADetailer denoising strength"].split(" [SEP] ")) == ["0.2", "0.5"]
    assert not {"Denoising strength", "Face prompt"} & found.keys()


def test_the_size_is_that_of_the_generated_picture(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore
) -> None:
    add_jobs(queue, store, {"pony_prompt": "portrait of a smiling woman", "output_size": 512})
    assert materialize(instance, "a").success
    found = readers.a1111(read_provenance(store.read("6-final", "a.png"))["parameters"])
    assert (found["Size-1"], found["Size-2"]) == ("256", "256")
    assert read_provenance(store.read("6-final", "a.png"))["record"]["width"] == 512

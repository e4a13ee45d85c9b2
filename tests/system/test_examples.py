"""Every file of `examples/` is read by the real readers, and what makes pictures is run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from jobs.queue.job_queue import JobQueue
from jobs.requests.accept import submit
from jobs.requests.files import load_requests
from jobs.requests.inbox import take_inbox
from jobs.runs.lifecycle import BATCH_TAG
from resources.generators.base import Generated, ImageTask, InpaintTask
from resources.generators.servers.comfyui import ComfyUIGenerator
from resources.generators.servers.comfyui_workflow import (
    FACE_NEEDS,
    FACE_VALUES,
    SCENE_NEEDS,
    SCENE_VALUES,
    read_pack,
    read_workflow,
)
from resources.settings import PROJECT_ROOT, Settings, load_settings
from resources.store.image_store import ImageStore
from sketch.paint import paint_scene
from tests.graph.test_sensor import keys_of, tick
from tests.support.comfyui_server import comfyui_server
from tests.support.commands import Fc
from tests.support.graph import materialize

EXAMPLES = PROJECT_ROOT / "examples"
COMFYUI = EXAMPLES / "comfyui"
WORKFLOWS = {"comfyui_workflow": "scene.json", "comfyui_face_workflow": "face.json", "comfyui_pack": "pack.json"}


@pytest.mark.parametrize(
    ("name", "number"), [("requests.jsonl", 6), ("requests.yaml", 7), ("requests.csv", 3), ("inbox/evening.json", 1)]
)
def test_every_request_is_accepted(fc: Fc, queue: JobQueue, name: str, number: int) -> None:
    code, _, err = fc("submit", "--file", str(EXAMPLES / name), "--hold")
    assert code == 0, err
    assert len(queue.find(limit=100)) == number


def test_the_jobs_of_the_jsonl_file_complete(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FC_FACE_SIZE", "256")
    requests = [
        (job_id, request.model_copy(update={"width": request.width // 32 * 8, "height": request.height // 32 * 8}))
        for job_id, request in load_requests(EXAMPLES / "requests.jsonl")
    ]
    submit(requests, queue=queue, store=store, settings=load_settings(), origin="cli")
    while asked := tick(instance):
        for request in asked:
            assert materialize(instance, *keys_of(request, instance), batch=request.tags[BATCH_TAG]).success
    ended = queue.get_many([str(job_id) for job_id, _ in requests])
    assert {job_id: (job.status, job.error) for job_id, job in ended.items()} == {
        job_id: ("completed", None) for job_id, _ in requests
    }


def test_the_file_for_the_inbox_becomes_a_job(queue: JobQueue, store: ImageStore, tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "inbox/evening.json", tmp_path)
    report = take_inbox(tmp_path, queue=queue, store=store, settings=load_settings())
    assert list(report.accepted) == ["evening.json"]
    (job,) = queue.find(limit=10)
    assert job.request.pony_prompt == json.loads((EXAMPLES / "inbox/evening.json").read_text())["pony_prompt"]


def test_the_workflows_take_what_a_job_says_and_the_pack_lists_what_they_need() -> None:
    scene = read_workflow(COMFYUI / "scene.json", "FC_COMFYUI_WORKFLOW", SCENE_VALUES, SCENE_NEEDS)
    face = read_workflow(COMFYUI / "face.json", "FC_COMFYUI_FACE_WORKFLOW", FACE_VALUES, FACE_NEEDS)
    assert all(map(scene.takes, SCENE_VALUES))
    assert {value for value in FACE_VALUES if not face.takes(value)} == {"width", "height"}
    pack = read_pack(COMFYUI / "pack.json", "FC_COMFYUI_PACK")
    assert set(pack.nodes) == scene.node_types | face.node_types
    loaded = {node["inputs"].get("ckpt_name") for graph in (scene.graph, face.graph) for node in graph.values()}
    assert set(pack.models["checkpoints"]) == loaded - {None}


def test_a_comfyui_server_runs_the_workflows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    task = ImageTask("job-1", "a man", "hat", 3, 128, 96, 20, 6.0, "Euler a")
    mask = np.zeros((96, 128), np.uint8)
    mask[30:60, 40:80] = 255
    with comfyui_server() as (url, _):
        files = {field: COMFYUI / name for field, name in WORKFLOWS.items()}
        generator = ComfyUIGenerator.from_settings(Settings(comfyui_url=url, **files))
        (scene,) = generator.generate([task])
        assert isinstance(scene, Generated)
        (face,) = generator.inpaint([InpaintTask(task, scene.pixels, mask, 0.6)])
    assert np.array_equal(scene.pixels, paint_scene("a man", "hat", 3, 128, 96))
    assert isinstance(face, Generated)
    assert not np.array_equal(face.pixels, scene.pixels)

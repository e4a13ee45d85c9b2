"""The generator comfyui against a local server that runs, refuses, fails, forgets and breaks off as ComfyUI does."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import dagster as dg
import numpy as np
import pytest
from PIL import Image
from skimage import data

from fc_assets.engine.limits import time_limit
from imaging.errors import BackendError, SettingsError, TransientError
from imaging.files.provenance import read_provenance
from jobs.cli.main import main
from jobs.queue.job_queue import JobQueue
from jobs.recipes.values import Scheduler
from resources.choose import make_generator
from resources.generators.base import NOTHING_CHOSEN, Generated, ImageTask, InpaintTask, ModelChoice
from resources.generators.servers import comfyui, comfyui_progress
from resources.generators.servers.comfyui import SAMPLERS, ComfyUIGenerator
from resources.generators.servers.http_api import HttpApi
from resources.settings import Settings
from resources.store.image_store import ImageStore
from sketch.paint import paint_scene
from tests.support import readers
from tests.support.clock import LeapingClock, alarm_when
from tests.support.comfyui_server import (
    CHECKPOINT,
    ComfyUIHandler,
    ComfyUIState,
    comfyui_server,
    face_graph,
    node,
    scene_graph,
)
from tests.support.graph import add_jobs, claim_batch, materialize
from tests.support.http_server import closed_port, read_picture

TASK = ImageTask("job-1", 'a woman, "smiling"', "hat", 2**32 - 1, 128, 96, 25, 6.5, "DPM++ 2M Karras")
Make = Callable[..., ComfyUIGenerator]


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HttpApi, "waits", (0.0, 0.0))
    monkeypatch.setattr(ComfyUIGenerator, "poll_seconds", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[tuple[str, ComfyUIState]]:
    with comfyui_server() as running:
        yield running


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A generator whose workflows and pack are real files."""

    def made(
        url: str,
        scene: Any = None,
        face: Any = None,
        pack: Any = None,
        choice: ModelChoice = NOTHING_CHOSEN,
        **fields: Any,
    ) -> ComfyUIGenerator:
        contents = {"workflow": scene or scene_graph(), "face_workflow": face or face_graph(), "pack": pack}
        for name, content in contents.items():
            if content is not None:
                path = tmp_path / f"{name}.json"
                path.write_text(content if isinstance(content, str) else json.dumps(content))
                fields[f"comfyui_{name}"] = path
        return ComfyUIGenerator.from_settings(Settings(comfyui_url=url, **fields), choice)

    return made


def one(generator: ComfyUIGenerator, task: ImageTask | InpaintTask = TASK) -> Any:
    made = generator.generate([task]) if isinstance(task, ImageTask) else generator.inpaint([task])
    (outcome,) = made
    return outcome


def failed(outcome: Any, *words: str) -> BackendError:
    assert isinstance(outcome, BackendError), outcome
    for word in ("Job job-1", *words):
        assert word in str(outcome)
    assert outcome.hint
    return outcome


def inpaint_task(strength: float = 0.6) -> InpaintTask:
    mask = np.zeros((96, 128), np.uint8)
    mask[30:60, 40:80] = 255
    mask[28:30, 40:80] = 90
    return InpaintTask(TASK, paint_scene("a man", "", 3, 128, 96), mask, strength)


# ---- images


def test_the_marked_inputs_take_the_tasks_values_and_all_others_stay(
    server: tuple[str, ComfyUIState], make: Make
) -> None:
    url, state = server
    outcome = one(make(url))
    assert np.array_equal(outcome.pixels, paint_scene(TASK.prompt, "hat", TASK.seed, 128, 96))
    (graph,) = state.graphs
    expected = scene_graph()
    expected["3"]["inputs"] |= {
        "seed": 2**32 - 1, "steps": 25, "cfg": 6.5, "sampler_name": "dpmpp_2m", "scheduler": "karras",
    }  # fmt: skip
    expected["5"]["inputs"] |= {"width": 128, "height": 96}
    expected["6"]["inputs"]["text"] = TASK.prompt
    expected["7"]["inputs"]["text"] = "hat"
    assert graph == expected
    assert outcome.details["unused"] == []
    assert (outcome.details["model"], outcome.details["version"]) == ("workflow.json", "0.3.75")


def test_every_scheduler_of_a_request_has_a_name_there() -> None:
    assert set(SAMPLERS) == set(get_args(Scheduler))


def test_a_face_and_its_mask_are_uploaded_once_and_named_as_the_server_says(
    server: tuple[str, ComfyUIState], make: Make
) -> None:
    url, state = server
    task = inpaint_task()
    generator = make(url)
    outcome = one(generator, task)
    assert not np.array_equal(outcome.pixels[32:58, 42:78], task.image[32:58, 42:78])
    one(generator, task)
    first, second = state.graphs
    assert first == second
    assert first["3"]["inputs"]["denoise"] == 0.6
    image, mask = (first[node_id]["inputs"]["image"] for node_id in ("10", "11"))
    assert set(state.uploads) == {image, mask}
    assert np.array_equal(read_picture(state.uploads[image]), task.image)
    assert np.array_equal(read_picture(state.uploads[mask], "L"), np.where(task.mask > 0, 255, 0))


def test_strength_0_gives_the_face_back_unasked(server: tuple[str, ComfyUIState], make: Make) -> None:
    task = inpaint_task(0)
    assert np.array_equal(one(make(server[0]), task).pixels, task.image)
    assert server[1].asked == []


def marked_graph(graph: dict[str, Any]) -> dict[str, Any]:
    graph["4"]["_meta"]["title"] = "fc: ckpt_name=checkpoint"
    graph["20"] = node("CLIPSetLastLayer", "fc: stop_at_clip_layer=clip_skip", stop_at_clip_layer=-2, clip=["4", 1])
    graph["21"] = node("VAELoader", "fc: vae_name=vae", vae_name="a.safetensors")
    return graph


def test_a_job_s_model_goes_into_the_marked_inputs(server: tuple[str, ComfyUIState], make: Make) -> None:
    url, state = server
    state.nodes += ("CLIPSetLastLayer", "VAELoader")
    state.models["checkpoints"].append("pony.safetensors")
    graphs = {"scene": marked_graph(scene_graph()), "face": marked_graph(face_graph())}
    plain = make(url, **graphs)
    assert one(plain).details["unused"] == []
    choice = ModelChoice(checkpoint="pony.safetensors", vae="b.safetensors", clip_skip=1)
    generator = make(url, **graphs, choice=choice)
    one(generator)
    one(generator, inpaint_task())
    values = [
        (graph["4"]["inputs"]["ckpt_name"], graph["21"]["inputs"]["vae_name"],
         graph["20"]["inputs"]["stop_at_clip_layer"])
        for graph in state.graphs
    ]  # fmt: skip
    assert values == [(CHECKPOINT, "a.safetensors", -2), *[("pony.safetensors", "b.safetensors", -1)] * 2]
    assert generator.describe()["workflow"] != plain.describe()["workflow"]
    assert generator.describe().keys() == plain.describe().keys()
    same = ModelChoice(checkpoint=CHECKPOINT, vae="a.safetensors", clip_skip=2)
    assert make(url, **graphs, choice=same).describe() == plain.describe()


def test_what_a_job_says_and_no_workflow_takes_is_refused(server: tuple[str, ComfyUIState], make: Make) -> None:
    url, state = server
    for field, value in (("checkpoint", "pony.safetensors"), ("vae", "a.safetensors"), ("clip_skip", 1)):
        with pytest.raises(
            SettingsError, match=f"^{field}: no ComfyUI workflow here has an input marked for it"
        ) as caught:
            make(url, choice=ModelChoice(**{field: value}))
        assert f"fc: INPUT={field}" in caught.value.hint
    for field, value in (("loras", ("a",)), ("revision", "v2"), ("embeddings", ("/a",)), ("more_loras", ("a",))):
        with pytest.raises(SettingsError, match="the generator comfyui cannot be given this by a job"):
            make(url, choice=ModelChoice(**{field: value}))
    state.nodes += ("CLIPSetLastLayer", "VAELoader")
    generator = make(url, marked_graph(scene_graph()), choice=ModelChoice(clip_skip=1))
    assert isinstance(one(generator), Generated)
    failed(one(generator, inpaint_task()), "clip_skip: face_workflow.json has no input marked for it")


def test_what_a_workflow_does_not_take_is_told(server: tuple[str, ComfyUIState], make: Make) -> None:
    graph = scene_graph()
    graph["3"]["_meta"]["title"] = "fc: seed"
    outcome = one(make(server[0], graph))
    assert outcome.details["unused"] == ["steps", "cfg_scale", "sampler_name", "scheduler"]
    assert outcome.details["sampler"] is None


def test_an_older_server_that_names_the_run_itself(server: tuple[str, ComfyUIState], make: Make) -> None:
    url, state = server
    state.keeps_prompt_id = False
    assert isinstance(one(make(url)), Generated)


def test_an_output_that_the_server_leaves_out_is_told_and_the_rest_is_stopped(
    server: tuple[str, ComfyUIState], make: Make
) -> None:
    url, state = server
    graph = scene_graph()
    graph["9"]["_meta"]["title"] = "fc: output"
    graph["4"]["inputs"]["ckpt_name"] = "gone.safetensors"
    graph["20"] = node("LoadImage", image="example.png")
    graph["21"] = node("PreviewImage", images=["20", 0])
    state.manners = ["hang"]
    error = failed(one(make(url, graph)), "leaves out the output", "CheckpointLoaderSimple (#4)", "gone.safetensors")
    assert not isinstance(error, TransientError)
    assert state.interrupts == [state.prompts[0]["prompt_id"]]
    graph["4"]["inputs"]["ckpt_name"] = CHECKPOINT
    graph["22"] = node("CheckpointLoaderSimple", ckpt_name="gone.safetensors")
    graph["21"]["inputs"]["images"] = ["22", 0]
    state.manners = ["run"]
    assert isinstance(one(make(url, graph)), Generated), "another output is nobody's business"


def test_what_the_workflow_itself_says_is_told(server: tuple[str, ComfyUIState], make: Make) -> None:
    url, state = server
    state.nodes += ("CLIPSetLastLayer", "VAELoader", "LoraLoader")
    graph = marked_graph(scene_graph())
    graph["3"]["_meta"]["title"] = "fc: seed"
    graph["3"]["inputs"] |= {"steps": 6, "cfg": 2, "sampler_name": "dpmpp_2m", "scheduler": "karras"}
    graph["30"] = node(
        "LoraLoader",
        lora_name="a\\b.safetensors",
        strength_model=0.5,
        strength_clip=1.0,
        model=["4", 0],
        clip=["20", 0],
    )
    graph["3"]["inputs"]["model"], graph["6"]["inputs"]["clip"] = ["30", 0], ["30", 1]
    graph["8"]["inputs"]["vae"] = ["21", 0]
    details = one(make(url, graph)).details
    assert (details["checkpoint"], details["vae"], details["clip_skip"]) == ("sd_xl_base_1.0", "a.safetensors", 2)
    assert details["loras"] == ["<lora:b:1:0.5>"]
    assert details["in_workflow"] == {"steps": 6, "cfg_scale": 2, "scheduler": "DPM++ 2M Karras"}


def test_the_graph_goes_on_as_the_server_wrote_it_or_as_it_was_sent(
    server: tuple[str, ComfyUIState], make: Make
) -> None:
    url, state = server
    for state.writes_metadata in (True, False):
        state.cache.clear()
        assert json.loads(one(make(url)).texts["prompt"]) == state.graphs[-1]


@pytest.mark.parametrize(
    ("auth", "sent"), [("me:p:w", "Basic bWU6cDp3"), ("Bearer abc.def", "Bearer abc.def"), ("", "Bearer x")]
)
def test_a_server_behind_a_log_in(auth: str, sent: str, make: Make) -> None:
    with comfyui_server(ComfyUIState(sign_in=sent)) as (url, state):
        generator = make(url, comfyui_auth=auth)
        if auth:
            assert isinstance(one(generator, inpaint_task()), Generated)
            assert len(state.sockets) == 1
        else:
            failed(one(generator), "401", "FC_COMFYUI_AUTH")
        wrong = one(make(url, comfyui_auth="Bearer wrong-1f2e"))
        assert "wrong-1f2e" not in str(failed(wrong, "401", "FC_COMFYUI_AUTH"))
    for text in ("me", "Bearer", "Bearer a b"):
        with pytest.raises(SettingsError, match="FC_COMFYUI_AUTH"):
            make(url, comfyui_auth=text)


def finished_when_told(state: ComfyUIState, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    """The image is finished once these words are logged."""

    class Seen(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if words in record.getMessage():
                for name in state.running:
                    state.history[name] = ComfyUIHandler.run_or_take(stub, state.prompts[-1], "run")

    stub = ComfyUIHandler.__new__(ComfyUIHandler)
    monkeypatch.setattr(ComfyUIHandler, "state", state)
    handler = Seen()
    for module in (comfyui, comfyui_progress):
        monkeypatch.setattr(module._log, "handlers", [handler])


def test_progress_is_told_while_waiting(
    make: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with comfyui_server(ComfyUIState(manners=["hang"])) as (url, state), caplog.at_level(logging.INFO):
        finished_when_told(state, monkeypatch, "%.")
        assert isinstance(one(make(url)), Generated)
    assert "Job job-1: 50 %." in caplog.messages
    assert "Job job-1: 100 %." not in caplog.messages, "that was somebody else's"


def test_a_websocket_that_breaks_off_or_is_not_there_only_takes_the_percent_away(
    make: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with comfyui_server(ComfyUIState(manners=["breaks off"])) as (url, state), caplog.at_level(logging.INFO):
        finished_when_told(state, monkeypatch, "no percent any more")
        assert isinstance(one(make(url)), Generated)
        state.has_websocket, state.manners = False, ["run"]
        assert isinstance(one(make(url)), Generated)
    assert any("tells no percent: " in text for text in caplog.messages)


@pytest.mark.parametrize(
    ("manner", "words"),
    [
        ("wrong size", ("136x96", "128x96")),
        ("two images", ("2 images", "SaveImage (#9)")),
        ("fail", ("(#3)", "torch.OutOfMemoryError: Allocation on device 0 would exceed memory")),
    ],
)
def test_what_is_not_the_image_asked_for_is_an_error_and_the_next_image_is_made(
    manner: str, words: Any, make: Make
) -> None:
    with comfyui_server(ComfyUIState(manners=[manner, "run"])) as (url, _state):
        bad, good = make(url).generate([TASK, replace(TASK, job_id="job-2")])
    assert not isinstance(failed(bad, *words), TransientError)
    assert isinstance(good, Generated)


def test_a_refused_workflow_names_the_node_and_the_input(server: tuple[str, ComfyUIState], make: Make) -> None:
    url, state = server
    state.models["checkpoints"] = ["other.safetensors"]
    failed(one(make(url)), "input ckpt_name of CheckpointLoaderSimple (#4)", "Value not in list", CHECKPOINT)


def test_the_same_request_again_gives_the_image_that_the_server_still_has(
    server: tuple[str, ComfyUIState], make: Make
) -> None:
    url, state = server
    generator = make(url)
    first, second = generator.generate([TASK, TASK])
    assert np.array_equal(first.pixels, second.pixels)
    state.files.clear()
    error = failed(one(generator), "no longer has it", "cache")
    assert not isinstance(error, TransientError)


# ---- faults that may pass


def test_a_server_that_is_down_is_told_as_passing(make: Make) -> None:
    generator = make(f"http://127.0.0.1:{closed_port()}")
    assert isinstance(failed(one(generator), "not reached", "FC_COMFYUI_URL"), TransientError)


def test_an_image_whose_answer_was_lost_is_waited_for_and_not_asked_for_twice(make: Make) -> None:
    with comfyui_server(ComfyUIState(manners=["lost answer"])) as (url, state):
        assert isinstance(one(make(url)), Generated)
    assert len(state.prompts) == 1


@pytest.mark.parametrize("manner", ["lost request", "restart"])
def test_an_image_that_the_server_no_longer_knows_is_told_as_passing(manner: str, make: Make) -> None:
    with comfyui_server(ComfyUIState(manners=[manner, "run"])) as (url, state):
        lost, good = make(url).generate([TASK, TASK])
    assert isinstance(failed(lost, "no longer knows the image"), TransientError)
    assert isinstance(good, Generated)
    assert len(state.prompts) == 2


def test_an_image_that_takes_too_long_is_interrupted(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with comfyui_server(ComfyUIState(manners=["hang", "run"])) as (url, state):
        monkeypatch.setattr(comfyui, "time", LeapingClock(lambda: state.running))
        slow, good = make(url, image_timeout=300).generate([TASK, TASK])
        assert isinstance(failed(slow, "300 s", "interrupted there", "FC_IMAGE_TIMEOUT"), TransientError)
        assert state.interrupts == [state.prompts[0]["prompt_id"]]
    assert isinstance(good, Generated)


def test_an_image_that_waits_too_long_is_taken_back_and_nobody_else_is_interrupted(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with comfyui_server(ComfyUIState(manners=["queue"])) as (url, state):
        monkeypatch.setattr(comfyui, "time", LeapingClock(lambda: state.pending))
        error = failed(one(make(url)), "taken back")
    assert isinstance(error, TransientError)
    assert (state.pending, state.interrupts) == (["somebody-elses"], [])


def test_an_image_that_a_person_interrupts_is_not_tried_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with comfyui_server(ComfyUIState(manners=["hang"])) as (url, _state):
        generator = make(url)
        looked = generator._place

        def interrupted(prompt_id: str) -> str:
            HttpApi(url, variable="", server="").post_json("/interrupt", {})
            return looked(prompt_id)

        monkeypatch.setattr(generator, "_place", interrupted)
        assert not isinstance(failed(one(generator), "was interrupted on ComfyUI"), TransientError)


def test_an_image_that_nobody_waits_for_any_more_is_interrupted(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with comfyui_server(ComfyUIState(manners=["hang"])) as (url, state):
        generator = make(url)
        looked = generator._history

        def cancelled(prompt_id: str) -> Any:
            monkeypatch.setattr(generator, "_history", looked)
            raise KeyboardInterrupt

        monkeypatch.setattr(generator, "_history", cancelled)
        with pytest.raises(KeyboardInterrupt):
            one(generator)
        assert state.interrupts == [state.prompts[0]["prompt_id"]]


def test_the_stages_own_limit_ends_the_wait_and_the_image(make: Make) -> None:
    with comfyui_server(ComfyUIState(manners=["hang"])) as (url, state):
        generator = make(url)
        generator.describe()
        looked = "/history/"  # the client waits for the image
        with time_limit(300, "The stage"), alarm_when(lambda: any(path.startswith(looked) for path in state.asked)):
            error = failed(one(generator), "The stage took longer than 300 seconds")
        assert isinstance(error, TransientError)
        assert state.interrupts == [state.prompts[0]["prompt_id"]]


# ---- what the server must have


def test_missing_nodes_and_models_are_named_before_the_first_image(
    server: tuple[str, ComfyUIState], make: Make
) -> None:
    url, state = server
    state.nodes = tuple(name for name in state.nodes if name != "KSampler")
    pack = {
        "models": {"checkpoints": [CHECKPOINT, "pony.safetensors"], "loras": ["a/b.safetensors"], "ipadapter": ["x"]},
        "nodes": ["VAEDecode", "FaceDetailer"],
        "about": "Impact Pack 8",
    }
    generator = make(url, pack=pack)
    error = failed(
        one(generator),
        "node FaceDetailer",
        "checkpoints/pony.safetensors",
        "ipadapter/x",
        "KSampler (in workflow.json)",
    )
    assert "Impact Pack 8" in error.hint
    assert "VAEDecode" not in error.what
    assert "a/b.safetensors" not in error.what
    assert state.prompts == []
    with pytest.raises(BackendError, match="FaceDetailer"):
        generator.check_server()


def test_a_server_that_has_all_is_told(server: tuple[str, ComfyUIState], make: Make) -> None:
    pack = {"models": {"checkpoints": [CHECKPOINT]}, "nodes": ["KSampler"]}
    assert "ComfyUI 0.3.75 answers" in make(server[0], pack=pack).check_server()


def test_the_description_follows_the_workflow_and_not_its_layout(server: tuple[str, ComfyUIState], make: Make) -> None:
    url, _state = server
    plain = make(url).describe()
    assert plain["server"] == "ComfyUI 0.3.75"
    turned = dict(reversed(scene_graph().items()))
    assert make(url, json.dumps(turned, indent=8)).describe() == plain
    graph = scene_graph()
    graph["3"]["inputs"]["denoise"] = 0.9
    changed = make(url, graph).describe()
    assert {name for name in plain if plain[name] != changed[name]} == {"workflow"}
    packed = make(url, pack={"nodes": ["KSampler"]}).describe()
    assert {name for name in plain if plain[name] != packed[name]} == {"pack"}


# ---- the files


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda graph: graph["3"]["_meta"].update(title="fc: sead"),
            ("FC_COMFYUI_WORKFLOW", "node 3", "'sead'", "seed"),
        ),
        (lambda graph: graph["3"]["_meta"].update(title="fc: noise_seed=seed"), ("no input 'noise_seed'", "cfg")),
        (lambda graph: graph["6"]["_meta"].update(title=""), ("marked for: prompt", "fc: INPUT=prompt")),
        (lambda graph: graph["6"].pop("_meta"), ("marked for: prompt",)),
        (lambda graph: graph["5"]["_meta"].update(title="fc: width=image"), ("'image' is no value",)),
        (lambda graph: graph.pop("9"), ("0 nodes that save or show an image", "fc: output")),
        (lambda graph: graph.update({"20": node("PreviewImage", images=["8", 0])}), ("2 nodes", "fc: output")),
        (lambda graph: graph["4"].pop("inputs"), ("API format",)),
        (lambda graph: graph["9"].update(class_type="SaveImageWebsocket"), ("node 9", "SaveImageWebsocket", "Preview")),
    ],
)
def test_a_workflow_that_cannot_be_filled_is_refused(change: Any, words: tuple[str, ...], make: Make) -> None:
    graph = scene_graph()
    change(graph)
    with pytest.raises(SettingsError) as found:
        make("http://h", graph)
    for word in words:
        assert word in str(found.value)


@pytest.mark.parametrize(
    ("text", "word"),
    [("{", "not JSON"), ('{"nodes": [], "links": []}', "editor"), ("[]", "API format"), ("{}", "API format")],
)
def test_a_file_that_is_no_workflow_is_refused(text: str, word: str, make: Make) -> None:
    with pytest.raises(SettingsError, match=word):
        make("http://h", text)


def test_one_of_several_outputs_is_marked(server: tuple[str, ComfyUIState], make: Make) -> None:
    graph = scene_graph()
    graph["20"] = node("PreviewImage", images=["8", 0])
    graph["9"]["_meta"]["title"] = "fc: output"
    assert isinstance(one(make(server[0], graph)), Generated)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    with pytest.raises(SettingsError, match=r"FC_COMFYUI_WORKFLOW: .*none\.json cannot be read"):
        ComfyUIGenerator.from_settings(Settings(comfyui_url="http://h", comfyui_workflow=path))


@pytest.mark.parametrize(
    ("pack", "word"),
    [
        ({"nodes": "KSampler"}, "nodes"),
        ({"models": {"checkpoints": [1]}}, "models.checkpoints.0"),
        ({"models": {"../x": []}}, "models"),
        ({"extensions": []}, "extensions"),
        ([], "the file"),
    ],
)
def test_a_pack_that_is_wrong_is_refused(pack: Any, word: str, make: Make) -> None:
    with pytest.raises(SettingsError, match=f"FC_COMFYUI_PACK: pack.json: {word}"):
        make("http://h", pack=pack)


# ---- in the house


def test_the_settings_choose_it(make: Make, tmp_path: Path) -> None:
    make("http://h")
    generator, why = make_generator(Settings(comfyui_url="http://h", comfyui_workflow=tmp_path / "workflow.json"))
    assert (generator.name, why) == ("comfyui", "comfyui, as FC_COMFYUI_URL is set.")
    for missing, fields in (("FC_COMFYUI_URL", {"generator": "comfyui"}), ("WORKFLOW", {"comfyui_url": "http://h"})):
        with pytest.raises(SettingsError, match=missing):
            make_generator(Settings(**fields))


def test_a_pass_without_its_workflow_is_that_tasks_error(tmp_path: Path) -> None:
    (tmp_path / "scene.json").write_text(json.dumps(scene_graph()))
    generator = ComfyUIGenerator.from_settings(
        Settings(comfyui_url="http://h", comfyui_workflow=tmp_path / "scene.json")
    )
    failed(one(generator, inpaint_task()), "FC_COMFYUI_FACE_WORKFLOW is not set")


def test_the_asset_graph_runs_over_it(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, graph in (("WORKFLOW", scene_graph()), ("FACE_WORKFLOW", face_graph())):
        (tmp_path / f"{name}.json").write_text(json.dumps(graph))
        monkeypatch.setenv(f"FC_COMFYUI_{name}", str(tmp_path / f"{name}.json"))
    with comfyui_server() as (url, state):
        monkeypatch.setenv("FC_GENERATOR", "comfyui")
        monkeypatch.setenv("FC_COMFYUI_URL", url)
        monkeypatch.setenv("FC_FACE_SIZE", "256")
        add_jobs(queue, store, {"pony_prompt": "portrait of a smiling woman with red hair, forest"})
        claim_batch(queue, "batch-1")
        assert materialize(instance, "a", batch="batch-1").success
    assert queue.get("a").status == "completed"
    assert len(state.prompts) == 2
    record = read_provenance(store.read("6-final", "a.png"))["record"]
    assert (record["generator"], record["made_by"]["model"]) == ("comfyui", "WORKFLOW.json")
    for place in (("0-generated", "a.png"), ("6-final", "a.png")):
        found = readers.comfyui(store.read(*place))
        assert json.loads(found["prompt"]) == state.graphs[0], "ComfyUI opens the scene's workflow"
        said = readers.a1111(found["parameters"])
        assert (said["Model"], said["Steps"], said["Sampler"]) == ("sd_xl_base_1.0", "30", "Euler a")


def test_a_photo_s_picture_opens_the_workflow_of_its_face(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Image.fromarray(data.astronaut()).save(tmp_path / "photo.png")
    (tmp_path / "face.json").write_text(json.dumps(face_graph()))
    monkeypatch.setenv("FC_COMFYUI_FACE_WORKFLOW", str(tmp_path / "face.json"))
    monkeypatch.setenv("FC_GENERATOR", "comfyui")
    monkeypatch.setenv("FC_FACE_SIZE", "256")
    with comfyui_server() as (url, state):
        monkeypatch.setenv("FC_COMFYUI_URL", url)
        add_jobs(queue, store, {"job_type": "face_processing", "source_image": str(tmp_path / "photo.png")})
        assert materialize(instance, "a").success
    assert readers.comfyui(store.read("0-generated", "a.png")).keys() == {"face-changer"}
    found = readers.comfyui(store.read("6-final", "a.png"))
    assert json.loads(found["prompt"]) == state.graphs[0]
    assert readers.a1111(found["parameters"])["Model"] == "sd_xl_base_1.0"


def test_submit_refuses_a_pack_that_the_server_lacks(
    queue: JobQueue,
    make: Make,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with comfyui_server() as (url, _state):
        make(url, pack={"nodes": ["FaceDetailer"]})
        monkeypatch.setenv("FC_GENERATOR", "comfyui")
        monkeypatch.setenv("FC_COMFYUI_URL", url)
        monkeypatch.setenv("FC_COMFYUI_WORKFLOW", str(tmp_path / "workflow.json"))
        monkeypatch.setenv("FC_COMFYUI_PACK", str(tmp_path / "pack.json"))
        with pytest.raises(SystemExit) as end:
            main(["submit", "--prompt", "a knight"])
    assert end.value.code == 4
    assert "lacks: node FaceDetailer" in capsys.readouterr().err
    assert not any(queue.counts().values())

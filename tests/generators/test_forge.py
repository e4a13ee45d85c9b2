"""The generator forge against a local server that answers, fails, hangs and breaks off as Forge and A1111 do."""

from __future__ import annotations

import base64
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import dagster as dg
import numpy as np
import pytest
from pydantic import SecretStr

from fc_assets.engine.limits import StageTimeoutError, time_limit
from imaging.errors import BackendError, SettingsError, TransientError
from imaging.files.provenance import read_provenance
from jobs.cli import doctor
from jobs.cli.main import main
from jobs.queue.job_queue import JobQueue
from jobs.recipes.values import Scheduler
from resources.choose import make_generator
from resources.generators.base import Generated, ImageTask, InpaintTask, ModelChoice
from resources.generators.servers import forge
from resources.generators.servers import forge_server as server_state
from resources.generators.servers.forge import SAMPLERS, ForgeGenerator
from resources.generators.servers.forge_progress import ForgeProgress
from resources.generators.servers.http_api import HttpApi, reason_in
from resources.settings import Settings, load_settings
from resources.store.image_store import ImageStore
from sketch.paint import paint_scene
from tests.support.clock import PATIENCE, LeapingClock, alarm_when
from tests.support.forge_server import BASE, PONY, ForgeState, forge_server, model
from tests.support.graph import add_jobs, claim_batch, materialize
from tests.support.http_server import closed_port, read_picture

TASK = ImageTask("job-1", "a smiling woman", "hat", 7, 128, 96, 20, 6.5, "DPM++ 2M Karras")
PASSWORD = "pass-9f1c"


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HttpApi, "waits", (0.0, 0.0))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[tuple[str, ForgeState]]:
    with forge_server() as running:
        yield running


def one(generator: ForgeGenerator, task: ImageTask | InpaintTask = TASK) -> Any:
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
    image = paint_scene("a man", "", 3, 128, 96)
    mask = np.zeros((96, 128), np.uint8)
    mask[30:60, 40:80] = 255
    mask[28:30, 40:80] = 90
    return InpaintTask(TASK, image, mask, strength)


# ---- images


def test_each_image_is_asked_for_as_the_task_says(server: tuple[str, ForgeState]) -> None:
    url, state = server
    tasks = [TASK, replace(TASK, job_id="job-2", seed=2**32 - 1, scheduler="Euler a")]
    outcomes = list(ForgeGenerator(url).generate(tasks))
    for task, outcome in zip(tasks, outcomes, strict=True):
        assert isinstance(outcome, Generated)
        assert np.array_equal(outcome.pixels, paint_scene(task.prompt, "hat", task.seed, 128, 96))
    asked = state.images
    assert [(body["seed"], body["sampler_name"], body["scheduler"]) for body in asked] == [
        (7, "DPM++ 2M", "Karras"),
        (2**32 - 1, "Euler a", "Uniform"),
    ]
    first = asked[0]
    assert (first["prompt"], first["negative_prompt"], first["steps"], first["cfg_scale"]) == (
        TASK.prompt, "hat", 20, 6.5,
    )  # fmt: skip
    assert (first["width"], first["height"], first["batch_size"], first["n_iter"]) == (128, 96, 1, 1)
    assert first["override_settings"] == {"sd_model_checkpoint": BASE}
    assert (first["save_images"], first["send_images"]) == (False, True)
    assert asked[0]["force_task_id"] != asked[1]["force_task_id"]
    details = outcomes[0].details
    assert (details["model"], details["model_hash"], details["version"]) == (
        "sd_xl_base_1.0", "31e35c80fc", "f2.0.1v1.10.1",
    )  # fmt: skip


def test_every_scheduler_of_a_request_has_a_name_there() -> None:
    assert set(SAMPLERS) == set(get_args(Scheduler))


def test_a_face_is_sent_with_a_hard_mask_over_every_soft_pixel(server: tuple[str, ForgeState]) -> None:
    url, state = server
    task = inpaint_task()
    outcome = one(ForgeGenerator(url), task)
    assert isinstance(outcome, Generated)
    assert not np.array_equal(outcome.pixels[32:58, 42:78], task.image[32:58, 42:78])
    (body,) = state.bodies("/sdapi/v1/img2img")
    assert np.array_equal(read_picture(base64.b64decode(body["init_images"][0])), task.image)
    mask = read_picture(base64.b64decode(body["mask"]), "L")
    assert np.array_equal(mask, np.where(task.mask > 0, 255, 0))
    assert (body["inpainting_fill"], body["inpaint_full_res"], body["mask_blur"], body["denoising_strength"]) == (
        1, False, 0, 0.6,
    )  # fmt: skip


def test_strength_0_gives_the_face_back_unasked(server: tuple[str, ForgeState]) -> None:
    url, state = server
    task = inpaint_task(0)
    assert np.array_equal(one(ForgeGenerator(url), task).pixels, task.image)
    assert state.images == []


def test_a_mask_of_another_size_is_that_tasks_error(server: tuple[str, ForgeState]) -> None:
    task = replace(inpaint_task(), mask=np.zeros((8, 8), np.uint8))
    failed(one(ForgeGenerator(server[0]), task), "(8, 8)")


def test_a_grid_before_the_image_is_passed_over(server: tuple[str, ForgeState]) -> None:
    url, state = server
    state.manners = ["grid"]
    assert one(ForgeGenerator(url)).pixels.shape == (96, 128, 3)


@pytest.mark.parametrize(
    ("manner", "words"),
    [
        ("wrong size", ("136x96", "128x96")),
        ("wrong seed", ("seed 8", "not 7")),
        ("other sampler", ("sampler_name 'Euler'", "'DPM++ 2M'")),
        ("jpeg", ("JPEG", "png")),
        ("none", ("without a usable image",)),
        ("broken", ("no usable picture",)),
        ((422, "width must be positive"), ("HTTP 422", "width must be positive")),
        ((500, "CUDA out of memory"), ("HTTP 500", "CUDA out of memory")),
    ],
)
def test_what_is_not_the_image_asked_for_is_an_error_and_the_next_image_is_made(manner: Any, words: Any) -> None:
    with forge_server(ForgeState(manners=[manner, "paint"])) as (url, state):
        bad, good = ForgeGenerator(url).generate([TASK, replace(TASK, job_id="job-2")])
    assert not isinstance(failed(bad, *words), TransientError)
    assert isinstance(good, Generated)
    assert len(state.images) == 2


def test_a1111_tells_its_errors_in_another_body() -> None:
    with forge_server(ForgeState(manners=[(500, "CUDA out of memory", "OutOfMemoryError")], a1111_errors=True)) as run:
        failed(one(ForgeGenerator(run[0])), "OutOfMemoryError: CUDA out of memory")


def test_an_error_names_the_field_that_is_wrong() -> None:
    body = b'{"detail": [{"loc": ["body", "steps"], "msg": "value is not an integer", "type": "x"}]}'
    assert reason_in(body) == "body.steps value is not an integer"
    assert reason_in(b"<html>no</html>") == "<html>no</html>"
    assert reason_in(b"") == "no message"


# ---- a job's own model


def chosen(url: str, **choice: Any) -> ForgeGenerator:
    return ForgeGenerator.from_settings(Settings(_env_file=None, forge_url=url), ModelChoice(**choice))


def test_a_job_s_model_is_asked_for_in_each_request_and_told(server: tuple[str, ForgeState]) -> None:
    url, state = server
    generator = chosen(
        url, checkpoint="pony_v6", vae="sdxl.vae", clip_skip=1, loras=("style=0.5,1",), more_loras=("grain", "style=2")
    )
    assert isinstance(one(generator), Generated)
    (body,) = state.images
    assert body["override_settings"] == {
        "sd_model_checkpoint": PONY, "sd_vae": "sdxl.vae.safetensors", "CLIP_stop_at_last_layers": 1,
    }  # fmt: skip
    assert body["prompt"] == f"{TASK.prompt} <lora:style:1:0.5> <lora:grain:1> <lora:style:2>"
    told = generator.describe()
    assert (told["model"], told["loras"]) == (
        "ponies_pony_v6", ["<lora:style:1:0.5>", "<lora:grain:1>", "<lora:style:2>"],
    )  # fmt: skip
    assert told["options"] == {
        "sd_vae": "sdxl.vae.safetensors", "forge_additional_modules": ["fix.safetensors"],
        "CLIP_stop_at_last_layers": 1,
    }  # fmt: skip


def test_nothing_said_or_what_the_server_does_anyway_is_described_as_ever(server: tuple[str, ForgeState]) -> None:
    url, state = server
    state.options |= {"sd_vae": "fix.safetensors"}
    told = ForgeGenerator(url).describe()
    assert list(told) == ["generator", "server", "model", "model_hash", "options"]
    assert not any("loras" in path or "vae" in path for path, _ in state.requests)
    same = chosen(url, checkpoint="sd_xl_base_1.0", vae="fix.safetensors", clip_skip=2, loras=())
    assert same.describe() == told
    assert list(same.describe()["options"]) == list(told["options"])


def test_forge_2_takes_a_vae_as_a_module(server: tuple[str, ForgeState]) -> None:
    url, state = server
    state.vaes, state.modules = None, ("t5.safetensors", "other.safetensors")
    generator = chosen(url, vae="other")
    assert isinstance(one(generator), Generated)
    assert state.images[0]["override_settings"]["forge_additional_modules"] == ["/srv/vae/other.safetensors"]
    assert generator.describe()["options"]["forge_additional_modules"] == ["other.safetensors"]


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"checkpoint": "pony_v7"}, ("checkpoint: the server at", "has no checkpoint 'pony_v7'", "pony_v6")),
        ({"vae": "sdxl.vee"}, ("vae: the server at", "has no VAE 'sdxl.vee'", "sdxl.vae.safetensors")),
        ({"loras": ("stile=0.5",)}, ("loras: the server at", "has no LoRA 'stile'", "style")),
        ({"more_loras": ("stile",)}, ("prompt: the server at", "has no LoRA 'stile'", "style")),
    ],
)
def test_what_the_server_does_not_have_is_an_error_and_no_image_is_made_without_it(
    choice: dict[str, Any], words: tuple[str, ...], server: tuple[str, ForgeState]
) -> None:
    url, state = server
    generator = chosen(url, **choice)
    failed(one(generator), *words)
    with pytest.raises(BackendError, match=words[-1]):
        generator.check_server()
    assert state.images == []


def test_what_a_job_cannot_say_is_refused_before_the_server_is_asked(server: tuple[str, ForgeState]) -> None:
    url, state = server
    for choice, field in (({"revision": "v2"}, "revision"), ({"embeddings": ("/x/y.safetensors",)}, "embeddings")):
        with pytest.raises(SettingsError, match=f"{field}: the generator forge cannot be given this by a job"):
            chosen(url, **choice)
    for name in ("/models/style.safetensors", "owner/name", "a>b"):
        with pytest.raises(SettingsError, match=r"loras: .* is no name of a LoRA as Forge and A1111 have it"):
            chosen(url, loras=(f"{name}=0.5",))
    with pytest.raises(SettingsError, match="prompt: 'much' in 'style=much' is not a weight"):
        chosen(url, more_loras=("style=much",))
    assert state.requests == []


# ---- the checkpoint


@pytest.mark.parametrize("named", [PONY, "ponies/pony_v6.safetensors", "ponies_pony_v6", "pony_v6"])
def test_the_checkpoint_may_be_named_in_every_way_that_the_server_shows(
    named: str, server: tuple[str, ForgeState]
) -> None:
    url, state = server
    generator = ForgeGenerator(url, model=named)
    assert one(generator).details["model"] == "pony_v6"
    assert state.images[0]["override_settings"] == {"sd_model_checkpoint": PONY}
    described = generator.describe()
    assert (described["model"], described["model_hash"]) == ("ponies_pony_v6", "67ab2fd8ec")


def test_a_checkpoint_that_is_not_there_is_told_before_the_first_image(server: tuple[str, ForgeState]) -> None:
    url, state = server
    failed(one(ForgeGenerator(url, model="pony_v5")), "pony_v5", "ponies_pony_v6")
    assert state.images == []


def test_a_hash_that_is_named_must_be_the_files(server: tuple[str, ForgeState]) -> None:
    url, state = server
    failed(one(ForgeGenerator(url, model="ponies/pony_v6.safetensors [0000000000]")), "no checkpoint", "0000000000")
    state.models = [model("ponies/pony_v6.safetensors")]  # not loaded and so not hashed yet
    assert ForgeGenerator(url, model=PONY).describe()["model_hash"] is None


def test_a_name_of_two_checkpoints_is_refused(server: tuple[str, ForgeState]) -> None:
    url, state = server
    state.models = [model("a/pony.safetensors"), model("b/pony.safetensors")]
    failed(one(ForgeGenerator(url, model="pony")), "2 checkpoints", "a/pony.safetensors; b/pony.safetensors")


def test_an_image_by_another_checkpoint_is_refused(server: tuple[str, ForgeState]) -> None:
    url, state = server
    generator = ForgeGenerator(url, model="pony_v6")
    generator.describe()
    state.models = [model(BASE)]  # removed meanwhile; the server then leaves the name out, and says nothing
    failed(one(generator), "sd_model_name 'sd_xl_base_1.0'", "'pony_v6'")


def test_the_description_tells_what_decides_the_pixels_and_no_more(server: tuple[str, ForgeState]) -> None:
    url, state = server
    described = ForgeGenerator(url).describe()
    assert described == {
        "generator": "forge",
        "server": "Forge",
        "model": "sd_xl_base_1.0",
        "model_hash": "31e35c80fc",
        "options": {"CLIP_stop_at_last_layers": 2, "forge_additional_modules": ["fix.safetensors"]},
    }
    state.options["sd_model_checkpoint"] = PONY
    assert ForgeGenerator(url).describe()["model"] == "ponies_pony_v6"


def test_other_settings_that_change_pixels_are_told_where_they_are_not_as_usual(
    server: tuple[str, ForgeState],
) -> None:
    url, state = server
    before = ForgeGenerator(url).describe()
    state.options |= {"tiling": False, "s_noise": 1, "emphasis": "Original", "uni_pc_order": 3}
    assert ForgeGenerator(url).describe() == before
    state.options |= {"face_restoration": True, "emphasis": "No norm", "eta_ancestral": 0.5, "samples_save": False}
    told = ForgeGenerator(url).describe()["options"]
    assert told == before["options"] | {"face_restoration": True, "emphasis": "No norm", "eta_ancestral": 0.5}


def test_describing_a_batch_asks_the_server_once(server: tuple[str, ForgeState]) -> None:
    url, state = server
    generator = ForgeGenerator(url)
    for _ in range(5):
        generator.describe()
    assert len(state.bodies("/sdapi/v1/options")) == 1


def test_a_server_before_schedulers_is_told(server: tuple[str, ForgeState]) -> None:
    url, state = server
    state.schedulers = None
    failed(one(ForgeGenerator(url)), "older than A1111 1.9")


def test_a_sampler_that_the_server_lacks_is_told(server: tuple[str, ForgeState]) -> None:
    url, state = server
    state.samplers = ("Euler",)
    failed(one(ForgeGenerator(url)), "no sampler 'DPM++ 2M'", "Euler")
    assert state.images == []


# ---- sign-in


def test_the_password_signs_in_and_is_never_told() -> None:
    with forge_server(ForgeState(auth=f"me:{PASSWORD}")) as (url, _state):
        right = ForgeGenerator(url, SecretStr(f"me:{PASSWORD}"))
        assert isinstance(one(right), Generated)
        assert PASSWORD not in f"{right.describe()} {right.check_server()} {vars(right)}"
        for auth in ("", "me:wrong-1f2e"):
            error = failed(one(ForgeGenerator(url, SecretStr(auth))), "401", "FC_FORGE_AUTH")
            assert "wrong-1f2e" not in str(error)
            assert error.__cause__ is None


def test_a_server_that_repeats_the_password_is_not_quoted() -> None:
    with forge_server(ForgeState(manners=[(500, f"bad {PASSWORD}")], auth=f"me:{PASSWORD}")) as (url, _state):
        error = failed(one(ForgeGenerator(url, SecretStr(f"me:{PASSWORD}"))), "bad ***")
        assert PASSWORD not in str(error)


@pytest.mark.parametrize(
    ("url", "auth", "names"),
    [
        ("127.0.0.1:7860", "", "FC_FORGE_URL"),
        ("http://me:pw@host", "", "FC_FORGE_URL"),
        ("http://host:port", "", "FC_FORGE_URL"),
        ("http://host", "me", "FC_FORGE_AUTH"),
    ],
)
def test_settings_that_cannot_be_are_refused(url: str, auth: str, names: str) -> None:
    with pytest.raises(SettingsError, match=names) as found:
        ForgeGenerator(url, SecretStr(auth))
    assert "pw" not in str(found.value)


# ---- faults that may pass


def test_a_server_that_is_down_is_told_as_passing() -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    error = failed(one(ForgeGenerator(url)), "not reached", "FC_FORGE_URL")
    assert isinstance(error, TransientError)


def test_a_busy_server_is_told_as_passing() -> None:
    with forge_server(ForgeState(manners=[(503, "starting")])) as (url, _state):
        assert isinstance(failed(one(ForgeGenerator(url)), "starting"), TransientError)


def test_an_image_is_never_asked_for_twice_and_the_lost_one_is_interrupted() -> None:
    with forge_server(ForgeState(manners=["reset"])) as (url, state):
        error = failed(one(ForgeGenerator(url)), "was lost", "interrupted there")
    assert isinstance(error, TransientError)
    assert (len(state.images), state.interrupts) == (1, 1)


def test_an_image_that_takes_too_long_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    with forge_server(ForgeState(manners=["hang", "paint"])) as (url, state):
        monkeypatch.setattr(forge, "time", LeapingClock(state.working.is_set))
        slow, good = ForgeGenerator(url, image_timeout=300).generate([TASK, replace(TASK, job_id="job-2")])
    assert isinstance(failed(slow, "300 s", "interrupted there", "FC_IMAGE_TIMEOUT"), TransientError)
    assert state.interrupts == 1
    assert isinstance(good, Generated)


def test_somebody_elses_image_is_not_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    with forge_server(ForgeState(manners=["queue"])) as (url, state):
        monkeypatch.setattr(forge, "time", LeapingClock(state.working.is_set))
        error = failed(one(ForgeGenerator(url)), "waits there behind other images")
    assert isinstance(error, TransientError)
    assert state.interrupts == 0


def test_what_became_of_an_image_is_not_guessed_where_the_server_tells_no_progress(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with forge_server(ForgeState(manners=["hang"], has_progress=False)) as (url, state):
        monkeypatch.setattr(forge, "time", LeapingClock(state.working.is_set))
        error = failed(one(ForgeGenerator(url)), "not known")
    assert isinstance(error, TransientError)
    assert state.interrupts == 0


@pytest.mark.parametrize("how", ["interrupted", "skipped"])
def test_an_image_that_a_person_ends_early_is_not_taken_as_whole(how: str) -> None:
    with forge_server(ForgeState(manners=["paint", how, how, "paint"])) as (url, state):
        tasks = [replace(TASK, job_id=f"job-1{letter}") for letter in "abcd"]
        first, ended, again, good = ForgeGenerator(url).generate(tasks)
        assert state.jobs == 4
    for outcome in (ended, again):
        assert isinstance(failed(outcome, f"was {how} on Forge", "not whole"), TransientError)
    assert isinstance(first, Generated)
    assert isinstance(good, Generated)


def test_a_mark_that_another_job_left_is_not_this_image_s() -> None:
    with forge_server() as (url, state):
        state.job.update(interrupted=True, job_timestamp="20240101000000")
        state.begin = lambda _name: None  # type: ignore[method-assign] # a server that does not take marks away
        assert isinstance(one(ForgeGenerator(url)), Generated)


def test_a_server_without_its_web_ui_tells_progress_and_is_interrupted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forge, "_PROGRESS_SECONDS", 0.01)
    state = ForgeState(manners=["hang"], has_webui=False)
    with forge_server(state) as (url, _state), caplog.at_level(logging.INFO, forge.__name__):
        error = failed(one(ForgeGenerator(url, image_timeout=2)), "interrupted there")
    assert isinstance(error, TransientError)
    assert state.interrupts == 1
    assert "Job job-1: 25 %." in caplog.messages


def test_without_the_web_ui_somebody_elses_image_is_not_interrupted() -> None:
    with forge_server(ForgeState(manners=["queue"], has_webui=False)) as (url, state):
        state.begin("scripts_txt2img")  # of somebody else, before our request
        failed(one(ForgeGenerator(url, image_timeout=0.3)), "waits there behind other images")
        assert state.interrupts == 0


def test_what_was_in_force_is_kept(server: tuple[str, ForgeState]) -> None:
    url, state = server
    state.scripts = {"Lora hashes": "style: 0123456789ab", "Script (x)": "a, b"}
    details = one(ForgeGenerator(url)).details
    assert details["extra"] == state.scripts
    told = details["infotext"]
    assert (told["Lora hashes"], told["VAE"], told["RNG"]) == ("style: 0123456789ab", "fix.safetensors", "CPU")
    assert "User" not in told


def test_uni_pc_with_too_few_steps_is_named(server: tuple[str, ForgeState]) -> None:
    url, state = server
    state.schedulers = ("Automatic",)
    generator = ForgeGenerator(url)
    failed(one(generator, replace(TASK, scheduler="UniPC", steps=2)), "UniPC takes at least 3 steps", "has 2")
    face = inpaint_task(0.1)
    failed(one(generator, replace(face, task=replace(TASK, scheduler="UniPC"))), "at least 3 steps", "has 2")
    assert state.images == []
    assert isinstance(one(generator, replace(TASK, scheduler="UniPC", steps=3)), Generated)


def test_flux_on_forge_gets_its_own_guidance(server: tuple[str, ForgeState]) -> None:
    url, state = server
    assert isinstance(one(ForgeGenerator(url)), Generated)
    generator = ForgeGenerator.from_settings(Settings(forge_url=url, forge_distilled_cfg=2.5))
    assert isinstance(one(generator), Generated)
    assert [body.get("distilled_cfg_scale") for body in state.images] == [None, 2.5]
    assert generator.describe()["distilled_cfg_scale"] == 2.5


def test_progress_is_told_while_waiting(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forge, "_PROGRESS_SECONDS", 0.01)
    with forge_server(ForgeState(manners=["hang"])) as (url, state), caplog.at_level(logging.INFO, forge.__name__):

        class Seen(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                state.release.set()  # the image is finished once its progress was told

        handler = Seen()
        forge._log.addHandler(handler)
        try:
            assert isinstance(one(ForgeGenerator(url)), Generated)
        finally:
            forge._log.removeHandler(handler)
    assert "Job job-1: 50 %." in caplog.messages


def test_an_image_that_nobody_waits_for_any_more_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    with forge_server(ForgeState(manners=["hang"])) as (url, state):
        generator = ForgeGenerator(url)

        def cancelled(task_id: str, job_id: str) -> bool:
            assert state.working.wait(PATIENCE)
            raise KeyboardInterrupt

        monkeypatch.setattr(forge, "_PROGRESS_SECONDS", 0.01)
        monkeypatch.setattr(generator, "_tell_progress", cancelled)
        with pytest.raises(KeyboardInterrupt):
            one(generator)
        assert state.interrupts == 1
    assert not [thread for thread in threading.enumerate() if thread.name == "forge job-1" and not thread.daemon]


def test_the_stages_own_limit_ends_the_wait_and_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forge, "_PROGRESS_SECONDS", 0.01)
    with forge_server(ForgeState(manners=["hang"])) as (url, state):
        generator = ForgeGenerator(url)
        generator.describe()
        with (
            time_limit(300, "The stage"),
            alarm_when(lambda: state.working.is_set() and state.bodies("/internal/progress")),
        ):
            error = failed(one(generator), "The stage took longer than 300 seconds")
        assert isinstance(error, TransientError)
        assert state.interrupts == 1


def test_the_stages_own_limit_is_not_taken_for_a_missing_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forge, "_PROGRESS_SECONDS", 0.01)
    with forge_server(ForgeState(manners=["hang"])) as (url, state):
        generator = ForgeGenerator(url)
        asked = ForgeProgress.told

        def reached(_image: ForgeProgress) -> dict[str, Any]:
            assert state.working.wait(PATIENCE)
            monkeypatch.setattr(ForgeProgress, "told", asked)
            raise StageTimeoutError("The stage took too long.", "Raise FC_STAGE_TIMEOUT.")

        monkeypatch.setattr(ForgeProgress, "told", reached)
        failed(one(generator), "The stage took too long")
        assert state.interrupts == 1


# ---- in the house


@pytest.mark.parametrize(
    ("fields", "kind", "why"),
    [
        ({"generator": "forge", "forge_url": "http://h"}, "forge", "FC_GENERATOR"),
        ({"forge_url": "http://h"}, "forge", "FC_FORGE_URL is set"),
        ({"forge_url": "http://h", "comfyui_url": "http://h"}, "forge", "FC_FORGE_URL is set"),
        ({}, "sketch", "no model makes these pictures"),
    ],
)
def test_the_settings_choose_it(fields: dict[str, Any], kind: str, why: str) -> None:
    generator, reason = make_generator(Settings(**fields))
    assert (generator.name, why in reason) == (kind, True)


def test_it_is_not_chosen_without_an_address() -> None:
    with pytest.raises(SettingsError, match="FC_FORGE_URL is not set"):
        make_generator(Settings(generator="forge"))


def test_faces_are_made_at_the_size_that_is_set() -> None:
    assert ForgeGenerator("http://h").native_size() == 1024
    assert ForgeGenerator.from_settings(Settings(forge_url="http://h", face_size=512)).native_size() == 512


def test_the_asset_graph_runs_over_it(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with forge_server() as (url, state):
        monkeypatch.setenv("FC_GENERATOR", "forge")
        monkeypatch.setenv("FC_FORGE_URL", url)
        monkeypatch.setenv("FC_FACE_SIZE", "256")
        add_jobs(queue, store, {"pony_prompt": "portrait of a smiling woman with red hair, forest"})
        claim_batch(queue, "batch-1")
        assert materialize(instance, "a", batch="batch-1").success
        assert len(state.images) == 2  # the scene and its face
    job = queue.get("a")
    assert (job.status, job.error) == ("completed", None)
    record = read_provenance(store.read("6-final", "a.png"))["record"]
    assert (record["generator"], record["made_by"]["model"]) == ("forge", "sd_xl_base_1.0")
    assert record["face_pass"]["back_end"]["model_hash"] == "31e35c80fc"


def test_what_was_made_before_the_server_knew_the_checkpoint_s_hash_is_found_again(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def runs() -> list[int]:
        assert materialize(instance, "a").success
        return [queue.stage_result("a", stage).runs for stage in ("generated_image", "changed_face")]

    monkeypatch.setattr(server_state, "_REMEMBER_SECONDS", 0)
    fresh = model("pony.safetensors")
    state = ForgeState(models=[fresh])
    state.options["sd_model_checkpoint"] = "pony.safetensors"
    with forge_server(state) as (url, _state):
        monkeypatch.setenv("FC_GENERATOR", "forge")
        monkeypatch.setenv("FC_FORGE_URL", url)
        monkeypatch.setenv("FC_FACE_SIZE", "256")
        add_jobs(queue, store, {"pony_prompt": "portrait of a smiling woman with red hair, forest"})
        assert runs() == [1, 1]
        assert fresh["hash"] == "7ddcd0e682"
        assert runs() == [1, 1]
        found = read_provenance(store.read("6-final", "a.png"))
        assert found["record"]["made_by"]["model_hash"] == "7ddcd0e682"
        assert "Model hash: 7ddcd0e682, Model: pony, VAE: fix.safetensors, Clip skip: 2" in found["parameters"]
        fresh["hash"], fresh["title"] = "0000000000", "pony.safetensors [0000000000]"  # another file
        state.options["sd_model_checkpoint"] = fresh["title"]
        assert runs() == [2, 2]


def test_a_server_that_goes_down_sends_the_job_back_to_the_queue(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FC_GENERATOR", "forge")
    monkeypatch.setenv("FC_FORGE_URL", f"http://127.0.0.1:{closed_port()}")
    add_jobs(queue, store, {"pony_prompt": "a knight"})
    claim_batch(queue, "batch-1")
    assert not materialize(instance, "a", batch="batch-1").success
    job = queue.get("a")
    assert job.status == "pending"
    assert "not reached" in str(job.error)


def test_doctor_checks_the_server(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FC_GENERATOR")
    monkeypatch.setenv("FC_FORGE_MODEL", "pony_v6")
    with forge_server() as (url, _state):
        monkeypatch.setenv("FC_FORGE_URL", url)
        (check,) = (one for one in doctor.back_end_checks(load_settings()) if one.name == "image server")
        assert (check.level, "checkpoint ponies_pony_v6, 67ab2fd8ec" in check.found) == ("OK", True)
        monkeypatch.setenv("FC_FORGE_MODEL", "pony_v5")
        found = {check.name: check for check in doctor.run_checks()}
    assert found["image server"].level == "FAIL"
    assert "ponies_pony_v6" in found["image server"].hint


@pytest.mark.parametrize("auth", ["", "me:wrong"])
def test_submit_refuses_what_the_server_cannot_make(
    auth: str, queue: JobQueue, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with forge_server(ForgeState(auth="me:right" if auth else "")) as (url, _state):
        monkeypatch.setenv("FC_GENERATOR", "forge")
        monkeypatch.setenv("FC_FORGE_URL", url)
        monkeypatch.setenv("FC_FORGE_AUTH", auth)
        monkeypatch.setenv("FC_FORGE_MODEL", "pony_v5")
        with pytest.raises(SystemExit) as end:
            main(["submit", "--prompt", "a knight"])
    assert end.value.code == 4
    assert ("FC_FORGE_AUTH" if auth else "pony_v5") in capsys.readouterr().err
    assert not any(queue.counts().values())


def test_submit_queues_while_the_server_is_down(
    queue: JobQueue, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FC_GENERATOR", "forge")
    monkeypatch.setenv("FC_FORGE_URL", f"http://127.0.0.1:{closed_port()}")
    with pytest.raises(SystemExit) as end:
        main(["submit", "--prompt", "a knight", "--id", "later"])
    assert end.value.code == 0
    assert "not reached" in capsys.readouterr().err
    assert queue.get("later").status == "pending"

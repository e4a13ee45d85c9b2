"""The one door: what one way of asking refuses or completes, every other one refuses and completes alike."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imaging.errors import RejectedError
from jobs.model.request import parse_request
from jobs.queue.job_queue import JobQueue
from jobs.requests.accept import PATH_FIELDS, Door, accept, anchored, submit
from jobs.requests.inbox import QUIET_SECONDS, take_inbox
from jobs.requests.recipes import recipe_for, recipe_of
from jobs.requests.retry import read_changes, retry
from jobs.requests.schedules import add_schedules, get_schedule, make_due_jobs
from resources.database import Database
from resources.settings import Settings, load_settings
from resources.store.image_store import ImageStore

WORDS = {"pony_prompt": "a lighthouse keeper"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a photo and a mask of its size, which is not the current one."""
    made = tmp_path / "photos"
    made.mkdir()
    Image.effect_noise((128, 96), 50).convert("RGB").save(made / "me.png")
    Image.new("L", (128, 96), 255).save(made / "mask.png")
    return made


@pytest.fixture
def settings(home: Path, folder: Path) -> Settings:
    return Settings(sface_model=folder / "me.png")


def test_a_schedule_that_asks_for_an_identity_nobody_can_tell_is_refused_as_a_job_is(
    database: Database, store: ImageStore, home: Path
) -> None:
    request = parse_request(WORDS | {"identity": "change"})
    with pytest.raises(RejectedError, match="FC_SFACE_MODEL is not set"):
        submit([("a", request)], queue=JobQueue(database), store=store, settings=load_settings(), origin="cli")
    with pytest.raises(RejectedError, match="FC_SFACE_MODEL is not set"):
        add_schedules([("a", request)], every="1d", database=database, store=store, settings=load_settings())


def test_a_schedule_keeps_whole_paths_and_draws_a_seed_for_each_job(
    database: Database, store: ImageStore, settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    fields = {"job_type": "face_processing", "source_image": "me.png", "reference_face": "me.png", "mask": "mask.png"}
    request = parse_request(fields | {"identity": "match", "at": "2020-01-01T00:00"})
    add_schedules([("daily", request)], every="1d", database=database, store=store, settings=settings)
    kept = get_schedule(database, "daily").request
    assert {kept.source_image, kept.reference_face} == {str(folder / "me.png")}
    assert kept.mask == str(folder / "mask.png")
    assert kept.seed is None
    monkeypatch.chdir("/")
    assert make_due_jobs(database, store, settings) == {}
    (job,) = JobQueue(database).find()
    assert job.request.seed is not None
    assert job.user_mask is not None


def test_every_path_in_an_inbox_file_lies_beside_it(
    database: Database, store: ImageStore, settings: Settings, folder: Path
) -> None:
    fields = {"job_type": "face_processing", "source_image": "me.png", "reference_face": "me.png", "mask": "mask.png"}
    (folder / "a.json").write_text(json.dumps(fields | {"identity": "match", "job_id": "a"}))
    report = take_inbox(folder, queue=JobQueue(database), store=store, settings=settings)
    assert report.rejected == {}
    job = JobQueue(database).get("a")
    assert job.request.source_image == str(folder / "me.png")
    assert str(job.request.reference_face).startswith(f"{folder / 'me.png'}@sha256:")
    assert job.request.mask == str(folder / "mask.png")
    assert QUIET_SECONDS > 0


def test_every_field_that_names_a_file_is_anchored(folder: Path) -> None:
    assert set(PATH_FIELDS) == {"source_image", "reference_face", "mask", "embeddings"}
    fields = {"job_type": "description", "source_image": "a.png", "reference_face": "~/b.png", "embeddings": ["c"]}
    whole = anchored(parse_request(fields), folder)
    assert (whole.source_image, whole.reference_face) == (str(folder / "a.png"), "~/b.png")
    assert whole.embeddings == [str(folder / "c")]
    for same in ("job:other", "https://host/a.png", "/a.png"):
        request = parse_request({"job_type": "description", "source_image": same})
        assert anchored(request, folder) == request


@pytest.mark.parametrize("field", ["generator", "writer", "detector"])
def test_a_request_cannot_name_code(field: str, store: ImageStore, home: Path) -> None:
    with pytest.raises(RejectedError, match=f"Job a: {field}: 'os:system' is code"):
        accept([("a", WORDS | {field: "os:system"})], Door(store, load_settings()))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"generator": "dalle"}, "generator='dalle' is not a generator"),
        ({"clip_skip": 1}, "clip_skip: the generator sketch cannot be given this by a job"),
        ({"pony_prompt": "a knight <lora:armour:0.8>"}, "<lora:...> in a prompt: the generator sketch cannot"),
        ({"pony_prompt": "a knight <lora:armour:much>"}, "armour"),
    ],
)
def test_what_no_back_end_can_do_is_refused_before_the_job_is_added(
    fields: dict[str, object], words: str, store: ImageStore, home: Path
) -> None:
    with pytest.raises(RejectedError) as caught:
        accept([("a", WORDS | fields)], Door(store, load_settings()))
    assert words in caught.value.what
    assert caught.value.what.startswith("Job a: ")


def test_loras_that_prompts_name_are_part_of_the_recipe(store: ImageStore, home: Path) -> None:
    fields = {"pony_prompt": "a knight <lora:armour:0.8>", "flux_prompt": "old <lora:beard>", "generator": "sdxl"}
    (accepted,) = accept([("a", fields)], Door(store, load_settings()))
    assert accepted.recipe.model().more_loras == ("armour=0.8",)
    assert accepted.recipe.face_model().more_loras == ("beard",)
    (accepted,) = accept([("a", {**fields, "flux_prompt": ""})], Door(store, load_settings()))
    assert accepted.recipe.face_model().more_loras == ("armour=0.8",)


def test_values_that_cannot_be_together_are_refused_whoever_gave_each(store: ImageStore, home: Path) -> None:
    with pytest.raises(RejectedError, match="Job a: faces_min_share=60 must be less than faces_max_share=50"):
        accept([("a", WORDS | {"faces_min_share": 60})], Door(store, Settings(faces_max_share=50)))


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.zeros((96, 128), np.uint8), "all black"),
        (np.full((64, 64), 255, np.uint8), "is 64x64"),
        (np.full((96, 128, 3), (255, 0, 0), np.uint8), "has colours"),
    ],
)
def test_a_mask_is_checked_before_the_job_is_added(
    pixels: np.ndarray, words: str, store: ImageStore, home: Path, folder: Path
) -> None:
    Image.fromarray(pixels).save(folder / "bad.png")
    fields = {"job_type": "face_processing", "source_image": "me.png", "mask": "bad.png"}
    with pytest.raises(RejectedError, match=f"Job a: mask: .*{words}"):
        accept([("a", fields)], Door(store, load_settings(), folder))


class TestRecipes:
    def test_what_a_request_says_wins_over_the_settings_and_each_value_says_where_it_is_from(self, home: Path) -> None:
        settings = Settings(mask_grow=7, prompt_prefix="score_9", face_padding=0.6)
        recipe = recipe_for(parse_request(WORDS | {"mask_grow": 3, "steps": 30, "prompt_prefix": ""}), settings)
        assert (recipe.mask.mask_grow, recipe.words.prompt_prefix, recipe.sampling.steps) == (3, "", 30)
        named = ("mask_grow", "prompt_prefix", "steps", "face_padding", "cfg_scale", "mask_kind")
        assert [recipe.source(name) for name in named] == [
            "request", "request", "request", "settings", "default", "default",
        ]  # fmt: skip
        assert recipe.over_settings() == {"mask_grow": 3, "prompt_prefix": ""}

    def test_not_given_is_not_the_same_as_given_and_equal(self, home: Path) -> None:
        silent, said = parse_request(WORDS), parse_request(WORDS | {"steps": 30})
        assert silent == said
        assert (silent.given(), said.given()) == ({}, {"steps": 30})
        assert parse_request(said.as_given()).given() == {"steps": 30}

    def test_what_was_not_said_stays_open_in_the_database(self, queue: JobQueue, store: ImageStore) -> None:
        submit([("a", WORDS | {"steps": 30})], queue=queue, store=store, settings=load_settings(), origin="cli")
        assert queue.get("a").request.given().keys() == {"steps", "seed"}

    def test_a_job_keeps_its_recipe_until_a_person_tries_it_again(self, queue: JobQueue, store: ImageStore) -> None:
        submit([("a", WORDS)], queue=queue, store=store, settings=load_settings(), origin="cli")
        recipe = recipe_of(queue.get("a"), Settings(mask_grow=9))
        queue.start("a", run_id="run", batch_id=None, recipe=recipe.model_dump(mode="json"))
        assert recipe_of(queue.get("a"), Settings(mask_grow=1)).mask.mask_grow == 9
        queue.fail("a", run_id="run", stage="mask", what="W.", hint="H.")
        retry("a", queue=queue, store=store, settings=load_settings())
        assert recipe_of(queue.get("a"), Settings(mask_grow=1)).mask.mask_grow == 1

    def test_an_empty_value_gives_a_field_back_to_the_settings(self, queue: JobQueue, store: ImageStore) -> None:
        fields = WORDS | {"mask_grow": 3, "clip_skip": 1, "generator": "sdxl"}
        submit([("a", fields)], queue=queue, store=store, settings=load_settings(), origin="cli", hold=True)
        queue.cancel(["a"])
        changes = read_changes(["mask_grow=", "sampler=DDIM", "face_align=no", "loras=a/b=0.5|c/d"])
        job = retry("a", queue=queue, store=store, settings=load_settings(), changes=changes)
        assert {**job.request.given(), "seed": 0} == {
            "clip_skip": 1, "scheduler": "DDIM", "face_align": False, "loras": ["a/b=0.5", "c/d"], "seed": 0,
            "generator": "sdxl",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("alias", "field", "value"),
    [("prompt", "pony_prompt", "x"), ("face_prompt", "flux_prompt", "y"), ("sampler", "scheduler", "DDIM")],
)
def test_people_may_use_the_names_they_know(alias: str, field: str, value: str) -> None:
    request = parse_request({"pony_prompt": "a"} | {alias: value} if alias != "prompt" else {alias: value})
    assert getattr(request, field) == value
    with pytest.raises(RejectedError, match="names the same field"):
        parse_request({alias: value, field: value})

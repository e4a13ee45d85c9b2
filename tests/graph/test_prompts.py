"""The fixed words around every prompt: joined tidily, seen by the generator, recorded, and part of what decides."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fc_assets.stages.prompts import face_words, join_words, scene_words
from imaging.files.provenance import read_provenance
from jobs.model.stages import STAGES
from jobs.queue.job_queue import JobQueue
from resources.settings import Settings
from resources.store.image_store import ImageStore
from tests.support.graph import add_jobs, materialize

ONE_PERSON = "portrait of a smiling woman with red hair, forest"
WORDS = {
    "FC_PROMPT_PREFIX": "score_9, score_8_up,",
    "FC_PROMPT_SUFFIX": ", rim light",
    "FC_FACE_PROMPT_PREFIX": "sharp eyes",
    "FC_FACE_PROMPT_SUFFIX": "freckles",
    "FC_NEGATIVE_PROMPT_SUFFIX": "watermark",
}


@pytest.mark.parametrize(
    ("left", "right", "joined"),
    [
        ("a", "b", "a, b"),
        ("a,", "b", "a, b"),
        ("a , ", " ,, b,", "a, b,"),
        ("", "b, ", "b, "),
        (" a,", "", " a,"),
        (", ,", "b", "b"),
        ("", "", ""),
        ("score_9, BREAK", "a", "score_9, BREAK a"),
        ("a,", "BREAK b", "a BREAK b"),
        ("a", "BREAKFAST", "a, BREAKFAST"),
        ("a,,b", "c  d", "a,,b, c  d"),
    ],
)
def test_two_texts_are_joined_by_one_comma(left: str, right: str, joined: str) -> None:
    assert join_words(left, right) == joined


@given(st.text(), st.text())
def test_joining_changes_nothing_but_the_joint(left: str, right: str) -> None:
    edge = ", \t\r\n"
    joined = join_words(left, right)
    assert joined.startswith(left.rstrip(edge))
    assert joined.endswith(right.lstrip(edge))
    if left.strip(edge) and right.strip(edge):
        assert len(joined) <= len(left.rstrip(edge)) + len(", ") + len(right.lstrip(edge))
    else:
        assert joined in (left, right)


def test_scene_and_faces_have_their_own_words_and_none_by_default() -> None:
    settings = Settings(
        _env_file=None, prompt_prefix="p", prompt_suffix="s", face_prompt_prefix="fp", negative_prompt_suffix="n"
    )
    assert scene_words(settings).prompt("cat") == "p, cat, s"
    assert face_words(settings).prompt("cat") == "fp, cat"
    assert scene_words(settings).negative("") == "n"
    assert face_words(settings).negative("blur") == "blur, n"
    plain = scene_words(Settings(_env_file=None))
    assert (plain.prompt(" cat, "), plain.negative("")) == (" cat, ", "")


def metadata(instance: dg.DagsterInstance, stage: str) -> dict[str, object]:
    event = instance.get_latest_materialization_event(dg.AssetKey(stage))
    return {name: value.value for name, value in event.asset_materialization.metadata.items()}


def test_fixed_words_reach_the_generator_and_every_record_but_not_the_description(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in WORDS.items():
        monkeypatch.setenv(name, value)
    add_jobs(queue, store, {"pony_prompt": ONE_PERSON, "flux_prompt": "a calm face", "negative_prompt": "blur"})
    assert materialize(instance, "a").success
    record = read_provenance(store.read("6-final", "a.png"))
    scene = record["record"]["prompt"]
    assert scene.startswith(f"score_9, score_8_up, {ONE_PERSON}")
    assert scene.endswith(", rim light")
    face = record["record"]["face_prompt"]
    assert face.startswith("sharp eyes, a calm face")
    assert face.endswith(", freckles")
    negative = record["record"]["negative_prompt"]
    assert negative.startswith("blur")
    assert negative.endswith(", watermark")
    assert record["record"]["face_pass"]["negative_prompt"] == negative
    assert record["parameters"].startswith(f"{scene}\nNegative prompt: {negative}\n")
    shown = metadata(instance, "generated_image")
    assert (shown["prompt"], shown["negative_prompt"]) == (scene, negative)
    shown = metadata(instance, "changed_face")
    assert (shown["prompt"], shown["negative_prompt"]) == (face, negative)
    described = store.read("descriptions", "a.txt").decode()
    assert "portrait of a smiling woman" in described
    assert not [word for word in ("score_9", "rim light", "sharp eyes", "freckles") if word in described]


def test_other_words_make_the_image_or_the_faces_anew_and_nothing_else(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def runs() -> list[int]:
        assert materialize(instance, "a").success
        return [queue.stage_result("a", stage).runs for stage in STAGES]

    add_jobs(queue, store, {"pony_prompt": ONE_PERSON})
    assert runs() == [1] * len(STAGES)
    before = store.read("0-generated", "a.png"), store.read("4-results", "a.face-1.png")
    monkeypatch.setenv("FC_FACE_PROMPT_SUFFIX", "green eyes")
    again = dict(zip(STAGES, runs(), strict=True))
    assert again.pop("changed_face") == again.pop("final_image") == again.pop("description") == 2
    assert set(again.values()) == {1}
    assert store.read("0-generated", "a.png") == before[0]
    monkeypatch.setenv("FC_PROMPT_SUFFIX", "at night, blue hair")
    again = dict(zip(STAGES, runs(), strict=True))
    assert (again["enhanced_prompt"], again["generated_image"]) == (1, 2)
    assert store.read("0-generated", "a.png") != before[0]
    assert runs() == list(again.values())


def test_words_for_the_scene_leave_an_imported_photo_alone(
    instance: dg.DagsterInstance,
    queue: JobQueue,
    store: ImageStore,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    from skimage import data

    Image.fromarray(data.astronaut()).save(tmp_path / "photo.png")
    add_jobs(queue, store, {"job_type": "face_processing", "source_image": str(tmp_path / "photo.png")})
    assert materialize(instance, "a").success
    monkeypatch.setenv("FC_PROMPT_PREFIX", "score_9")
    assert materialize(instance, "a").success
    assert queue.stage_result("a", "generated_image").runs == 1
    monkeypatch.setenv("FC_NEGATIVE_PROMPT_SUFFIX", "watermark")
    monkeypatch.setenv("FC_FACE_PROMPT_PREFIX", "sharp eyes")
    assert materialize(instance, "a").success
    assert queue.stage_result("a", "generated_image").runs == 1
    parameters = read_provenance(store.read("6-final", "a.png"))["parameters"]
    assert parameters.startswith("sharp eyes, ")
    assert "\nNegative prompt: " in parameters
    assert "watermark\n" in parameters

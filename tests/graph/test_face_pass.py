"""What differs between the faces of a picture, in real runs: tags, rules, turned faces, gates, who the faces are."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import cv2
import dagster as dg
import numpy as np
import pytest
from PIL import Image
from skimage import data

from imaging.errors import RejectedError
from jobs.queue.job_queue import JobQueue
from jobs.requests.retry import retry
from resources.encoders import sface
from resources.settings import load_settings
from resources.store.image_store import ImageStore
from tests.support.graph import add_jobs, claim_batch, materialize, pixels
from tests.support.tiny_onnx import sface_like

FRIENDS = "two friends on a beach, sunset"


@pytest.fixture(autouse=True)
def _yunet(monkeypatch: pytest.MonkeyPatch, yunet_model: Path, instance: dg.DagsterInstance) -> None:
    monkeypatch.setenv("FC_DETECTOR", "yunet")
    monkeypatch.setenv("FC_YUNET_MODEL", str(yunet_model))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """The astronaut's head and shoulders."""
    Image.fromarray(data.astronaut()[:320, 60:380]).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def told(instance: dg.DagsterInstance, stage: str) -> dict[str, Any]:
    """The newest metadata of a stage, as values."""
    event = instance.get_latest_materialization_event(dg.AssetKey(stage))
    return {name: getattr(value, "value", None) for name, value in event.asset_materialization.metadata.items()}


def two(queue: JobQueue, store: ImageStore, **fields: Any) -> None:
    add_jobs(queue, store, {"pony_prompt": FRIENDS, "width": 512, "height": 384, **fields})


def changed(store: ImageStore, box: list[int]) -> bool:
    """Whether the final image differs from the generated one in the middle of a face."""
    left, top, right, bottom = box
    middle = np.s_[(top + bottom) // 2 - 4 : (top + bottom) // 2 + 4, (left + right) // 2 - 4 : (left + right) // 2 + 4]
    return bool((pixels(store, "6-final", "a.png")[middle] != pixels(store, "0-generated", "a.png")[middle]).any())


def test_tags_give_each_face_its_own_prompt_and_leave_some(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore
) -> None:
    two(queue, store, flux_prompt="[SKIP] [SEP] a woman with green eyes")
    assert materialize(instance, "a").success
    portrait, faces = told(instance, "portrait"), told(instance, "changed_face")["faces"]
    assert portrait["left"] == ["the face prompt says [SKIP]", ""]
    assert [face["prompt"].startswith("a woman with green eyes") for face in faces] == [True]
    assert [changed(store, box) for box in portrait["boxes"]] == [False, True]
    assert queue.get("a").status == "completed"


def test_rules_give_strength_seed_padding_and_prompt(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore
) -> None:
    rules = ["all: strength=0.7; padding=0.3", "1st from left: prompt=[PROMPT], a beard; seed_offset=100; strength=0.2"]
    two(queue, store, flux_prompt="old friends", face_rules=rules)
    assert materialize(instance, "a").success
    boxes = told(instance, "portrait")["boxes"]
    faces = told(instance, "changed_face")["faces"]
    left = min(range(2), key=lambda number: boxes[number][0])
    assert [face["strength"] for face in faces] == [0.2 if number == left else 0.7 for number in range(2)]
    assert [face["prompt"].endswith(", a beard") for face in faces] == [number == left for number in range(2)]
    assert faces[left]["seed"] == 107
    assert faces[1 - left]["seed"] == 7 + 1 - left
    picture = pixels(store, "1-portraits", "a.png")
    side = max(boxes[0][2] - boxes[0][0], boxes[0][3] - boxes[0][1])
    assert picture.shape[:2] == (round(side * 1.6),) * 2


def test_a_picture_whose_faces_are_all_left_goes_through_unchanged(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore
) -> None:
    two(queue, store, face_rules=["all: skip"])
    assert materialize(instance, "a").success
    assert queue.get("a").status == "completed"
    assert np.array_equal(pixels(store, "6-final", "a.png"), pixels(store, "0-generated", "a.png"))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("black", "face 2 of 2: it is blank"),
        ("grey", "face 2 of 2: it is blank"),
        ("noisy", "face 2 of 2: it is noise"),
        ("coarse", "face 2 of 2: it is noise"),
        ("half-size", "face 2 of 2: it is 256x256, not 512x512"),
        ("wide", "face 2 of 2: it is 512x256, not 512x512"),
    ],
)
def test_a_new_face_that_is_none_waits_for_a_person_and_is_named(
    instance: dg.DagsterInstance,
    queue: JobQueue,
    store: ImageStore,
    monkeypatch: pytest.MonkeyPatch,
    damage: str,
    said: str,
) -> None:
    monkeypatch.setenv("FC_GENERATOR", "tests.support.faulty:FaultyGenerator")
    two(queue, store, flux_prompt=f"[PROMPT] [SEP] a {damage}-face", face_strength=0.9)
    assert materialize(instance, "a").success
    job = queue.get("a")
    assert (job.status, job.error_stage) == ("needs_review", "changed_face")
    assert said in (job.error or "")
    assert "face 1" not in (job.error or "")
    assert "fc approve" in (job.error_hint or "")
    queue.approve("a")
    claim_batch(queue, "again")
    assert materialize(instance, "a", batch="again").success
    assert queue.get("a").status == "completed", "a person may want it all the same"


@pytest.mark.parametrize("damage", ["rgba", "float", "flat-array"])
def test_an_answer_that_is_no_picture_fails_the_job_by_name(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setenv("FC_GENERATOR", "tests.support.faulty:FaultyGenerator")
    two(queue, store, flux_prompt=f"[PROMPT] [SEP] a {damage}-face")
    materialize(instance, "a")
    job = queue.get("a")
    assert job.status != "completed"
    assert "face 2 of 2 of job a" in (job.error or "")
    assert "RGB uint8 is expected" in (job.error or "")


def test_a_scene_that_is_no_picture_fails_the_job_by_name(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FC_GENERATOR", "tests.support.faulty:FaultyGenerator")
    add_jobs(queue, store, {"pony_prompt": "rgba-scene"})
    materialize(instance, "a")
    assert "the generated image of job a" in (queue.get("a").error or "")


def test_another_rule_touches_no_image(instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore) -> None:
    two(queue, store)
    assert materialize(instance, "a").success
    settings = load_settings()
    retry("a", queue=queue, store=store, settings=settings, changes={"face_rules": ["largest: skip"]})
    claim_batch(queue, "again")
    assert materialize(instance, "a", batch="again").success
    made = {one.stage: one.runs for one in queue.stage_results("a")}
    assert (made["generated_image"], made["enhanced_prompt"], made["portrait"], made["changed_face"]) == (1, 1, 2, 2)


def test_large_and_sharp_faces_get_less_or_nothing(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"job_type": "face_processing", "source_image": str(photo), "seed": 7}
    add_jobs(queue, store, fields | {"face_strength": 0.8, "large_face_strength": 0.2})
    assert materialize(instance, "a").success
    (face,) = told(instance, "changed_face")["faces"]
    assert 0.2 < face["strength"] < 0.8
    monkeypatch.setenv("FC_FACE_KEEP_SHARP", "40")
    assert materialize(instance, "a").success
    assert "crisp" in told(instance, "portrait")["left"][0]
    assert np.array_equal(pixels(store, "6-final", "a.png"), pixels(store, "0-generated", "a.png"))


@pytest.mark.parametrize("angle", [35, 180, 250])
def test_a_turned_face_is_made_upright_and_put_back(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, tmp_path: Path, angle: int
) -> None:
    picture = np.full((480, 480, 3), 128, np.uint8)
    picture[80:400, 80:400] = data.astronaut()[:320, 60:380]
    turned = cv2.warpAffine(
        picture, cv2.getRotationMatrix2D((240, 240), -angle, 1), (480, 480), borderValue=(128, 128, 128)
    )
    Image.fromarray(turned).save(tmp_path / "turned.png")
    fields = {"job_type": "face_processing", "source_image": str(tmp_path / "turned.png"), "seed": 7}
    add_jobs(queue, store, fields)
    assert materialize(instance, "a").success
    assert queue.get("a").status == "completed", queue.get("a").error
    (face,) = told(instance, "changed_face")["faces"]
    off = (face["angle"] - angle + 180) % 360 - 180
    assert abs(off) < 5, "the face is made anew upright"
    final, mask = pixels(store, "6-final", "a.png"), pixels(store, "3-masks", "a.png")
    assert np.array_equal(final[mask == 0], turned[mask == 0])
    assert (final != turned)[mask > 128].any()


def test_a_gate_holds_a_picture_for_review_and_approval_makes_nothing_anew(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FC_GATE_FINAL", "review 1")
    two(queue, store)
    assert materialize(instance, "a").success
    job = queue.get("a")
    assert (job.status, job.error_stage) == ("needs_review", "final_image")
    assert "FC_GATE_FINAL" in (job.error_hint or "")
    assert "under 1" in (job.error or "")
    (event,) = instance.fetch_observations(dg.AssetKey("final_image"), limit=9).records
    assert event.partition_key == "a"
    assert event.asset_observation.metadata["why"].value == job.error
    queue.approve("a")
    claim_batch(queue, "again")
    assert materialize(instance, "a", batch="again").success
    assert queue.get("a").status == "completed"
    assert {one.stage: one.runs for one in queue.stage_results("a")} == dict.fromkeys(
        [one.stage for one in queue.stage_results("a")], 1
    )


@pytest.mark.parametrize(
    ("setting", "stage"),
    [("FC_GATE_IMAGE", "generated_image"), ("FC_GATE_PORTRAIT", "portrait"), ("FC_GATE_FACE", "changed_face")],
)
def test_every_gate_can_stop_a_job_or_only_say_so(
    instance: dg.DagsterInstance,
    queue: JobQueue,
    store: ImageStore,
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    stage: str,
) -> None:
    monkeypatch.setenv(setting, "warn 1")
    two(queue, store)
    assert materialize(instance, "a").success
    assert queue.get("a").status == "completed"
    assert "under 1" in told(instance, stage)["warnings"][0]
    monkeypatch.setenv(setting, "review 1")
    retry("a", queue=queue, store=store, settings=load_settings(), from_stage=stage)
    claim_batch(queue, "again")
    assert materialize(instance, "a", batch="again").success
    assert (queue.get("a").status, queue.get("a").error_stage) == ("needs_review", stage)


@pytest.fixture
def _sface(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = sface_like()
    (tmp_path / "sface.onnx").write_bytes(model)
    monkeypatch.setattr(sface, "MODEL_SHA256", hashlib.sha256(model).hexdigest())
    monkeypatch.setenv("FC_SFACE_MODEL", str(tmp_path / "sface.onnx"))


@pytest.mark.usefixtures("_sface")
@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({}, "completed"),
        ({"identity": "keep", "identity_limit": -1}, "completed"),
        ({"identity": "keep", "identity_limit": 1}, "needs_review"),
        ({"identity": "change", "identity_limit": -1}, "needs_review"),
        ({"identity": "match", "identity_limit": -1}, "completed"),
        ({"identity": "match", "identity_limit": 1}, "needs_review"),
    ],
)
def test_who_the_faces_are_is_recorded_and_may_be_asked_for(
    instance: dg.DagsterInstance,
    queue: JobQueue,
    store: ImageStore,
    photo: Path,
    asked: dict[str, Any],
    status: str,
) -> None:
    reference = {"reference_face": str(photo)} if asked.get("identity") == "match" else {}
    fields = {"job_type": "face_processing", "source_image": str(photo), "seed": 7}
    add_jobs(queue, store, fields | asked | reference)
    photo.unlink()
    assert materialize(instance, "a").success
    job = queue.get("a")
    assert job.status == status, job.error
    if status == "needs_review":
        assert (job.error_stage, "similarity" in (job.error or "")) == ("final_image", True)
        return
    (found,) = told(instance, "final_image")["similarities"]
    assert set(found) == ({"before", "reference"} if reference else {"before"})
    assert all(-1 <= value <= 1 for value in found.values())


def test_identity_without_a_face_encoder_is_turned_down_at_once(
    queue: JobQueue, store: ImageStore, photo: Path
) -> None:
    with pytest.raises(RejectedError, match="FC_SFACE_MODEL"):
        add_jobs(queue, store, {"job_type": "face_processing", "source_image": str(photo), "identity": "keep"})
    assert not queue.find()


@pytest.mark.usefixtures("_sface")
def test_a_reference_photo_without_a_face_is_the_requests_fault(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, photo: Path, tmp_path: Path
) -> None:
    Image.fromarray(data.coffee()).save(tmp_path / "coffee.png")
    add_jobs(
        queue,
        store,
        {
            "job_type": "face_processing",
            "source_image": str(photo),
            "identity": "match",
            "reference_face": str(tmp_path / "coffee.png"),
        },
    )
    materialize(instance, "a")
    job = queue.get("a")
    assert job.status == "rejected"
    assert "no face was found" in (job.error or "")

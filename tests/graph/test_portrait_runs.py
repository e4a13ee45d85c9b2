"""The asset `portrait` in real runs: which faces are worked on, in which order, and what is seen of the others."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from imaging.geometry.boxes import Face
from jobs.model.stages import STAGES
from jobs.queue.job_queue import JobQueue
from resources.detectors.haar import HaarDetector
from resources.settings import Settings
from resources.store.image_store import ImageStore
from tests.support.graph import add_jobs, materialize, pixels

TO_MASK = STAGES[: STAGES.index("mask") + 1]


@pytest.fixture
def three(tmp_path: Path) -> str:
    """A photo of three faces; from left to right: middle, small, large."""
    from skimage import data

    canvas = np.full((340, 900, 3), 128, np.uint8)
    head = Image.fromarray(data.astronaut()[0:260, 120:330])
    for left, width in ((0, 210), (300, 130), (520, 273)):
        part = np.asarray(head.resize((width, round(260 * width / 210)), Image.Resampling.LANCZOS))
        canvas[: part.shape[0], left : left + width] = part[:340]
    Image.fromarray(canvas).save(tmp_path / "three.png")
    return str(tmp_path / "three.png")


def portrait_metadata(instance: dg.DagsterInstance) -> dict[str, object]:
    event = instance.get_latest_materialization_event(dg.AssetKey("portrait"))
    return {name: value.value for name, value in event.asset_materialization.metadata.items()}


def test_the_order_asked_for_is_that_of_portraits_and_masks_and_dropped_faces_have_reasons(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, three: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FC_FACES_ORDER", "left-right")
    monkeypatch.setenv("FC_MAX_FACES", "2")
    add_jobs(queue, store, {"job_type": "face_processing", "source_image": three})
    assert materialize(instance, "a", selection=TO_MASK).success
    record = json.loads(store.read("1-portraits", "a.json"))
    lefts = [face["box"][0] for face in record["faces"]]
    assert (len(lefts), lefts == sorted(lefts)) == (2, True)
    assert [face["reason"] for face in record["dropped"]] == ["not among the 2 largest"]
    assert 300 < record["dropped"][0]["box"][0] < 430

    shown = portrait_metadata(instance)
    assert shown["boxes"] == [face["box"] for face in record["faces"]]
    assert shown["dropped"] == record["dropped"]
    first = pixels(store, "1-portraits", "a.png")
    box = record["faces"][0]["crop"]
    assert np.array_equal(first, pixels(store, "0-generated", "a.png")[box[1] : box[3], box[0] : box[2]])
    seen = pixels(store, "1-portraits", "a.faces.png")
    assert seen.shape == (340, 900, 3)
    left, top, _right, bottom = record["faces"][1]["box"]
    assert seen[(top + bottom) // 2, left].tolist() == [64, 255, 96]
    mask = pixels(store, "3-masks", "a.png")
    assert mask[:, 300:430].max() == 0, "the dropped face is left alone"

    # The same settings find the result; another order makes it anew, with the same faces the other way round.
    assert materialize(instance, "a", selection=TO_MASK).success
    assert portrait_metadata(instance)["cached"] is True
    monkeypatch.setenv("FC_FACES_ORDER", "right-left")
    assert materialize(instance, "a", selection=TO_MASK).success
    shown = portrait_metadata(instance)
    assert shown["cached"] is False
    assert shown["boxes"] == [face["box"] for face in reversed(record["faces"])]


def test_a_picture_whose_faces_were_all_dropped_needs_review_with_the_reasons_and_the_picture(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, three: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FC_FACES_MIN_SHARE", "30")
    add_jobs(queue, store, {"job_type": "face_processing", "source_image": three})
    assert materialize(instance, "a", selection=TO_MASK).success
    job = queue.get("a")
    assert job.status == "needs_review"
    assert "Dropped: smaller than 30 % of the picture" in (job.error or "")
    assert "FC_FACES_" in (job.error_hint or "")
    assert not np.array_equal(pixels(store, "1-portraits", "a.faces.png"), pixels(store, "0-generated", "a.png"))


def test_a_picture_without_a_face_is_shown_as_it_was_looked_at(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, tmp_path: Path
) -> None:
    image = np.full((80, 120, 3), (200, 120, 40), np.uint8)
    image[20:60, 30:90] = (10, 90, 160)
    Image.fromarray(image).save(tmp_path / "plain.png")
    add_jobs(queue, store, {"job_type": "face_processing", "source_image": str(tmp_path / "plain.png")})
    assert materialize(instance, "a", selection=TO_MASK).success
    assert queue.get("a").status == "needs_review"
    assert np.array_equal(pixels(store, "1-portraits", "a.faces.png"), image)
    output = queue.stage_result("a", "portrait").output
    assert output["metadata"]["preview"].startswith("![portrait of a](data:image/webp")


class CountingDetector(HaarDetector):
    """The cascades; each picture that they are shown is counted."""

    shown = 0

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.detector_confidence)

    def detect(self, image: NDArray[np.uint8]) -> list[Face]:
        type(self).shown += 1
        return super().detect(image)


def test_a_description_counts_every_face_of_the_portrait_record_without_another_search(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, three: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CountingDetector, "shown", 0)
    monkeypatch.setenv("FC_DETECTOR", "tests.graph.test_portrait_runs:CountingDetector")
    monkeypatch.setenv("FC_MAX_FACES", "2")
    add_jobs(
        queue,
        store,
        {"job_type": "face_processing", "source_image": three, "output_size": 450, "flux_prompt": "a face"},
        {"job_type": "description", "source_image": three},
    )
    assert materialize(instance, "a").success
    assert CountingDetector.shown == 1
    record = json.loads(store.read("1-portraits", "a.json"))
    found = json.loads(store.read("descriptions", "a.json"))["answer"]
    assert found["people"] == 3, "also the one that was not among the 2 largest"
    halves = sorted([side / 2 for side in face["box"]] for face in record["faces"] + record["dropped"])
    boxes = sorted(face["box"] for face in found["data"]["faces"])
    assert np.abs(np.subtract(boxes, halves)).max() <= 0.5

    assert materialize(instance, "b").success
    assert CountingDetector.shown == 2, "a description alone looks for itself"
    assert json.loads(store.read("descriptions", "b.json"))["answer"]["people"] == 3

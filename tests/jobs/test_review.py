"""What waits for a person, and what approving and rejecting do: through `fc` and the real graph."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from PIL import Image

from imaging.files.provenance import read_provenance
from jobs.model.stages import STAGES
from jobs.queue.job_queue import JobQueue
from resources.store.image_store import ImageStore
from tests.support.commands import Fc
from tests.support.graph import add_jobs, claim_batch, materialize, materialized, pixels

ONE_PERSON = "portrait of a smiling woman with red hair, forest"


@pytest.fixture
def _faulty(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FC_GENERATOR", "tests.support.faulty:FaultyGenerator")
    monkeypatch.setenv("FC_WRITER", "tests.support.faulty:FaultyWriter")


@pytest.fixture
def faceless(tmp_path: Path) -> str:
    from skimage import data

    Image.fromarray(data.coffee()).save(tmp_path / "coffee.png")
    return str(tmp_path / "coffee.png")


@pytest.mark.usefixtures("_faulty")
def test_an_image_that_was_turned_down_is_kept_and_taken_when_approved(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, fc: Fc
) -> None:
    add_jobs(queue, store, {"pony_prompt": f"blank-scene {ONE_PERSON}", "job_type": "sdxl_generation"})
    assert materialize(instance, "a").success
    assert materialized(instance, "generated_image") == set(), "what was turned down is not shown as made"
    picture = store.path("0-generated", "a.png")
    assert picture.exists()
    (waiting,) = json.loads(fc("review", "--json")[1])["data"]
    assert (waiting["job_id"], waiting["stage"], waiting["picture"]) == ("a", "generated_image", str(picture))
    assert "turned down" in waiting["reason"]
    assert str(picture) in fc("review")[1].splitlines()[1]

    assert fc("approve", "a")[0] == 0
    assert (queue.get("a").status, queue.get("a").next_stage) == ("pending", "generated_image")
    claim_batch(queue, "two")
    assert materialize(instance, "a", selection=STAGES[2:], batch="two").success
    job = queue.get("a")
    assert (job.status, job.final_image) == ("completed", str(picture))
    assert queue.stage_result("a", "generated_image").runs == 1, "it is not made again"
    assert materialized(instance, "generated_image") == {"a"}
    assert [(one.stage, one.verdict) for one in queue.attempts("a")][-1] == ("generated_image", "approved")
    assert fc("review")[1].strip() == "No job waits for a person."


@pytest.mark.usefixtures("_faulty")
def test_what_was_turned_down_is_judged_again_when_materialized_by_hand(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore
) -> None:
    add_jobs(queue, store, {"pony_prompt": f"blank-scene {ONE_PERSON}"})
    assert materialize(instance, "a").success
    assert materialize(instance, "a").success
    assert queue.get("a").status == "needs_review"
    assert queue.stage_result("a", "generated_image").runs == 2


def test_a_picture_without_a_face_becomes_the_final_one_when_approved(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, fc: Fc, faceless: str
) -> None:
    add_jobs(queue, store, {"job_type": "face_processing", "source_image": faceless, "output_size": 300})
    assert materialize(instance, "a").success
    assert queue.get("a").status == "needs_review"
    said = fc("approve", "a")[1]
    assert "the generated image becomes the final one" in said
    assert materialize(instance, "a", selection=STAGES[3:]).success
    job = queue.get("a")
    assert (job.status, job.stages_completed) == ("completed", STAGES)
    assert not pixels(store, "3-masks", "a.png").any()
    merged = pixels(store, "4-results", "a.png")
    assert np.array_equal(merged, np.array(Image.open(faceless)))
    assert max(pixels(store, "6-final", "a.png").shape) == 300
    record = read_provenance(store.read("6-final", "a.png"))
    assert record["record"]["origin"] == "photo", "no face was made, so none is claimed"
    assert "face_pass" not in record["record"]


@pytest.mark.usefixtures("_faulty")
def test_where_nothing_was_made_there_is_nothing_to_approve(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, fc: Fc
) -> None:
    add_jobs(queue, store, {"pony_prompt": f"refused-words {ONE_PERSON}"})
    assert materialize(instance, "a").success
    before = queue.get("a")
    code, _, said = fc("approve", "a")
    assert code == 1
    assert "enhanced_prompt made nothing" in said
    assert "fc retry" in said
    assert queue.get("a") == before


def test_rejecting_keeps_the_reason_and_everything_made(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, fc: Fc, faceless: str
) -> None:
    add_jobs(queue, store, {"job_type": "face_processing", "source_image": faceless})
    assert materialize(instance, "a").success
    assert fc("reject", "a", "--reason", "Only a cup.")[0] == 0
    job = queue.get("a")
    assert (job.status, job.error, job.error_stage) == ("rejected", "Only a cup.", "portrait")
    assert store.path("0-generated", "a.png").exists()
    assert not materialize(instance, "a").success, "a rejected job is not started by hand"


def test_only_what_waits_can_be_approved_or_rejected(queue: JobQueue, store: ImageStore, fc: Fc) -> None:
    add_jobs(queue, store, {"pony_prompt": ONE_PERSON})
    for command in ("approve", "reject"):
        code, _, said = fc(command, "a")
        assert (code, "Job a is pending" in said) == (1, True)
        assert fc(command, "nobody")[0] == 3
    assert queue.get("a").status == "pending"

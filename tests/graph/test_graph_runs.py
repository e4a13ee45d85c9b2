"""Whole runs of the real graph, in process, on real storage: what is made, recorded, kept apart, and not made twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import dagster as dg
import numpy as np
import pytest
from dagster_postgres.utils import DagsterPostgresException
from PIL import Image
from sqlalchemy.exc import OperationalError

from fc_assets.definitions import build_defs
from fc_assets.engine.asset import op_name
from imaging.files.provenance import read_provenance
from jobs.model.faults import POLICIES, Policy
from jobs.model.job_types import JOB_TYPES
from jobs.model.stages import STAGES
from jobs.queue.job_queue import JobQueue
from resources.database import DatabaseLostError
from resources.store.image_store import ImageStore
from tests.support.graph import FULL_PLAN_FILES, add_jobs, claim_batch, materialize, materialized, pixels

ONE_PERSON = "portrait of a smiling woman with red hair, forest"


@pytest.fixture
def photo(tmp_path: Path) -> str:
    from skimage import data

    Image.fromarray(data.astronaut()).save(tmp_path / "astronaut.png")
    return str(tmp_path / "astronaut.png")


@pytest.fixture
def faceless(tmp_path: Path) -> str:
    from skimage import data

    Image.fromarray(data.coffee()).save(tmp_path / "coffee.png")
    return str(tmp_path / "coffee.png")


@pytest.fixture
def _faulty(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FC_GENERATOR", "tests.support.faulty:FaultyGenerator")
    monkeypatch.setenv("FC_WRITER", "tests.support.faulty:FaultyWriter")


def test_prompt_becomes_a_described_image(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_jobs(queue, store, {"pony_prompt": ONE_PERSON, "tags": {"client": "x"}})
    claim_batch(queue, "batch-1")
    result = materialize(instance, "a", batch="batch-1")
    assert result.success
    job = queue.get("a")
    assert job.status == "completed"
    assert job.stages_completed == STAGES
    assert job.run_ids == (result.run_id,)
    assert all(store.path(folder, "a.png").exists() for folder in FULL_PLAN_FILES)
    assert job.final_image == str(store.path("6-final", "a.png"))
    assert [(one.stage, one.status, one.runs, one.cached) for one in queue.stage_results("a")] == [
        (stage, "completed", 1, False) for stage in STAGES
    ]
    text = store.path("descriptions", "a.txt").read_text()
    assert "sketch" in text.lower()
    for stage in STAGES:
        assert materialized(instance, stage) == {"a"}


def test_metadata_tells_how_it_was_made(instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore) -> None:
    add_jobs(queue, store, {"pony_prompt": ONE_PERSON})
    materialize(instance, "a")
    event = instance.get_latest_materialization_event(dg.AssetKey("generated_image"))
    shown = event.asset_materialization.metadata
    assert shown["seed"].value == 7
    assert shown["generator"].value == "sketch"
    assert shown["preview"].value.startswith("![generated_image of a](data:image/webp;base64,")
    assert len(shown["preview"].value) < 1000  # of more, Dagster's UI shows a link
    assert shown["path"].value == str(store.path("0-generated", "a.png"))
    assert event.asset_materialization.tags["dagster/data_version"]
    assert event.asset_materialization.tags["dagster/code_version"] == "3"

    record = read_provenance(store.read("6-final", "a.png"))
    assert record["record"]["job_id"] == "a"
    assert record["record"]["generator"] == "sketch"
    assert record["digital_source_type"] == "algorithmicMedia"
    assert "Seed: 7" in record["parameters"]


@pytest.mark.parametrize(
    ("job_type", "stages"),
    [
        ("sdxl_generation", JOB_TYPES["sdxl_generation"].stages),
        ("description", JOB_TYPES["description"].stages),
        ("face_processing", STAGES),
    ],
)
def test_each_job_type_goes_its_own_way_through_all_assets(
    job_type: str, stages: tuple[str, ...], instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, photo: str
) -> None:
    given = {"pony_prompt": ONE_PERSON} if job_type == "sdxl_generation" else {"source_image": photo}
    add_jobs(queue, store, {"job_type": job_type, **given}, hold=True)
    assert materialize(instance, "a").success
    job = queue.get("a")
    assert job.status == "completed"
    assert job.stages_completed == stages
    for stage in STAGES:
        assert materialized(instance, stage) == ({"a"} if stage in stages else set())


def test_photo_outside_the_mask_is_untouched(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, photo: str
) -> None:
    add_jobs(queue, store, {"job_type": "face_processing", "source_image": photo, "face_strength": 0.9})
    assert materialize(instance, "a").success
    before = np.array(Image.open(photo))
    mask = pixels(store, "3-masks", "a.png")
    after = pixels(store, "6-final", "a.png")
    assert np.array_equal(before, pixels(store, "0-generated", "a.png"))
    assert np.array_equal(before[mask == 0], after[mask == 0])
    inside = np.abs(before[mask > 200].astype(int) - after[mask > 200]).mean()
    assert inside > 3, "the face pass must be seen"
    record = read_provenance(store.read("6-final", "a.png"))
    assert record["record"]["origin"] == "edited photo"
    assert record["digital_source_type"] == "composite"


def test_photos_of_several_sizes_and_faces_at_borders_are_untouched_outside_the_mask(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, tmp_path: Path
) -> None:
    from skimage import data

    astronaut = data.astronaut()
    upper = astronaut[:330]
    views = {
        "left border": (astronaut[40:300, 172:400], 1),
        "upper left corner": (astronaut[60:, 176:], 1),
        "right border": (astronaut[:257, :277], 1),
        "two faces": (np.concatenate([upper[:, 100:360], upper[:, 90:351]], axis=1), 2),
        "three faces, two at borders": (
            np.concatenate([upper[:, 172:360], upper[:, 90:351], upper[:, :277]], axis=1),
            3,
        ),
    }
    requests: list[dict[str, object]] = []
    for name, (view, _count) in views.items():
        Image.fromarray(view).save(tmp_path / f"{name}.png")
        photo = str(tmp_path / f"{name}.png")
        requests.append({"job_type": "face_processing", "source_image": photo, "face_strength": 0.9})
    jobs = add_jobs(queue, store, *requests)
    assert materialize(instance, *(job.id for job in jobs)).success
    for job, (before, count) in zip(jobs, views.values(), strict=True):
        mask, after = (pixels(store, folder, f"{job.id}.png") for folder in ("3-masks", "6-final"))
        assert after.shape == before.shape
        assert np.array_equal(before[mask == 0], after[mask == 0])
        changed = np.abs(before.astype(int) - after).max(axis=2) > 3
        assert cv2.connectedComponents((mask > 200).astype(np.uint8))[0] - 1 == count, "each face has its mask"
        assert changed[mask > 200].mean() > 0.5, "and each was painted anew"


def test_final_image_has_the_size_asked_for(instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore) -> None:
    add_jobs(queue, store, {"pony_prompt": ONE_PERSON, "width": 320, "height": 256, "output_size": 640})
    assert materialize(instance, "a").success
    assert pixels(store, "6-final", "a.png").shape == (512, 640, 3)
    assert np.array_equal(pixels(store, "5-resized", "a.png"), pixels(store, "6-final", "a.png"))
    assert pixels(store, "4-results", "a.png").shape == (256, 320, 3)


@pytest.mark.usefixtures("_faulty")
def test_one_bad_job_never_touches_its_neighbours(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore
) -> None:
    prompts = [ONE_PERSON, f"broken-scene {ONE_PERSON}", ONE_PERSON, f"raising-scene {ONE_PERSON}", ONE_PERSON]
    add_jobs(queue, store, *({"pony_prompt": prompt} for prompt in prompts))
    claim_batch(queue, "one")
    result = materialize(instance, *"abcde", batch="one")
    assert not result.success
    failure = next(event for event in result.all_events if event.is_step_failure)
    assert "b: Job b hit a broken scene." in failure.step_failure_data.user_failure_data.description
    assert "the GPU fell off the bus" in failure.step_failure_data.user_failure_data.description
    assert materialized(instance, "generated_image") == {"a", "c", "e"}
    assert materialized(instance, "portrait") == set()
    assert {job_id: queue.get(job_id).status for job_id in "abcde"} == {
        "a": "pending",
        "b": "failed",
        "c": "pending",
        "d": "failed",
        "e": "pending",
    }
    assert queue.get("b").error == "Job b hit a broken scene."
    assert queue.get("b").error_stage == "generated_image"
    assert queue.get("b").error_hint == "Repair it."
    assert queue.get("a").next_stage == "portrait"
    assert queue.get("a").attempts == 0
    assert queue.get("a").solo is False


def test_job_that_needs_review_ends_there_and_its_batch_goes_on(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, photo: str, faceless: str
) -> None:
    images = (photo, faceless, photo)
    add_jobs(queue, store, *({"job_type": "face_processing", "source_image": image} for image in images))
    claim_batch(queue, "one")
    result = materialize(instance, *"abc", batch="one")
    assert result.success
    assert {job_id: queue.get(job_id).status for job_id in "abc"} == {
        "a": "completed",
        "b": "needs_review",
        "c": "completed",
    }
    assert "No face was found" in (queue.get("b").error or "")
    assert queue.get("b").stages_completed == ("job_request", "enhanced_prompt", "generated_image")
    assert store.path("0-generated", "b.png").exists()
    assert materialized(instance, "generated_image") == {"a", "b", "c"}
    assert materialized(instance, "portrait") == {"a", "c"}, "Dagster must not show what was not made"
    assert materialized(instance, "description") == {"a", "c"}


def test_run_whose_only_job_needs_review_skips_the_rest(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, faceless: str
) -> None:
    add_jobs(queue, store, {"job_type": "face_processing", "source_image": faceless})
    result = materialize(instance, "a")
    assert result.success
    assert queue.get("a").status == "needs_review"
    skipped = {event.step_key for event in result.all_events if event.is_step_skipped}
    assert skipped == {op_name(stage) for stage in STAGES[4:]}


@pytest.mark.usefixtures("_faulty")
def test_blank_image_needs_review(instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore) -> None:
    add_jobs(queue, store, {"pony_prompt": f"blank-scene {ONE_PERSON}"})
    assert materialize(instance, "a").success
    assert queue.get("a").status == "needs_review"
    assert "turned down" in (queue.get("a").error or "")


@pytest.mark.usefixtures("_faulty")
def test_fault_that_may_pass_is_tried_again_alone_up_to_the_limit(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FC_SERVICE_ATTEMPTS", "2")
    monkeypatch.setitem(POLICIES, "service", Policy("service_attempts"))
    add_jobs(queue, store, {"pony_prompt": f"busy-scene {ONE_PERSON}"})
    claim_batch(queue, "one")
    assert not materialize(instance, "a", batch="one").success
    assert (queue.get("a").status, queue.get("a").attempts, queue.get("a").solo) == ("pending", 1, True)
    claim_batch(queue, "two")
    assert not materialize(instance, "a", selection=STAGES[2:], batch="two").success
    assert (queue.get("a").status, queue.get("a").attempts) == ("failed", 2)
    assert queue.stage_result("a", "enhanced_prompt").runs == 1


def test_all_jobs_of_a_call_are_in_hand_before_it_begins(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FC_GENERATOR", "tests.support.faulty:CallsOfTwo")
    monkeypatch.setenv("FC_TEST_IN_HAND", str(tmp_path / "in-hand"))
    add_jobs(queue, store, *([{"pony_prompt": ONE_PERSON, "job_type": "sdxl_generation"}] * 5))
    claim_batch(queue, "one")
    assert materialize(instance, *"abcde", selection=STAGES[:3], batch="one").success
    assert (tmp_path / "in-hand").read_text().splitlines() == ["a b", "c d", "e"]
    for job_id in "abcde":
        assert queue.get(job_id).status == "completed"
        assert queue.stage_result(job_id, "generated_image").runs == 1


def test_a_job_that_was_cancelled_before_its_call_is_left_out_of_it(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FC_GENERATOR", "tests.support.faulty:CallsOfTwo")
    monkeypatch.setenv("FC_TEST_IN_HAND", str(tmp_path / "in-hand"))
    add_jobs(queue, store, *([{"pony_prompt": ONE_PERSON, "job_type": "sdxl_generation"}] * 4))
    claim_batch(queue, "one")
    begin = JobQueue.begin_stage

    def cancel_first(self: JobQueue, job_id: str, stage: str, **more: Any) -> None:
        if (job_id, stage) == ("c", "generated_image"):
            queue.cancel(["d"])
        begin(self, job_id, stage, **more)

    monkeypatch.setattr(JobQueue, "begin_stage", cancel_first)
    assert materialize(instance, *"abcd", selection=STAGES[:3], batch="one").success
    assert (tmp_path / "in-hand").read_text().splitlines() == ["a b", "c"]
    assert [queue.get(job_id).status for job_id in "abcd"] == ["completed"] * 3 + ["cancelled"]


def _lose(what: str, method: str, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second image of the next run meets a storage that is gone, once: before it was written, or after."""
    owner = JobQueue if method == "finish_stage" else dg.AssetExecutionContext
    real = getattr(owner, method)
    seen: list[str] = []

    def lost(self: object, *args: object, **kwargs: object) -> object:
        stage = args[1] if owner is JobQueue else args[0].asset_key.path[-1]
        seen.extend([stage] if stage == "generated_image" else [])
        if stage == "generated_image" and len(seen) == 2:
            if what == "after":
                real(self, *args, **kwargs)
            raise error
        return real(self, *args, **kwargs)

    monkeypatch.setattr(owner, method, lost)


@pytest.mark.parametrize(
    ("what", "method", "error", "left"),
    [
        ("before", "finish_stage", DatabaseLostError("Gone."), "generated_image"),
        ("after", "finish_stage", DatabaseLostError("Gone."), None),
        ("before", "log_event", OperationalError("INSERT", {}, Exception("gone")), "generated_image"),
        ("before", "log_event", DagsterPostgresException("too many retries"), "generated_image"),
    ],
)
def test_storage_that_goes_away_costs_one_attempt_of_one_job(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, monkeypatch: pytest.MonkeyPatch,
    what: str, method: str, error: Exception, left: str | None,
) -> None:  # fmt: skip
    monkeypatch.setattr("jobs.queue.endings.seconds_before_next", lambda *_: 0.0)
    stages = JOB_TYPES["sdxl_generation"].stages
    add_jobs(queue, store, *[{"pony_prompt": ONE_PERSON, "job_type": "sdxl_generation"}] * 2)
    claim_batch(queue, "one")
    with monkeypatch.context() as patched:
        _lose(what, method, error, patched)
        assert not materialize(instance, "a", "b", selection=stages, batch="one").success
    assert queue.get("a").status == "completed"
    lost = queue.get("b")
    assert (lost.status, lost.attempts, lost.next_stage) == ("pending", 1, left)
    claim_batch(queue, "two")
    assert materialize(instance, "b", selection=stages[2:], batch="two").success
    assert queue.get("b").status == "completed"
    assert [one.status for one in queue.stage_results("b")] == ["completed"] * 3
    assert sum(one.verdict == "completed" for one in queue.attempts("b")) == 3
    for stage in stages:
        assert materialized(instance, stage) == {"a", "b"}


def test_nothing_is_computed_twice(instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore) -> None:
    add_jobs(queue, store, {"pony_prompt": ONE_PERSON})
    assert materialize(instance, "a").success
    assert materialize(instance, "a").success
    assert [(one.runs, one.cached) for one in queue.stage_results("a")] == [(1, True)] * len(STAGES)
    assert queue.get("a").status == "completed"
    event = instance.get_latest_materialization_event(dg.AssetKey("mask"))
    assert event.asset_materialization.metadata["cached"].value is True


def test_damaged_output_is_made_anew_and_nothing_else(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore
) -> None:
    add_jobs(queue, store, {"pony_prompt": ONE_PERSON})
    assert materialize(instance, "a").success
    whole = store.read("3-masks", "a.png")
    Path(str(store.path("3-masks", "a.png"))).write_bytes(whole[: len(whole) // 2])
    assert materialize(instance, "a").success
    assert {one.stage: one.runs for one in queue.stage_results("a")} == {
        stage: 2 if stage == "mask" else 1 for stage in STAGES
    }
    assert store.read("3-masks", "a.png") == whole


def test_changed_setting_recomputes_only_what_depends_on_it(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, monkeypatch: pytest.MonkeyPatch, yunet_model: Path
) -> None:
    add_jobs(queue, store, {"pony_prompt": ONE_PERSON})
    assert materialize(instance, "a").success
    monkeypatch.setenv("FC_DETECTOR", "yunet")
    monkeypatch.setenv("FC_YUNET_MODEL", str(yunet_model))
    assert materialize(instance, "a").success
    runs = {one.stage: one.runs for one in queue.stage_results("a")}
    assert (runs["enhanced_prompt"], runs["generated_image"]) == (1, 1)
    assert (runs["portrait"], runs["mask"], runs["changed_face"], runs["final_image"]) == (2, 2, 2, 2)


def test_held_job_run_by_hand_stage_by_stage(instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore) -> None:
    add_jobs(queue, store, {"pony_prompt": ONE_PERSON}, hold=True)
    assert materialize(instance, "a", selection=STAGES[:3]).success
    assert queue.get("a").status == "held"
    assert materialize(instance, "a", selection=STAGES[3:]).success
    assert queue.get("a").status == "completed"
    assert len(queue.get("a").run_ids) == 2


def test_range_by_hand(instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore) -> None:
    add_jobs(queue, store, *({"pony_prompt": ONE_PERSON} for _ in range(3)), hold=True)
    assert materialize(instance, *"abc").success
    assert {queue.get(job_id).status for job_id in "abc"} == {"completed"}


def test_job_from_the_ui_alone(instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore) -> None:
    config = {"pony_prompt": ONE_PERSON, "width": 256, "height": 256}
    assert materialize(instance, "made-in-ui", config=config).success
    job = queue.get("made-in-ui")
    assert (job.status, job.origin, job.stages_completed) == ("completed", "ui", STAGES)
    assert job.request.seed is not None


def test_request_alone_from_the_ui_goes_to_the_queue(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore
) -> None:
    config = {"pony_prompt": ONE_PERSON, "width": 256, "height": 256}
    assert materialize(instance, "made-in-ui", selection=["job_request"], config=config).success
    job = queue.get("made-in-ui")
    assert (job.status, job.next_stage) == ("pending", "enhanced_prompt")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"pony_prompt": "x", "width": 100}, "width: must be a multiple of 8"),
        ({"pony_prompt": "x", "seed": 10**4000}, "seed: Input should be less than or equal to 4294967295"),
        ({"pony_prompt": "x", "cfg_scale": float("inf")}, "cfg_scale"),
        ({"pony_prompt": "x", "scheduler": "x" * 100_000}, "scheduler"),
        ({"job_type": "face_processing", "source_image": "/nowhere.png"}, "source_image"),
        ({"job_type": "pony_flux", "flux_prompt": "x"}, "pony_prompt"),
        (None, "There is no job made-in-ui"),
    ],
)
def test_bad_request_from_the_ui_stores_nothing(
    config: dict | None, message: str, instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore
) -> None:
    result = materialize(instance, "made-in-ui", config=config)
    assert not result.success
    failure = next(event for event in result.all_events if event.is_step_failure)
    assert message in failure.step_failure_data.user_failure_data.description
    assert queue.find() == []


def test_config_changes_a_known_job_as_a_retry_does(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore
) -> None:
    """With every asset in the run, and with job_request alone: then the queue goes on with the rest."""
    add_jobs(queue, store, {"pony_prompt": ONE_PERSON})
    assert materialize(instance, "a").success
    old = store.read("6-final", "a.png")
    assert materialize(instance, "a", config={"face_strength": 0.9, "pony_prompt": ONE_PERSON}).success
    twice = {"job_request", "changed_face", "final_image", "description"}
    assert {one.stage: one.runs for one in queue.stage_results("a")} == {
        stage: 2 if stage in twice else 1 for stage in STAGES
    }
    assert (queue.get("a").status, queue.get("a").request.face_strength) == ("completed", 0.9)
    assert store.read("6-final", "a.png") != old
    assert queue.get("a").request.seed == 7
    assert materialize(instance, "a", selection=["job_request"], config={"seed": 8}).success
    job = queue.get("a")
    assert (job.status, job.next_stage, job.request.seed) == ("pending", "enhanced_prompt", 8)


@pytest.mark.parametrize(
    ("config", "message"),
    [({"steps": 500}, "steps"), ({"job_type": "sdxl_generation"}, "job_type cannot be changed")],
)
def test_config_that_cannot_be_changes_nothing_and_is_an_attempt(
    config: dict, message: str, instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore
) -> None:
    add_jobs(queue, store, {"pony_prompt": ONE_PERSON}, hold=True)
    before = queue.get("a")
    assert not materialize(instance, "a", config=config).success
    assert queue.get("a") == before
    (only,) = queue.attempts("a")
    assert (only.stage, only.verdict, message in (only.reason or "")) == ("job_request", "failed", True)


def test_job_of_another_run_is_left_alone(instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore) -> None:
    add_jobs(queue, store, {"pony_prompt": ONE_PERSON}, hold=True)
    other = dg.DagsterRun(job_name="other", run_id="0" * 8, status=dg.DagsterRunStatus.STARTED)
    instance.add_run(other)
    queue.start("a", run_id=other.run_id, batch_id=None)
    result = materialize(instance, "a")
    assert not result.success
    assert (queue.get("a").status, queue.get("a").run_id) == ("running", other.run_id)


def test_job_of_a_dead_run_is_taken_over_by_hand(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore
) -> None:
    add_jobs(queue, store, {"pony_prompt": ONE_PERSON}, hold=True)
    dead = dg.DagsterRun(job_name="other", run_id="0" * 8, status=dg.DagsterRunStatus.FAILURE)
    instance.add_run(dead)
    queue.start("a", run_id=dead.run_id, batch_id=None)
    assert materialize(instance, "a").success
    assert queue.get("a").status == "completed"


def test_job_cancelled_before_its_batch_starts_does_not_stop_the_batch(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore
) -> None:
    add_jobs(queue, store, {"pony_prompt": ONE_PERSON}, {"pony_prompt": ONE_PERSON})
    claim_batch(queue, "one")
    queue.start("b", run_id="by-batch", batch_id="one")
    queue.settle_run("by-batch", batch_id=None, outcome="cancelled", error="by a person", max_attempts=3)
    assert materialize(instance, *"ab", batch="one").success
    assert (queue.get("a").status, queue.get("b").status) == ("completed", "cancelled")


def test_same_request_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore
) -> None:
    from resources.database import open_database
    from resources.settings import load_settings

    add_jobs(queue, store, {"pony_prompt": "two people, city at night"})
    assert materialize(instance, "a").success
    monkeypatch.setenv("FC_DATA_DIR", str(tmp_path / "second"))
    monkeypatch.setenv("FC_DATABASE_URL", f"sqlite:///{tmp_path}/second.sqlite")
    second = JobQueue(open_database(load_settings().resolved_database_url))
    other = ImageStore(str(tmp_path / "second"))
    add_jobs(second, other, {"pony_prompt": "two people, city at night"})
    assert materialize(instance, "a").success
    for folder in FULL_PLAN_FILES:
        assert store.read(folder, "a.png") == other.read(folder, "a.png"), folder


@pytest.mark.usefixtures("_faulty")
@pytest.mark.parametrize(
    ("prompt", "stage", "status"),
    [
        ("broken-words", "enhanced_prompt", "failed"),
        ("refused-words", "enhanced_prompt", "needs_review"),
        ("unsafe-words", "enhanced_prompt", "rejected"),
        ("unsafe-description", "description", "rejected"),
        ("broken-face", "changed_face", "failed"),
        ("broken-description", "description", "failed"),
    ],
)
def test_every_stage_can_fail_and_says_so(
    prompt: str, stage: str, status: str, instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore
) -> None:
    add_jobs(queue, store, {"pony_prompt": f"{prompt}, {ONE_PERSON}"})
    materialize(instance, "a")
    job = queue.get("a")
    assert (job.status, job.error_stage) == (status, stage)
    assert job.stages_completed == STAGES[: STAGES.index(stage)]
    assert queue.stage_result("a", stage).status == status


@pytest.mark.usefixtures("_faulty")
def test_unsafe_words_of_a_writer_are_named_and_not_tried_again(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore
) -> None:
    add_jobs(queue, store, {"pony_prompt": f"unsafe-words, {ONE_PERSON}"})
    materialize(instance, "a")
    job = queue.get("a")
    assert "Job a: pony_prompt: " in (job.error or "")
    assert "'nude'" in (job.error or "")
    assert (job.status, job.fault) == ("rejected", None)


def test_stage_past_its_time_limit_is_ended(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FC_STAGE_TIMEOUT", "0.001")
    add_jobs(queue, store, {"pony_prompt": ONE_PERSON})
    assert not materialize(instance, "a", selection=STAGES).success
    job = queue.get("a")
    assert (job.status, job.fault) == ("pending", "service")
    assert "longer than 0.001 seconds" in (job.error or "")
    assert "FC_STAGE_TIMEOUT" in (job.error_hint or "")


def test_records_are_plain_json(instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore) -> None:
    add_jobs(queue, store, {"pony_prompt": ONE_PERSON})
    assert materialize(instance, "a").success
    assert json.loads(store.read("requests", "a.json"))["request"]["pony_prompt"] == ONE_PERSON
    prompts = json.loads(store.read("prompts", "a.json"))
    assert prompts["original"]["pony_prompt"] == ONE_PERSON
    assert prompts["enhanced"]["pony_prompt"].startswith(ONE_PERSON)
    assert json.loads(store.read("1-portraits", "a.json"))["faces"][0]["passed"] is True
    assert json.loads(store.read("descriptions", "a.json"))["answer"]["people"] == 1


def test_dagster_knows_what_is_up_to_date(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, monkeypatch: pytest.MonkeyPatch, yunet_model: Path
) -> None:
    from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
    from dagster._core.loader import LoadingContextForTest

    graph = build_defs().resolve_asset_graph()

    def status(stage: str) -> StaleStatus:
        resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
        return resolver.get_status(dg.AssetKey(stage), "a")

    add_jobs(queue, store, {"pony_prompt": ONE_PERSON})
    assert materialize(instance, "a").success
    assert {stage: status(stage) for stage in STAGES} == dict.fromkeys(STAGES, StaleStatus.FRESH)
    monkeypatch.setenv("FC_DETECTOR", "yunet")
    monkeypatch.setenv("FC_YUNET_MODEL", str(yunet_model))
    assert materialize(instance, "a", selection=["portrait"]).success
    assert status("portrait") == StaleStatus.FRESH
    assert status("mask") == StaleStatus.STALE
    assert status("generated_image") == StaleStatus.FRESH


@pytest.mark.parametrize("letter", ["弲", "🦊", '"'])
def test_a_request_as_large_as_it_may_be_completes(
    letter: str, instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore
) -> None:
    """What its pictures say of it is read by the stages behind, and by jobs that work on its picture."""
    words = letter * 7900
    rules = [
        {"faces": f"width > {n} px", "prompt": f"[PROMPT] {words}", "negative_prompt": words + letter * n}
        for n in range(32)
    ]
    large = {
        "pony_prompt": f"six people, {words}",
        "flux_prompt": f"green eyes, {words}",
        "negative_prompt": words,
        "face_rules": rules,
        "tags": {letter * 250 + str(n): letter * 256 for n in range(32)},
    }
    add_jobs(queue, store, {**large, "width": 512, "height": 512}, {**large, "job_type": "face_processing"} | {
        "source_image": "job:a"
    })  # fmt: skip
    materialize(instance, "a")
    queue.settle_waiting()
    materialize(instance, "b")
    for job_id in "ab":
        job = queue.get(job_id)
        assert (job.status, job.error) == ("completed", None)
        record = read_provenance(store.read("6-final", f"{job_id}.png"))["record"]
        assert record["request"]["pony_prompt"] == large["pony_prompt"]

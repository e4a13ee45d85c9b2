"""Stages, what they leave behind, the job types, and how a job's recipe reaches its stages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import dagster as dg
import numpy as np
import pytest
from PIL import Image
from skimage import data
from sqlalchemy import null, update

from fc_assets.definitions import ASSETS, build_defs
from fc_assets.engine.outcome import Done, ExtraImage
from fc_assets.engine.results import encode_result
from jobs.model.job_types import JOB_TYPES, JobType
from jobs.model.stages import PARTITIONS, STAGES, _in_order
from jobs.queue.job_queue import JobQueue
from jobs.requests.retry import retry
from jobs.runs.lifecycle import RANGE_END_TAG, RANGE_START_TAG
from resources.artifacts.images import ImageRecord
from resources.artifacts.records import ARTIFACTS, JOB_FOLDERS
from resources.connections import GeneratorResource
from resources.database import Database, JobRow
from resources.generators.base import NOTHING_CHOSEN, Generator, ImageTask, InpaintTask, ModelChoice, Outcome
from resources.settings import load_settings
from resources.store.image_store import ImageStore
from sketch.generator import SketchGenerator
from tests.support.graph import add_jobs, claim_batch, materialize, pixels

ONE_PERSON = "portrait of a smiling woman with red hair, forest"
FRIENDS = "two friends on a beach, sunset"


def shown(instance: dg.DagsterInstance, stage: str) -> dict[str, Any]:
    """The newest metadata of a stage, as values."""
    event = instance.get_latest_materialization_event(dg.AssetKey(stage))
    return {name: getattr(value, "value", None) for name, value in event.asset_materialization.metadata.items()}


# ---- the tables


def test_each_stage_has_its_asset_and_says_what_it_leaves_behind() -> None:
    assert set(ARTIFACTS) == set(STAGES)
    assert [asset.key.path[-1] for asset in ASSETS] == list(STAGES)
    for stage, artifact in ARTIFACTS.items():
        assert artifact.stage == stage
        assert set(artifact.folders) <= set(JOB_FOLDERS)


def test_each_job_type_delivers_a_picture_of_a_stage_that_it_has() -> None:
    for name, one in JOB_TYPES.items():
        assert one.delivers is None or (one.delivers in one.stages and ARTIFACTS[one.delivers].is_picture), name
        assert [stage for stage in STAGES if stage in one.stages] == list(one.stages), "one order for all"
        assert (one.starts_from is None) == (not one.stages)


def test_stages_of_another_job_type_find_their_place() -> None:
    rows = [("a", "b", "c", "d"), ("a", "x", "c"), ("a", "y")]
    order = _in_order(rows)
    assert sorted(order) == ["a", "b", "c", "d", "x", "y"]
    for row in rows:
        assert [stage for stage in order if stage in row] == list(row)


def test_a_picture_in_a_folder_that_fc_remove_does_not_know_is_not_stored(store: ImageStore) -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    done = Done(ImageRecord(picture), extras=[ExtraImage("7-elsewhere", "a.png", picture)])

    step = SimpleNamespace(name="mask", stage=SimpleNamespace(artifact=ARTIFACTS["mask"]), store=store)
    with pytest.raises(ValueError, match="7-elsewhere"):
        encode_result(step, "a", done)  # type: ignore[arg-type]


# ---- recipes


def test_a_job_has_its_own_values_in_every_stage(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore
) -> None:
    own = {"prompt_suffix": "at night", "face_prompt_suffix": "green eyes", "mask_kind": "box", "face_padding": 0.2}
    add_jobs(queue, store, {"pony_prompt": ONE_PERSON, **own, "gate_final": "warn 1"}, {"pony_prompt": ONE_PERSON})
    assert materialize(instance, "a").success
    assert shown(instance, "generated_image")["prompt"].endswith(", at night")
    assert shown(instance, "mask")["options"]["kind"] == "box"
    assert shown(instance, "changed_face")["prompt"].endswith(", green eyes")
    assert "under 1" in shown(instance, "final_image")["warnings"][0]
    recipe = json.loads(store.read("requests", "a.json"))["recipe"]
    assert recipe == queue.get("a").recipe == shown(instance, "job_request")["recipe"]
    assert recipe["sources"]["mask_kind"] == "request"
    assert materialize(instance, "b").success
    assert shown(instance, "mask")["options"]["kind"] == "ellipse"
    assert not shown(instance, "generated_image")["prompt"].endswith("at night")


def test_stages_go_by_the_recipe_that_was_resolved_until_the_request_is_made_anew(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_jobs(queue, store, {"pony_prompt": ONE_PERSON})
    assert materialize(instance, "a").success
    before = instance.get_latest_materialization_event(dg.AssetKey("job_request")).asset_materialization
    monkeypatch.setenv("FC_MASK_KIND", "box")
    assert materialize(instance, "a", selection=["mask"]).success
    assert shown(instance, "mask")["options"]["kind"] == "ellipse"
    assert materialize(instance, "a").success
    assert shown(instance, "mask")["options"]["kind"] == "box"
    after = instance.get_latest_materialization_event(dg.AssetKey("job_request")).asset_materialization
    assert after.tags["dagster/data_version"] != before.tags["dagster/data_version"], "the lineage shows it"
    assert json.loads(store.read("requests", "a.json"))["recipe"]["mask"]["mask_kind"] == "box"
    assert (queue.get("a").recipe or {})["sources"]["mask_kind"] == "settings"
    runs = {one.stage: one.runs for one in queue.stage_results("a")}
    assert (runs["job_request"], runs["portrait"], runs["mask"]) == (1, 1, 2)


def test_a_job_without_a_recipe_gets_one_where_it_goes_on(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, database: Database
) -> None:
    add_jobs(queue, store, {"pony_prompt": ONE_PERSON}, hold=True)
    assert materialize(instance, "a", selection=STAGES[:3]).success
    known = queue.get("a").recipe
    with database.session() as session:
        session.execute(update(JobRow).values(recipe=null()))
    assert queue.get("a").recipe is None
    assert materialize(instance, "a", selection=STAGES[3:]).success
    assert queue.get("a").status == "completed"
    assert known is not None
    assert queue.get("a").recipe == known


def test_values_that_cannot_be_together_reject_the_job_when_it_runs(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_jobs(queue, store, {"pony_prompt": ONE_PERSON, "faces_min_share": 30.0}, {"pony_prompt": ONE_PERSON})
    monkeypatch.setenv("FC_FACES_MAX_SHARE", "20")
    claim_batch(queue, "one")
    assert materialize(instance, "a", "b", batch="one").success
    assert (queue.get("a").status, queue.get("b").status) == ("rejected", "completed")
    assert "faces_min_share" in (queue.get("a").error or "")


def test_a_portrait_of_an_older_version_is_read_with_its_rules(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore
) -> None:
    rules = ["1st from left: prompt=[PROMPT], a beard; seed_offset=100; strength=0.2"]
    add_jobs(queue, store, {"pony_prompt": FRIENDS, "width": 512, "height": 384, "face_rules": rules})
    assert materialize(instance, "a").success
    faces = shown(instance, "changed_face")["faces"]
    record = json.loads(store.read("1-portraits", "a.json"))
    assert len(faces) == len(record["faces"]) == sum("wishes" in face for face in record["faces"])
    for face in record["faces"]:
        del face["wishes"]
    store.write("1-portraits", "a.json", data=json.dumps(record).encode())
    retry("a", queue=queue, store=store, settings=load_settings(), from_stage="changed_face")
    claim_batch(queue, "again")
    assert materialize(instance, "a", selection=STAGES[5:], batch="again").success
    timeless = [[{**face, "seconds": 0} for face in made] for made in (faces, shown(instance, "changed_face")["faces"])]
    assert timeless[0] == timeless[1]


# ---- jobs that need the same model


class Noted(SketchGenerator):
    """The sketch generator over a model, which notes who is made with it."""

    calls: ClassVar[list[tuple[str, str | None, list[str]]]] = []

    def __init__(self, checkpoint: str | None) -> None:
        super().__init__()
        self._checkpoint = checkpoint

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "checkpoint": self._checkpoint}

    def generate(self, tasks: Sequence[ImageTask]) -> Iterator[Outcome]:
        self.calls.append(("scene", self._checkpoint, [task.job_id for task in tasks]))
        return super().generate(tasks)

    def inpaint(self, tasks: Sequence[InpaintTask]) -> Iterator[Outcome]:
        self.calls.append(("faces", self._checkpoint, [task.task.job_id for task in tasks]))
        return super().inpaint(tasks)


class NotedGenerators(GeneratorResource):
    """A generator over any model."""

    def get(self, name: str | None = None, choice: ModelChoice = NOTHING_CHOSEN) -> tuple[Generator, str]:
        return Noted(choice.checkpoint), "noted."

    def for_faces(
        self, name: str | None = None, choice: ModelChoice = NOTHING_CHOSEN, **_how: Any
    ) -> tuple[Generator, str]:
        return Noted(choice.checkpoint), "noted."


def test_jobs_that_need_the_same_model_are_made_together(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FC_GENERATOR", "sdxl")  # which takes a checkpoint from a job; the images are made by another
    models = ["x", "y", None, "x", "y"]
    add_jobs(queue, store, *({"pony_prompt": ONE_PERSON, "checkpoint": model} for model in models))
    claim_batch(queue, "one")
    Noted.calls.clear()
    instance.add_dynamic_partitions(PARTITIONS, list("abcde"))
    defs = build_defs({"generator": NotedGenerators()})
    done = dg.materialize(
        list(defs.assets or []),
        instance=instance,
        resources=dict(defs.resources or {}),
        tags={RANGE_START_TAG: "a", RANGE_END_TAG: "e", "face-changer/batch": "one"},
        raise_on_error=False,
    )
    assert done.success
    groups = [("x", ["a", "d"]), ("y", ["b", "e"]), (None, ["c"])]
    assert Noted.calls == [(what, *group) for what in ("scene", "faces") for group in groups]
    assert {job_id: queue.get(job_id).status for job_id in "abcde"} == dict.fromkeys("abcde", "completed")


@pytest.mark.parametrize(
    ("job_type", "place"),
    [("sdxl_generation", "0-generated"), ("description", "0-generated"), ("face_processing", "6-final")],
)
def test_what_a_job_delivers_is_the_picture_of_the_job_that_works_on_it(
    job_type: JobType,
    place: str,
    instance: dg.DagsterInstance,
    queue: JobQueue,
    store: ImageStore,
    tmp_path: Path,
) -> None:
    Image.fromarray(data.astronaut()).save(tmp_path / "photo.png")
    first = (
        {"pony_prompt": ONE_PERSON} if job_type == "sdxl_generation" else {"source_image": str(tmp_path / "photo.png")}
    )
    add_jobs(queue, store, {"job_type": job_type, **first}, {"job_type": "description", "source_image": "job:a"})
    assert materialize(instance, "a").success
    assert queue.get("a").final_image == str(store.path(place, "a.png"))
    assert materialize(instance, "b").success
    assert (queue.get("b").source or {})["sha256"] == store.sha256_of(place, "a.png")


def test_a_mask_that_came_with_the_request_is_the_mask(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, tmp_path: Path
) -> None:
    own = np.zeros((256, 256), np.uint8)
    own[90:150, 100:160] = 255
    Image.fromarray(own).save(tmp_path / "mask.png")
    add_jobs(queue, store, {"pony_prompt": ONE_PERSON, "mask": str(tmp_path / "mask.png"), "mask_kind": "box"})
    assert materialize(instance, "a").success
    assert np.array_equal(pixels(store, "3-masks", "a.png"), own)
    before, after = pixels(store, "0-generated", "a.png"), pixels(store, "6-final", "a.png")
    changed = np.any(before != after, axis=2)
    assert changed.any()
    assert not changed[own == 0].any()

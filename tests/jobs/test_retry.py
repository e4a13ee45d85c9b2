"""Trying a job again, with a change or without, and cancelling one: through `fc` and the real graph."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from PIL import Image

from jobs.model.stages import STAGES
from jobs.queue.job_queue import JobQueue
from jobs.runs.lifecycle import BATCH_TAG, stop_idle_runs
from resources.generators.base import ImageTask, Outcome
from resources.store.image_store import ImageStore
from sketch.generator import SketchGenerator
from tests.support.commands import Fc
from tests.support.graph import add_jobs, claim_batch, materialize, materialized, pixels

ONE_PERSON = "portrait of a smiling woman with red hair, forest"


@pytest.fixture
def done(instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore) -> JobQueue:
    """A queue with the completed job `a`."""
    add_jobs(queue, store, {"pony_prompt": ONE_PERSON})
    assert materialize(instance, "a").success
    return queue


def again(instance: dg.DagsterInstance, queue: JobQueue) -> dict[str, int]:
    """Run the retried job as the sensor would; how often each stage has done real work."""
    stage = queue.get("a").next_stage
    claim_batch(queue, "again")
    assert materialize(instance, "a", selection=STAGES[STAGES.index(stage) :], batch="again").success
    assert queue.get("a").status == "completed"
    return {one.stage: one.runs for one in queue.stage_results("a")}


def runs(*twice: str) -> dict[str, int]:
    return {stage: 2 if stage in twice else 1 for stage in STAGES}


def test_from_a_stage_makes_it_and_what_follows_anew_and_nothing_before(
    instance: dg.DagsterInstance, done: JobQueue, fc: Fc
) -> None:
    assert fc("retry", "a", "--from", "mask")[0] == 0
    assert (done.get("a").status, done.get("a").next_stage) == ("pending", "mask")
    assert again(instance, done) == runs("mask", "changed_face", "final_image", "description")
    assert materialize(instance, "a").success
    assert {one.stage: one.runs for one in done.stage_results("a")} == runs(*STAGES[4:]), "once, not for ever"


def test_another_face_strength_touches_neither_prompt_nor_image(
    instance: dg.DagsterInstance, done: JobQueue, store: ImageStore, fc: Fc
) -> None:
    final = store.read("6-final", "a.png")
    assert fc("retry", "a", "--set", "face_strength=0.9", "--set", "priority=2")[0] == 0
    assert (done.get("a").request.face_strength, done.get("a").priority) == (0.9, 2)
    assert again(instance, done) == runs("job_request", "changed_face", "final_image", "description")
    assert store.read("6-final", "a.png") != final
    (old,) = Path(str(store.path("history", "6-final"))).iterdir()
    assert old.read_bytes() == final, "the old picture is kept beside the new"


def test_another_seed_makes_another_picture_from_the_same_words_and_the_history_has_both(
    instance: dg.DagsterInstance, done: JobQueue, store: ImageStore, fc: Fc
) -> None:
    old = store.read("0-generated", "a.png")
    assert fc("retry", "a", "--seed", "8")[0] == 0
    assert again(instance, done) == runs(*set(STAGES) - {"enhanced_prompt"})
    attempts = json.loads(fc("history", "a", "--json")[1])["data"]["attempts"]
    first, second = (one for one in attempts if one["stage"] == "generated_image")
    assert Path(first["file"]).read_bytes() == old
    assert Path(second["file"]).read_bytes() == store.read("0-generated", "a.png")
    assert first["output"]["sha256"] != second["output"]["sha256"]
    assert (first["settings"]["request"]["seed"], second["settings"]["request"]["seed"]) == (7, 8)
    assert {one["verdict"] for one in attempts} == {"completed"}
    assert all(one["seconds"] >= 0 for one in attempts)
    mask = next(one for one in attempts if one["stage"] == "mask")
    portrait = next(one for one in attempts if one["stage"] == "portrait")
    assert mask["input"]["sha256"]["portrait"] == portrait["output"]["sha256"]
    assert "history/0-generated/a." in fc("history", "a")[1].replace("\n", "").replace(" ", "")


def test_a_retry_that_makes_the_same_again_keeps_nothing_twice(
    instance: dg.DagsterInstance, done: JobQueue, store: ImageStore, fc: Fc
) -> None:
    assert fc("retry", "a", "--from", "generated_image")[0] == 0
    again(instance, done)
    assert not store.path("history", "0-generated").exists()


def test_the_users_own_mask(
    instance: dg.DagsterInstance, done: JobQueue, store: ImageStore, fc: Fc, tmp_path: Path
) -> None:
    automatic = pixels(store, "3-masks", "a.png")
    own = np.where(np.arange(256)[:, None] < 128, automatic, 0).astype(np.uint8)
    Image.fromarray(own).save(tmp_path / "own.png")
    assert fc("retry", "a", "--mask", str(tmp_path / "own.png"))[0] == 0
    (tmp_path / "own.png").unlink()  # it was copied
    assert again(instance, done) == runs("mask", "changed_face", "final_image", "description")
    assert np.array_equal(pixels(store, "3-masks", "a.png"), own)
    before, after = pixels(store, "0-generated", "a.png"), pixels(store, "6-final", "a.png")
    assert np.array_equal(before[128:], after[128:])
    assert fc("retry", "a", "--mask", "auto")[0] == 0
    claim_batch(done, "auto")
    assert materialize(instance, "a", selection=STAGES[4:], batch="auto").success
    assert np.array_equal(pixels(store, "3-masks", "a.png"), automatic)


@pytest.mark.parametrize(
    ("shape", "fill", "said"),
    [
        ((64, 64), 255, "is 64x64, but the generated image is 256x256"),
        ((256, 256, 3), (255, 0, 0), "has colours"),
        ((256, 256), 0, "all black"),
    ],
)
def test_a_mask_that_cannot_be_used_changes_nothing(
    shape: tuple[int, ...], fill: int, said: str, done: JobQueue, fc: Fc, tmp_path: Path
) -> None:
    Image.fromarray(np.full(shape, fill, np.uint8)).save(tmp_path / "own.png")
    before = done.get("a")
    code, _, err = fc("retry", "a", "--mask", str(tmp_path / "own.png"))
    assert (code, said in " ".join(err.split())) == (2, True)
    assert done.get("a") == before


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "without a change it would end so again"),
        (["--set", "steps"], 2, "no FIELD=VALUE"),
        (["--set", "hight=64"], 2, "hight"),
        (["--set", "steps=0"], 2, "steps"),
        (["--set", "job_type=description"], 2, "job_type cannot be changed"),
        (["--set", "pony_prompt="], 2, "pony_prompt"),
        (["--from", "video"], 2, "no stage video"),
        (["--mask", "/nowhere.png"], 2, "--mask"),
    ],
)
def test_a_wrong_change_is_named_and_nothing_is_changed(
    arguments: list[str], code: int, said: str, done: JobQueue, fc: Fc
) -> None:
    before = done.get("a")
    found, _, err = fc("retry", "a", *arguments)
    assert (found, said in err) == (code, True), err
    assert done.get("a") == before


def test_unknown_and_unfinished_jobs_are_not_retried_and_stop_no_other(
    done: JobQueue, store: ImageStore, fc: Fc
) -> None:
    from jobs.model.request import parse_request
    from jobs.requests.accept import submit
    from resources.settings import load_settings

    submit([("waiting", parse_request({"pony_prompt": ONE_PERSON}))], queue=done, store=store,
           settings=load_settings(), origin="cli")  # fmt: skip
    code, _, err = fc("retry", "waiting", "nobody", "a", "--seed", "9")
    assert code == 3
    assert "Job waiting is pending" in err
    assert "no job 'nobody'" in err
    assert done.get("a").status == "pending"


def test_a_failed_job_goes_on_where_it_stopped(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, fc: Fc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FC_GENERATOR", "tests.support.faulty:FaultyGenerator")
    add_jobs(queue, store, {"pony_prompt": f"broken-face {ONE_PERSON}"})
    materialize(instance, "a")
    assert queue.get("a").status == "failed"
    assert fc("retry", "a", "--set", "flux_prompt=green eyes", "--set", f"pony_prompt={ONE_PERSON}")[0] == 0
    job = queue.get("a")
    assert (job.status, job.attempts, job.error) == ("pending", 0, None)
    again(instance, queue)


# ---- cancelling


class CancelsMidway(SketchGenerator):
    """Cancels job `b`, as `fc cancel` in another process would, while the batch is being made."""

    def __init__(self, settings: object) -> None:
        super().__init__()

    def generate(self, tasks: Sequence[ImageTask]) -> Iterator[Outcome]:
        for number, task in enumerate(tasks):
            if number == 1:
                thread = threading.Thread(target=_cancel_b)
                thread.start()
                thread.join()
            yield from super().generate([task])


def _cancel_b() -> None:
    from resources.database import open_database
    from resources.settings import load_settings

    database = open_database(load_settings().resolved_database_url)
    assert [job.status for job in JobQueue(database).cancel(["b"])] == ["running"]
    database.dispose()


@pytest.mark.parametrize("batch", ["one", None])
def test_a_running_job_is_left_and_its_neighbours_go_on(
    batch: str | None, instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("FC_GENERATOR", "tests.jobs.test_retry:CancelsMidway")
    add_jobs(queue, store, *({"pony_prompt": ONE_PERSON} for _ in range(3)))
    if batch:
        claim_batch(queue, batch)
    assert materialize(instance, *"abc", batch=batch).success
    assert {job_id: queue.get(job_id).status for job_id in "abc"} == {
        "a": "completed", "b": "cancelled", "c": "completed",
    }  # fmt: skip
    assert materialized(instance, "generated_image") == {"a", "c"}
    assert not store.path("0-generated", "b.png").exists(), "what was in hand is thrown away"


def test_waiting_jobs_are_cancelled_at_once_and_ended_ones_are_not(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, fc: Fc
) -> None:
    add_jobs(queue, store, {"pony_prompt": ONE_PERSON}, {"pony_prompt": ONE_PERSON})
    queue.claim(1)
    assert fc("cancel", "a", "b")[0] == 0
    assert {queue.get(job_id).status for job_id in "ab"} == {"cancelled"}
    code, _, err = fc("cancel", "a")
    assert (code, "a: is cancelled; there is nothing to cancel" in err) == (1, True)
    assert fc("cancel", "nobody")[0] == 3
    assert fc("retry", "a")[0] == 0
    assert queue.get("a").status == "pending"


def test_a_run_is_stopped_only_when_it_has_no_other_job(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore
) -> None:
    add_jobs(queue, store, {"pony_prompt": ONE_PERSON}, {"pony_prompt": ONE_PERSON})
    claim_batch(queue, "one")
    place = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "__repository__")
    run = dg.DagsterRun(
        job_name="pony_flux",
        run_id="r1",
        status=dg.DagsterRunStatus.QUEUED,
        tags={BATCH_TAG: "one"},
        remote_job_origin=RemoteJobOrigin(place, "pony_flux"),
    )
    instance.add_run(run)
    assert stop_idle_runs(instance, queue, queue.cancel(["a"])) == []
    assert stop_idle_runs(instance, queue, queue.cancel(["b"])) == ["r1"]
    assert instance.get_run_by_id("r1").status == dg.DagsterRunStatus.CANCELED
    assert stop_idle_runs(instance, queue, queue.cancel(["b"])) == []

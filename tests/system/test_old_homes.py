"""A home that an older version made, moved to another folder: it opens, shows what it showed, and goes on.

tests/homes says how it was made, and with which settings. On SQLite and on Postgres.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from sqlalchemy import update

from imaging.files.provenance import read_provenance
from jobs.queue.job_queue import JobQueue
from resources.database import Database, ScheduleRow
from resources.store.image_store import ImageStore
from tests.graph.test_sensor import keys_of, tick
from tests.support.commands import Fc
from tests.support.graph import claim_batch, materialize, pixels
from tests.support.old_homes import (
    BACK_ENDS,
    SETTINGS,
    assert_shows_the_same,
    job_ids,
    packages_of,
    restore_postgres,
    settings_of,
    shown,
)

JOBS = {
    "plain", "plain-photo", "rules", "photo", "scene", "words", "later", "onward", "faceless", "turned-down", "broken",
    "again", "masked", "pair", "pair-1", "pair-2", "ended", "put-away", "strict", "waits", "follows", "in-time",
    "by-hand",
}  # fmt: skip


@pytest.fixture(params=["sqlite", "postgresql"])
def home(request: pytest.FixtureRequest, unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The old home, at another place than where it was made, with the settings and packages that its jobs had."""
    folder = tmp_path / "home"
    if request.param == "sqlite":
        shutil.copytree(unpacked / "sqlite", folder)
    else:
        shutil.copytree(unpacked / "postgres", folder)
        url = request.getfixturevalue("postgres_url")
        restore_postgres(folder / "postgres.sql", url)
        monkeypatch.setenv("FC_DATABASE_URL", url)
    for name, value in ({"DAGSTER_HOME": str(folder)} | BACK_ENDS | SETTINGS["own"]).items():
        monkeypatch.setenv(name, value)
    for module, version in packages_of(folder).items():  # newer ones make newer keys, which is not looked at here
        monkeypatch.setattr(f"{module}.__version__", version)
    return folder


def use(settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Set these, and none of the others that jobs of the home were made with."""
    for name in SETTINGS["own"]:
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


def fc_json(fc: Fc, *arguments: str) -> Any:
    code, said, wrong = fc(*arguments, "--json")
    assert code == 0, wrong
    return json.loads(said)["data"]


def stages_of(home: Path, job_id: str) -> tuple[str, ...]:
    """The stages that the old version went through."""
    return tuple(one["stage"] for one in shown(home, f"show.{job_id}")["stages"])


def work(instance: dg.DagsterInstance, queue: JobQueue, job_id: str) -> None:
    """Run a job that is in the queue from its next stage on, as the sensor would."""
    claim_batch(queue, f"batch-{job_id}")
    assert materialize(instance, job_id, batch=f"batch-{job_id}").success
    assert queue.get(job_id).status == "completed", queue.get(job_id).error


def runs_of(queue: JobQueue, job_id: str) -> Counter[str]:
    """How often each stage has done real work."""
    return Counter({one.stage: one.runs for one in queue.stage_results(job_id)})


def contents(store: ImageStore) -> dict[str, bytes]:
    """Every file of the store but those of `job_request`, by its place."""
    root = Path(store.root)
    files = (path for path in root.glob("*/**/*") if path.is_file() and "requests" not in path.parts)
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def assert_delivered(queue: JobQueue, store: ImageStore, job_id: str) -> None:
    """The picture to deliver is the one that was recorded, and says whose it is."""
    job = queue.get(job_id)
    (image,) = (image for image in queue.images(job_id) if image.path == job.final_image)
    data = store.read(*Path(image.path).parts[-2:])
    assert (hashlib.sha256(data).hexdigest(), len(data)) == (image.sha256, image.bytes)
    assert read_provenance(data)["record"]["job_id"] == job_id


# ---- opening and showing


def test_it_shows_what_it_showed(home: Path, fc: Fc) -> None:
    assert set(job_ids(home)) == JOBS
    everything = ["list", "--all", "-n", "1000"]
    assert_shows_the_same(shown(home, "list"), fc_json(fc, *everything), home, "list")
    assert_shows_the_same(shown(home, "list-open"), fc_json(fc, "list", "-n", "1000"), home, "list")
    reviews = shown(home, "review")["jobs"]
    for one in reviews:  # the reason does not repeat the id any more
        one["reason"] = one["reason"].replace(f" of job {one['job_id']}", "")
    assert_shows_the_same(reviews, fc_json(fc, "review"), home, "review")
    assert_shows_the_same(shown(home, "schedules"), fc_json(fc, "schedule", "list"), home, "schedules")
    for job_id in sorted(JOBS):
        assert_shows_the_same(
            shown(home, f"show.{job_id}"), fc_json(fc, "show", job_id, "--log", "100"), home, f"show {job_id}"
        )
        assert_shows_the_same(
            shown(home, f"history.{job_id}"), fc_json(fc, "history", job_id), home, f"history {job_id}"
        )
    before, now = shown(home, "status"), fc_json(fc, "status")
    for part in ("counts", "running", "waiting", "failures", "workers"):
        assert_shows_the_same(before[part], now[part], home, f"status.{part}")


def test_it_shows_it_to_people(home: Path, fc: Fc) -> None:
    listed = fc("list", "--all", "-n", "1000")
    assert listed[0] == 0
    for job in shown(home, "list"):
        (line,) = (line for line in listed[1].splitlines() if line.split()[:1] == [job["job_id"]])
        assert job["status"] in line
        code, said, wrong = fc("show", job["job_id"])
        assert (code, wrong) == (0, "")
        assert said.splitlines()[0].split() == [job["job_id"], job["job_type"], job["status"]]
        assert fc("history", job["job_id"])[0] == 0
    said = fc("show", "rules")[1]
    for part in ("DPM++ 2M Karras", "[SEP]", "Ünal & Söhne", "large_face_strength", "1st from left: strength=0.3"):
        assert part in said
    assert "No face was found" in fc("review")[1]
    assert "history/0-generated/again." in fc("history", "again")[1].replace("\n", "").replace(" ", "")
    schedules = fc("schedule", "list")[1]
    assert ["nightly" in schedules, "weekly" in schedules, "stopped" in schedules] == [True, True, True]
    assert "portrait of a woman at night" in fc("schedule", "show", "nightly")[1]


def test_doctor_finds_nothing_wrong(home: Path, fc: Fc) -> None:
    code, said, _ = fc("doctor", "--all", "--json")
    checks = json.loads(said)["data"]["checks"]
    assert [one for one in checks if one["level"] == "FAIL"] == []
    assert code == 0
    assert {"records"} == {one["name"] for one in checks if "agree" in one["found"]}


def test_what_was_delivered_is_what_was_recorded(home: Path, queue: JobQueue, store: ImageStore) -> None:
    delivered = [job for job in queue.find(statuses=["completed"]) if job.job_type not in ("group", "description")]
    assert len(delivered) == 12
    for job in delivered:
        assert_delivered(queue, store, job.id)
        assert str(job.final_image).startswith("/tmp/fc-old-home/"), "told as it was"  # noqa: S108


# ---- content keys


def test_nothing_that_was_made_is_made_again(
    home: Path, instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = [job_id for job_id in job_ids(home, status="completed") if job_id != "pair"]
    assert len(done) == 13
    files = contents(store)
    for job_id in done:
        use(settings_of(job_id), monkeypatch)
        before = {one.stage: one for one in queue.stage_results(job_id)}
        attempts = [one for one in queue.attempts(job_id) if one.stage != "job_request"]
        assert materialize(instance, job_id, selection=stages_of(home, job_id)).success
        assert queue.get(job_id).status == "completed"
        now = {one.stage: one for one in queue.stage_results(job_id)}
        assert now.keys() == before.keys()
        for stage in now.keys() - {"job_request"}:
            assert now[stage].content_key == before[stage].content_key, f"{job_id} {stage}"
            assert now[stage].cached, f"{job_id} {stage}"
            assert (now[stage].runs, now[stage].output) == (before[stage].runs, before[stage].output)
        assert [one for one in queue.attempts(job_id) if one.stage != "job_request"] == attempts
    assert contents(store) == files
    assert {job_id: status for job_id, status in queue.settle_waiting().items() if status != "completed"} == {}
    assert queue.get("pair").status == "completed"


def test_another_setting_is_noticed(
    home: Path, instance: dg.DagsterInstance, queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the test before would be worth nothing."""
    monkeypatch.setenv("FC_MASK_GROW", "30")
    before = runs_of(queue, "photo")
    assert materialize(instance, "photo").success
    assert runs_of(queue, "photo") - before == Counter(("mask", "changed_face", "final_image", "description"))


# ---- going on


@pytest.mark.parametrize(
    ("job_id", "anew"),
    [
        ("plain", {"generated_image", "portrait", "mask", "changed_face", "final_image", "description"}),
        ("again", {"generated_image", "portrait", "mask", "changed_face", "final_image", "description"}),
        ("photo", {"changed_face", "final_image", "description"}),
    ],
)
def test_a_completed_job_with_another_seed(
    home: Path, instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, fc: Fc,
    monkeypatch: pytest.MonkeyPatch, job_id: str, anew: set[str],
) -> None:  # fmt: skip
    use(settings_of(job_id), monkeypatch)
    before, old = runs_of(queue, job_id), store.read("6-final", f"{job_id}.png")
    assert fc("retry", job_id, "--seed", "99")[0] == 0
    work(instance, queue, job_id)
    assert set(runs_of(queue, job_id) - before) - {"job_request"} == anew
    assert store.read("6-final", f"{job_id}.png") != old
    assert_delivered(queue, store, job_id)
    attempts = [one for one in fc_json(fc, "history", job_id)["attempts"] if one["stage"] == "final_image"]
    assert Path(attempts[-2]["file"]).read_bytes() == old
    assert Path(attempts[-1]["file"]).read_bytes() == store.read("6-final", f"{job_id}.png")
    assert attempts[-1]["file"].startswith(str(home))


@pytest.mark.parametrize("job_id", ["rules", "masked"])
def test_from_the_mask_on_the_same_is_made_again(
    home: Path, instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, fc: Fc, job_id: str
) -> None:
    before, old = runs_of(queue, job_id), pixels(store, "6-final", f"{job_id}.png").astype(int)
    assert fc("retry", job_id, "--from", "mask")[0] == 0
    work(instance, queue, job_id)
    anew = set(runs_of(queue, job_id) - before)
    assert anew == {"mask", "changed_face", "final_image", "description"}
    assert np.abs(pixels(store, "6-final", f"{job_id}.png") - old).mean() < 1, "but for what other packages round"
    assert_delivered(queue, store, job_id)


def test_the_one_without_a_face_is_approved(
    home: Path, instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, fc: Fc
) -> None:
    assert fc("approve", "faceless")[0] == 0
    work(instance, queue, "faceless")
    assert np.array_equal(pixels(store, "6-final", "faceless.png"), pixels(store, "0-generated", "faceless.png"))
    assert_delivered(queue, store, "faceless")


def test_the_failed_one_goes_on_when_its_photo_is_back(
    home: Path, unpacked: Path, instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, fc: Fc
) -> None:
    source = queue.get("broken").source or {}
    store.write(*source["stored"].split("/"), data=(unpacked / "photos" / "lost.png").read_bytes())
    assert fc("retry", "broken")[0] == 0
    work(instance, queue, "broken")
    assert store.exists("descriptions", "broken.txt")


def test_those_that_were_ended(home: Path, instance: dg.DagsterInstance, queue: JobQueue, fc: Fc) -> None:
    assert fc("retry", "turned-down")[0] == 2, "it would end so again"
    assert fc("retry", "put-away")[0] == 1, "archived for good"
    assert fc("retry", "ended")[0] == 0
    work(instance, queue, "ended")


def test_what_waited_goes_on(
    home: Path, instance: dg.DagsterInstance, database: Database, queue: JobQueue, store: ImageStore
) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    with database.session() as session:
        session.execute(update(ScheduleRow).values(next_at=yesterday))
    made = f"nightly-{yesterday:%Y%m%d%H%M%S}"
    ended = set(job_ids(home)) - {"waits", "follows"}
    ran = list[str]()
    while requests := tick(instance):
        for request in requests:
            keys = keys_of(request, instance)
            selection = [key.path[-1] for key in request.asset_selection or ()]
            assert materialize(instance, *keys, selection=selection, batch=request.run_key).success
            ran += keys
    assert sorted(ran) == sorted([made, "waits", "follows"])
    for job_id in ran:
        assert queue.get(job_id).status == "completed"
        assert_delivered(queue, store, job_id)
    assert (queue.get(made).origin, queue.get(made).request.tags) == ("schedule", {"a": "b"})
    assert {job.id: job.status for job in queue.find() if job.id in ended} == {
        job["job_id"]: job["status"] for job in shown(home, "list") if job["job_id"] in ended
    }


def test_the_held_one_is_run_by_hand(
    home: Path, instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore
) -> None:
    assert materialize(instance, "by-hand").success
    assert queue.get("by-hand").status == "completed"
    assert_delivered(queue, store, "by-hand")

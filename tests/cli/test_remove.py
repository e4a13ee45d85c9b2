"""`fc remove --yes` leaves nothing of a job: not its photo, not what Dagster keeps. On SQLite and on Postgres."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from PIL import Image
from sqlalchemy import text, update

from jobs.model.stages import PARTITIONS, STAGES
from jobs.queue.job_queue import JobQueue
from jobs.runs.repair import Stores, find_disagreements
from resources.database import Database, JobRow, utc_now
from resources.settings import load_settings
from resources.store.image_store import ImageStore
from tests.support.commands import Fc
from tests.support.graph import add_jobs, materialize, materialized

SECRET = "zyzzyva"
SCENE = {"pony_prompt": "portrait of a woman", "job_type": "sdxl_generation"}
SECRET_SCENE = SCENE | {"pony_prompt": f"portrait of a woman, {SECRET}"}


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    from skimage import data

    path = tmp_path / "photo.png"
    Image.fromarray(data.astronaut()[:256, 100:356]).save(path)
    return path


def kept(instance: dg.DagsterInstance, home: Path, words: str) -> list[str]:
    """Where Dagster's storage, and any file of the home, still has these words."""
    found = [str(file.relative_to(home)) for file in home.rglob("*") if file.is_file() and words in _text(file)]
    with instance.event_log_storage.index_connection() as connection:
        for table, column in (("event_logs", "event"), ("asset_keys", "last_materialization")):
            query = text(f"SELECT count(*) FROM {table} WHERE {column} LIKE :words")  # noqa: S608 - names of ours
            found += [table] * (connection.execute(query, {"words": f"%{words}%"}).scalar_one() > 0)
    return found


def _text(file: Path) -> str:
    return file.read_bytes().decode("latin-1")


def test_what_only_it_had_goes_and_the_same_id_shows_nothing_old(
    storage: dg.DagsterInstance, queue: JobQueue, store: ImageStore, home: Path, fc: Fc
) -> None:
    add_jobs(queue, store, SECRET_SCENE, SCENE, hold=True)
    batch = materialize(storage, "a", "b").run_id
    alone = materialize(storage, "a", config={"seed": 8}).run_id
    assert kept(storage, home, SECRET)
    neighbour = [one.asset_materialization for one in storage.all_logs(batch) if _partition(one) == "b"]

    code, out, _ = fc("remove", "a", "--yes")
    assert (code, "a: removed." in out) == (0, True)
    assert kept(storage, home, SECRET) == []
    assert storage.get_run_by_id(alone) is None
    assert list(storage.all_logs(alone)) == []
    assert storage.get_run_by_id(batch) is not None, "it had another job, too"
    assert [one.asset_materialization for one in storage.all_logs(batch) if _partition(one) == "b"] == neighbour
    assert {_partition(one) for one in storage.all_logs(batch)} <= {None, "b"}
    for stage in SCENE_STAGES:
        assert materialized(storage, stage) == {"b"}
        newest = storage.get_latest_materialization_event(dg.AssetKey(stage))
        assert newest is not None
        assert newest.dagster_event.partition == "b"
    assert queue.logs("a", 10) == []

    add_jobs(queue, store, SCENE, hold=True)  # the id again
    storage.add_dynamic_partitions(PARTITIONS, ["a"])
    assert materialized(storage, "generated_image") == {"b"}
    assert "removed" not in fc("show", "a")[1]
    assert materialize(storage, "a").success
    assert materialized(storage, "generated_image") == {"a", "b"}


SCENE_STAGES = STAGES[:3]


def _partition(entry: dg.EventLogEntry) -> str | None:
    return entry.dagster_event.partition if entry.dagster_event else None


def test_a_run_that_failed_for_both_keeps_only_what_it_told_of_the_other(
    storage: dg.DagsterInstance, queue: JobQueue, store: ImageStore, home: Path, fc: Fc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FC_WRITER", "tests.support.faulty:FaultyWriter")
    add_jobs(queue, store, SECRET_SCENE | {"pony_prompt": f"broken-words {SECRET}"}, SCENE, hold=True)
    run = materialize(storage, "a", "b")
    assert (run.success, queue.get("a").status, queue.get("b").status) == (False, "failed", "held")
    assert kept(storage, home, "hit broken words")
    assert fc("remove", "a", "--yes")[0] == 0
    assert kept(storage, home, SECRET) == kept(storage, home, "hit broken words") == []
    left = storage.all_logs(run.run_id)
    assert "STEP_FAILURE" in {one.dagster_event.event_type_value for one in left if one.dagster_event}
    assert "(removed with a)" in str(left), "it says that something was here"
    assert {_partition(one) for one in left} == {None, "b"}
    assert storage.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE


def test_its_photo_goes_with_the_last_job_that_has_it(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, photo: Path, tmp_path: Path, fc: Fc
) -> None:
    mask = tmp_path / "mask.png"
    Image.fromarray(np.full((256, 256), 255, np.uint8)).save(mask)
    other = tmp_path / "other.png"
    Image.new("RGB", (64, 64), (9, 8, 7)).save(other)
    described = {"job_type": "description", "source_image": str(photo)}
    add_jobs(queue, store, described | {"reference_face": str(other), "mask": str(mask)}, described, hold=True)
    assert materialize(instance, "a", "b").success
    sources = Path(str(store.path("sources")))
    assert len(list(sources.iterdir())) == 3
    code, out, _ = fc("remove", "a", "--yes")
    assert code == 0
    assert "stays: b has it too." in out
    (left,) = sources.iterdir()
    assert left.name in str(queue.get("b").source)
    assert left.read_bytes() == photo.read_bytes()
    assert str(left) in fc("remove", "b")[1].replace("\n", "")
    assert left.exists(), "without --yes it is only told"
    assert fc("remove", "b", "--yes")[0] == 0
    assert list(sources.iterdir()) == []


def test_the_photo_from_before_a_retry_goes_too(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, photo: Path, tmp_path: Path, fc: Fc
) -> None:
    other = tmp_path / "other.png"
    Image.new("RGB", (64, 64), (9, 8, 7)).save(other)
    add_jobs(queue, store, {"job_type": "description", "source_image": str(photo)}, hold=True)
    assert materialize(instance, "a").success
    assert fc("retry", "a", "--set", f"source_image={other}")[0] == 0
    assert materialize(instance, "a").success
    assert len(list(Path(str(store.path("sources"))).iterdir())) == 2
    assert fc("remove", "a", "--yes")[0] == 0
    assert list(Path(str(store.path("sources"))).iterdir()) == []


def _breaks(*_: object, **__: object) -> None:
    raise OSError("power cut")


@pytest.mark.parametrize(
    "at", ["jobs.runs.retention.forget_partition", "resources.dagster_events._delete_run", "jobs.queue.removal.log"]
)
def test_a_removal_that_is_cut_anywhere_is_named_and_ended(
    instance: dg.DagsterInstance,
    queue: JobQueue,
    store: ImageStore,
    database: Database,
    photo: Path,
    home: Path,
    fc: Fc,
    monkeypatch: pytest.MonkeyPatch,
    at: str,
) -> None:
    add_jobs(queue, store, {"job_type": "description", "source_image": str(photo), "tags": {"x": SECRET}}, hold=True)
    assert materialize(instance, "a").success
    with monkeypatch.context() as broken:
        broken.setattr(at, _breaks)
        with pytest.raises(OSError, match="power cut"):
            fc("remove", "a", "--yes")
    job = queue.get("a")
    assert (job.status, job.removing_at is not None) == ("archived", True), "nothing starts it again"
    assert "Its removal was cut" in fc("show", "a")[1]
    stores = Stores(instance, queue, store, load_settings())
    assert [one.name for one in find_disagreements(stores, fix=False)] == [], "it may be going on"
    with database.session() as session:
        session.execute(update(JobRow).values(removing_at=utc_now() - timedelta(hours=1)))
    (found,) = find_disagreements(stores, fix=True)
    assert (found.name, found.ids) == ("cut removals", ("a",))
    assert queue.find() == []
    assert list(Path(str(store.path("sources"))).iterdir()) == []
    assert kept(instance, home, SECRET) == []


def test_removing_a_job_of_a_range_that_is_gone_takes_the_run(
    instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore, home: Path, fc: Fc
) -> None:
    add_jobs(queue, store, SECRET_SCENE, SECRET_SCENE, hold=True)
    run_id = materialize(instance, "a", "b").run_id
    assert fc("remove", "a", "b", "--yes")[0] == 0
    assert instance.get_run_by_id(run_id) is None
    assert kept(instance, home, SECRET) == []
    assert json.loads(fc("list", "--all", "--json")[1])["data"] == []

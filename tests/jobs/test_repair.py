"""What a crash may leave behind is found, told, fixed once, and nothing else is touched."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test
from sqlalchemy import update

from jobs.model.stages import PARTITIONS
from jobs.queue.job_queue import JobQueue
from jobs.runs import repair
from jobs.runs.lifecycle import BATCH_TAG
from resources.database import AttemptRow, Database, ImageMetadataRow, JobRow, ResultRow, open_database, utc_now
from resources.settings import load_settings
from resources.store.image_store import ImageStore
from tests.support.graph import add_jobs, claim_batch, materialize, materialized, run_of

WORDS = {"pony_prompt": "portrait of a woman", "job_type": "sdxl_generation"}


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """The face-changer database of `home`, on each of the two."""
    if request.param == "postgresql":
        monkeypatch.setenv("FC_DATABASE_URL", request.getfixturevalue("postgres_url"))
    opened = open_database(load_settings().resolved_database_url)
    yield opened
    opened.dispose()


@pytest.fixture
def sides(instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore) -> repair.Sides:
    """One completed job, `a`, and one that waits, `b`."""
    add_jobs(queue, store, WORDS, WORDS)
    assert materialize(instance, "a", selection=("job_request", "enhanced_prompt", "generated_image")).success
    assert queue.get("a").status == "completed"
    return repair.Sides(instance, queue, store, load_settings())


Break = Callable[[repair.Sides, Database], None]


def picture(sides: repair.Sides) -> Path:
    return Path(str(sides.store.path("0-generated", "a.png")))


def remove_picture(sides: repair.Sides, database: Database) -> None:
    picture(sides).unlink()


def change_picture(sides: repair.Sides, database: Database) -> None:
    picture(sides).write_bytes(b"retouched by a person")


def record_a_picture_that_is_not_there(sides: repair.Sides, database: Database) -> None:
    (image,) = sides.queue.images("a")
    with database.session() as session:
        columns = {name: getattr(image, name) for name in type(image).__slots__}
        path = str(sides.store.path("3-masks", "a.png"))
        session.add(ImageMetadataRow(job_id="a", **columns | {"path": path, "stage": "mask"}))


def leave_a_temporary_file(sides: repair.Sides, database: Database) -> None:
    path = picture(sides).with_name(".a.png.0123456789abcdef.tmp")
    path.write_bytes(b"half")
    os.utime(path, (0, 0))


def cut_a_stage(sides: repair.Sides, database: Database) -> None:
    with database.session() as session:
        session.execute(update(ResultRow).where(ResultRow.stage == "generated_image").values(status="running"))
        session.execute(update(AttemptRow).where(AttemptRow.stage == "generated_image").values(verdict="running"))


def lose_a_partition(sides: repair.Sides, database: Database) -> None:
    claim_batch(sides.queue, "batch")
    create_run_for_test(sides.instance, tags={BATCH_TAG: "batch"})


def lose_dagsters_events(sides: repair.Sides, database: Database) -> None:
    sides.instance.wipe_assets([dg.AssetKey("generated_image")])


def lose_a_run(sides: repair.Sides, database: Database) -> None:
    run = create_run_for_test(sides.instance, status=dg.DagsterRunStatus.FAILURE)
    sides.instance.add_dynamic_partitions(PARTITIONS, ["b"])
    sides.queue.start("b", run_id=run.run_id, batch_id=None)


def forget_a_claim(sides: repair.Sides, database: Database) -> None:
    claim_batch(sides.queue, "batch")
    sides.instance.add_dynamic_partitions(PARTITIONS, ["b"])
    with database.session() as session:
        session.execute(update(JobRow).values(claimed_at=utc_now() - timedelta(hours=1)))


def kill_a_run(sides: repair.Sides, database: Database) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    run_of(sides.instance, process.pid)


@pytest.mark.parametrize(
    ("break_it", "name"),
    [
        (remove_picture, "missing pictures"),
        (change_picture, "missing pictures"),
        (record_a_picture_that_is_not_there, "records without file"),
        (leave_a_temporary_file, "leftovers"),
        (cut_a_stage, "cut stages"),
        (lose_a_partition, "missing partitions"),
        (lose_dagsters_events, "unshown stages"),
        (lose_a_run, "lost jobs"),
        (forget_a_claim, "forgotten claims"),
        (kill_a_run, "dead runs"),
    ],
)
def test_found_told_and_fixed_once(sides: repair.Sides, database: Database, break_it: Break, name: str) -> None:
    assert list(repair.look(sides, fix=True)) == []
    break_it(sides, database)
    told = list(repair.look(sides, fix=False))
    assert [one.name for one in told] == [name]
    assert told[0].ids
    assert not told[0].fixed
    assert list(repair.look(sides, fix=False)) == told, "looking changes nothing"
    fixed = list(repair.look(sides, fix=True))
    assert [(one.name, one.ids, one.fixed) for one in fixed] == [(name, told[0].ids, True)]
    assert list(repair.look(sides, fix=True)) == []


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("break_it", [remove_picture, change_picture])
def test_a_picture_is_made_again_and_none_is_lost(sides: repair.Sides, database: Database, break_it: Break) -> None:
    before = picture(sides).read_bytes()
    break_it(sides, database)
    list(repair.look(sides, fix=True))
    assert sides.queue.get("a").next_stage == "generated_image"
    claim_batch(sides.queue, "again")
    assert materialize(sides.instance, "a", selection=("generated_image",), batch="again").success
    assert sides.queue.get("a").status == "completed"
    assert picture(sides).read_bytes() == before
    kept = [path.read_bytes() for path in (Path(sides.store.root) / "history").rglob("*.png")]
    assert kept == ([b"retouched by a person"] if break_it is change_picture else [])


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_picture_is_made_again_from_the_words_it_was_made_from(sides: repair.Sides, database: Database) -> None:
    """A store that was copied later than its database may hold the files of a later retry."""
    before, words = picture(sides).read_bytes(), sides.store.read("prompts", "a.json")
    sides.store.replace("prompts", "a.json", data=words.replace(b"portrait of a woman", b"portrait of a man in red"))
    change_picture(sides, database)
    list(repair.look(sides, fix=True))
    assert sides.queue.get("a").next_stage == "enhanced_prompt"
    claim_batch(sides.queue, "again")
    assert materialize(sides.instance, "a", selection=("enhanced_prompt", "generated_image"), batch="again").success
    assert sides.store.read("prompts", "a.json") == words
    assert picture(sides).read_bytes() == before


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_store_that_is_not_mounted_is_told_and_nothing_is_made_again(
    sides: repair.Sides, database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(repair, "_FEW", 0)
    elsewhere = replace(sides, store=ImageStore(str(tmp_path / "elsewhere")))
    (told,) = repair.look(elsewhere, fix=True)
    assert (told.name, told.fixed) == ("missing pictures", False)
    assert "FC_DATA_DIR" in told.hint
    assert sides.queue.get("a").status == "completed"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_files_of_old_jobs_are_looked_at_when_all_are_asked_for(sides: repair.Sides, database: Database) -> None:
    with database.session() as session:
        session.execute(update(JobRow).values(updated_at=utc_now() - 2 * repair.RECENT))
    remove_picture(sides, database)
    assert list(repair.look(sides, fix=False)) == []
    (told,) = repair.look(replace(sides, all_jobs=True), fix=False)
    assert told.name == "missing pictures"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_run_that_lives_or_cannot_be_looked_at_is_left_alone(sides: repair.Sides, database: Database) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    run_of(sides.instance, os.getpid())
    run_of(sides.instance, process.pid, port="4000")  # a code server at an address may be on another machine
    create_run_for_test(sides.instance, status=dg.DagsterRunStatus.STARTED)
    assert list(repair.look(sides, fix=False)) == []


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_was_shown_again_is_the_same_version(sides: repair.Sides, database: Database) -> None:
    lose_dagsters_events(sides, database)
    list(repair.look(sides, fix=True))
    assert materialized(sides.instance, "generated_image") == {"a"}
    event = sides.instance.get_latest_materialization_event(dg.AssetKey("generated_image"))
    (image,) = sides.queue.images("a")
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.tags["dagster/data_version"] == image.sha256[:16]

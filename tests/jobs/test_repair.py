"""What a crash may leave behind is found, told, fixed once, and nothing else is touched."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
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
def stores(instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore) -> repair.Stores:
    """One completed job, `a`, and one that waits, `b`."""
    add_jobs(queue, store, WORDS, WORDS)
    assert materialize(instance, "a", selection=("job_request", "enhanced_prompt", "generated_image")).success
    assert queue.get("a").status == "completed"
    return repair.Stores(instance, queue, store, load_settings())


Break = Callable[[repair.Stores, Database], None]


def picture(stores: repair.Stores) -> Path:
    return Path(str(stores.store.path("0-generated", "a.png")))


def remove_picture(stores: repair.Stores, database: Database) -> None:
    picture(stores).unlink()


def change_picture(stores: repair.Stores, database: Database) -> None:
    picture(stores).write_bytes(b"retouched by a person")


def record_a_picture_that_is_not_there(stores: repair.Stores, database: Database) -> None:
    (image,) = stores.queue.images("a")
    with database.session() as session:
        columns = {name: getattr(image, name) for name in type(image).__slots__}
        path = str(stores.store.path("3-masks", "a.png"))
        session.add(ImageMetadataRow(job_id="a", **columns | {"path": path, "stage": "mask"}))


def leave_a_temporary_file(stores: repair.Stores, database: Database) -> None:
    path = picture(stores).with_name(".a.png.0123456789abcdef.tmp")
    path.write_bytes(b"half")
    os.utime(path, (0, 0))


def cut_a_stage(stores: repair.Stores, database: Database) -> None:
    with database.session() as session:
        session.execute(update(ResultRow).where(ResultRow.stage == "generated_image").values(status="running"))
        session.execute(update(AttemptRow).where(AttemptRow.stage == "generated_image").values(verdict="running"))


def lose_a_partition(stores: repair.Stores, database: Database) -> None:
    claim_batch(stores.queue, "batch")
    create_run_for_test(stores.instance, tags={BATCH_TAG: "batch"})


def lose_dagsters_events(stores: repair.Stores, database: Database) -> None:
    stores.instance.wipe_assets([dg.AssetKey("generated_image")])


def lose_a_run(stores: repair.Stores, database: Database) -> None:
    run = create_run_for_test(stores.instance, status=dg.DagsterRunStatus.FAILURE)
    stores.instance.add_dynamic_partitions(PARTITIONS, ["b"])
    stores.queue.start("b", run_id=run.run_id, batch_id=None)


def forget_a_claim(stores: repair.Stores, database: Database) -> None:
    claim_batch(stores.queue, "batch")
    stores.instance.add_dynamic_partitions(PARTITIONS, ["b"])
    with database.session() as session:
        session.execute(update(JobRow).values(claimed_at=utc_now() - timedelta(hours=1)))


def kill_a_run(stores: repair.Stores, database: Database) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    run_of(stores.instance, process.pid)


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
def test_found_told_and_fixed_once(stores: repair.Stores, database: Database, break_it: Break, name: str) -> None:
    assert list(repair.find_disagreements(stores, fix=True)) == []
    break_it(stores, database)
    told = list(repair.find_disagreements(stores, fix=False))
    assert [one.name for one in told] == [name]
    assert told[0].ids
    assert not told[0].fixed
    assert list(repair.find_disagreements(stores, fix=False)) == told, "looking changes nothing"
    fixed = list(repair.find_disagreements(stores, fix=True))
    assert [(one.name, one.ids, one.fixed) for one in fixed] == [(name, told[0].ids, True)]
    assert list(repair.find_disagreements(stores, fix=True)) == []


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("break_it", [remove_picture, change_picture])
def test_a_picture_is_made_again_and_none_is_lost(stores: repair.Stores, database: Database, break_it: Break) -> None:
    before = picture(stores).read_bytes()
    break_it(stores, database)
    list(repair.find_disagreements(stores, fix=True))
    assert stores.queue.get("a").next_stage == "generated_image"
    claim_batch(stores.queue, "again")
    assert materialize(stores.instance, "a", selection=("generated_image",), batch="again").success
    assert stores.queue.get("a").status == "completed"
    assert picture(stores).read_bytes() == before
    kept = [path.read_bytes() for path in (Path(stores.store.root) / "history").rglob("*.png")]
    assert kept == ([b"retouched by a person"] if break_it is change_picture else [])


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_picture_is_made_again_from_the_words_it_was_made_from(stores: repair.Stores, database: Database) -> None:
    """A store that was copied later than its database may hold the files of a later retry."""
    before, words = picture(stores).read_bytes(), stores.store.read("prompts", "a.json")
    stores.store.replace("prompts", "a.json", data=words.replace(b"portrait of a woman", b"portrait of a man in red"))
    change_picture(stores, database)
    list(repair.find_disagreements(stores, fix=True))
    assert stores.queue.get("a").next_stage == "enhanced_prompt"
    claim_batch(stores.queue, "again")
    assert materialize(stores.instance, "a", selection=("enhanced_prompt", "generated_image"), batch="again").success
    assert stores.store.read("prompts", "a.json") == words
    assert picture(stores).read_bytes() == before


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_store_that_is_not_mounted_is_told_and_nothing_is_made_again(
    stores: repair.Stores, database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(repair, "_FEW", 0)
    elsewhere = replace(stores, store=ImageStore(str(tmp_path / "elsewhere")))
    (told,) = repair.find_disagreements(elsewhere, fix=True)
    assert (told.name, told.fixed) == ("missing pictures", False)
    assert "FC_DATA_DIR" in told.hint
    assert stores.queue.get("a").status == "completed"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_files_of_old_jobs_are_looked_at_when_all_are_asked_for(stores: repair.Stores, database: Database) -> None:
    with database.session() as session:
        session.execute(update(JobRow).values(updated_at=utc_now() - 2 * repair.RECENT))
    remove_picture(stores, database)
    assert list(repair.find_disagreements(stores, fix=False)) == []
    (told,) = repair.find_disagreements(replace(stores, all_jobs=True), fix=False)
    assert told.name == "missing pictures"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_run_that_lives_or_cannot_be_looked_at_is_left_alone(stores: repair.Stores, database: Database) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    run_of(stores.instance, os.getpid())
    run_of(stores.instance, process.pid, port="4000")  # a code server at an address may be on another machine
    create_run_for_test(stores.instance, status=dg.DagsterRunStatus.STARTED)
    assert list(repair.find_disagreements(stores, fix=False)) == []


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_was_shown_again_is_the_same_version(stores: repair.Stores, database: Database) -> None:
    lose_dagsters_events(stores, database)
    list(repair.find_disagreements(stores, fix=True))
    assert materialized(stores.instance, "generated_image") == {"a"}
    event = stores.instance.get_latest_materialization_event(dg.AssetKey("generated_image"))
    (image,) = stores.queue.images("a")
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.tags["dagster/data_version"] == image.sha256[:16]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_stage_that_ends_between_two_looks_is_no_finding(
    stores: repair.Stores, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = stores.instance.get_materialized_partitions
    begun: list[str] = []

    def then_a_job_ends(key: dg.AssetKey) -> set[str]:
        found = original(key)
        if not begun:
            begun.append("b")
            assert materialize(
                stores.instance, "b", selection=("job_request", "enhanced_prompt", "generated_image")
            ).success
        return found

    stores.instance.add_dynamic_partitions(PARTITIONS, ["b"])
    monkeypatch.setattr(stores.instance, "get_materialized_partitions", then_a_job_ends)
    assert list(repair.find_disagreements(stores, fix=False)) == []
    assert stores.queue.get("b").status == "completed"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_job_that_is_claimed_between_two_looks_is_no_finding(
    stores: repair.Stores, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = stores.instance.get_dynamic_partitions

    def then_a_job_is_claimed(name: str) -> list[str]:
        found = list(original(name))
        if stores.queue.get("b").status == "pending":
            claim_batch(stores.queue, "batch")
            create_run_for_test(stores.instance, tags={BATCH_TAG: "batch"})
            stores.instance.add_dynamic_partitions(PARTITIONS, ["b"])
        return found

    monkeypatch.setattr(stores.instance, "get_dynamic_partitions", then_a_job_is_claimed)
    assert list(repair.find_disagreements(stores, fix=False)) == []
    assert stores.queue.get("b").status == "claimed"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_is_found_only_once_is_no_finding(
    stores: repair.Stores, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture that is being replaced is another one for a moment."""
    original, asked = stores.store.sha256_of, list[str]()

    def changing(*parts: str) -> str:
        asked.append(parts[-1])
        return "0" * 64 if len(asked) == 1 else original(*parts)

    monkeypatch.setattr(stores.store, "sha256_of", changing)
    assert list(repair.find_disagreements(stores, fix=True)) == []
    assert stores.queue.get("a").status == "completed"
    assert asked == ["a.png", "a.png"]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_is_shown_again_has_its_picture_and_its_numbers(stores: repair.Stores, database: Database) -> None:
    def shown() -> Mapping[str, dg.MetadataValue]:
        event = stores.instance.get_latest_materialization_event(dg.AssetKey("generated_image"))
        assert event is not None
        assert event.asset_materialization is not None
        return event.asset_materialization.metadata

    before = shown()
    lose_dagsters_events(stores, database)
    list(repair.find_disagreements(stores, fix=True))
    assert shown() == before
    assert isinstance(before["preview"], dg.MarkdownMetadataValue)

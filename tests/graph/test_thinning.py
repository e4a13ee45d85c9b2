"""Of jobs that are completed the final pictures are enough: the others share bytes, can go, and come again."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import pytest

from jobs.queue.job_queue import JobQueue
from jobs.requests.retry import retry
from jobs.runs.repair import Stores, find_disagreements
from jobs.runs.thinning import Thinned, thin
from resources.settings import load_settings
from resources.store.image_store import ImageStore
from tests.support.commands import Fc
from tests.support.graph import add_jobs, claim_batch, materialize

ONE_PERSON = {"pony_prompt": "portrait of a woman"}


def pictures(store: ImageStore) -> set[str]:
    return {str(path.relative_to(store.root)) for path in Path(store.root).rglob("*.png")}


@pytest.fixture
def made(instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore) -> Stores:
    """A completed portrait, `a`, and one that is made of words alone, `b`."""
    add_jobs(queue, store, ONE_PERSON, {**ONE_PERSON, "job_type": "sdxl_generation"})
    assert materialize(instance, "a").success
    assert materialize(instance, "b", selection=("job_request", "enhanced_prompt", "generated_image")).success
    assert {queue.get(job_id).status for job_id in "ab"} == {"completed"}
    return Stores(instance, queue, store, load_settings())


def test_equal_pictures_of_a_job_are_one_file(made: Stores) -> None:
    def place(folder: str, name: str) -> Path:
        return Path(str(made.store.path(folder, name)))

    assert place("4-results", "a.png").samefile(place("6-final", "a.png"))
    portraits = [name for name in made.store.names("2-verified") if name.startswith("a.")]
    assert portraits
    for name in portraits:
        assert place("2-verified", name).samefile(place("1-portraits", name))
    assert {image.path for image in made.queue.images("a")} >= {str(place("4-results", "a.png"))}
    assert list(find_disagreements(made, fix=False)) == []


def test_only_the_pictures_to_deliver_stay_and_the_others_come_again(made: Stores) -> None:
    queue, store = made.queue, made.store
    before = {name: Path(store.root, name).read_bytes() for name in pictures(store)}
    would = thin(queue, store, days=0, dry_run=True)
    assert would.jobs == 1
    assert would.files >= len(before) - 2
    assert would.bytes > 0
    assert pictures(store) == set(before), "a dry run removes nothing"
    assert thin(queue, store, days=1) == Thinned(), "they ended today"
    assert thin(queue, store, days=0) == would
    assert pictures(store) == {"6-final/a.png", "0-generated/b.png"}
    assert thin(queue, store, days=0) == Thinned()
    assert list(find_disagreements(made, fix=False)) == []
    assert [image.stage for image in queue.images("a")] == ["final_image"]

    retry("a", queue=queue, store=store, settings=made.settings, from_stage="description")
    assert queue.get("a").next_stage == "generated_image", "the first whose file is gone"
    claim_batch(queue, "again")
    stages = ("generated_image", "portrait", "mask", "changed_face", "final_image", "description")
    assert materialize(made.instance, "a", selection=stages, batch="again").success
    assert queue.get("a").status == "completed"
    assert {name: Path(store.root, name).read_bytes() for name in pictures(store)} == before


def test_jobs_that_are_not_completed_keep_all(instance: dg.DagsterInstance, queue: JobQueue, store: ImageStore) -> None:
    add_jobs(queue, store, ONE_PERSON)
    assert materialize(instance, "a", selection=("job_request", "enhanced_prompt", "generated_image")).success
    before = pictures(store)
    assert before
    assert thin(queue, store, days=0) == Thinned()
    assert pictures(store) == before


def test_the_command_says_what_it_did(made: Stores, fc: Fc) -> None:
    found = json.loads(fc("prune", "--days", "0", "--thin", "--dry-run", "--json")[1])["data"]["thinned"]
    assert found["jobs"] == 1
    assert f"{found['files']} files" in fc("prune", "--days", "0", "--thin")[1]
    assert pictures(made.store) == {"6-final/a.png", "0-generated/b.png"}
    assert json.loads(fc("doctor", "--json")[1])["data"]["ok"]

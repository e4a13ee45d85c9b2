"""A disk that is full or read-only: a clear error, nothing half-written, and the same again works once it is fixed.

On real small file systems, where this user may mount them; the limits of `test_store.py` and the SQLite limit
below hold everywhere.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import event

from imaging.errors import BackendError, SettingsError
from jobs.model.job import NewJob
from jobs.model.request import parse_request
from jobs.model.stages import STAGES
from jobs.queue.job_queue import JobQueue
from jobs.requests.inbox import take_inbox
from resources.database import Database, open_database
from resources.settings import load_settings
from resources.store.image_store import ImageStore
from tests.support.graph import add_jobs, claim_batch, materialize
from tests.support.postgres import run_sql

FINAL = "6-final"
ONE_PERSON = "portrait of a smiling woman with red hair, forest"


@dataclass(frozen=True)
class Disk:
    """A mounted file system of 2 MB."""

    path: Path

    def fill(self, *, but: int = 0) -> None:
        """Leave only so many bytes free."""
        free = os.statvfs(self.path)
        with (self.path / "ballast").open("wb") as file:
            file.write(b"x" * (free.f_bavail * free.f_frsize - but))

    def free(self) -> None:
        (self.path / "ballast").unlink()

    def remount(self, mode: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{mode}", self.path], check=True, capture_output=True)

    def files(self) -> list[str]:
        return sorted(path.name for path in self.path.rglob("*") if path.is_file() and path.name != "ballast")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", path], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this user may not mount a file system: {error}")
    yield Disk(path)
    subprocess.run(["umount", "--lazy", path], check=True)


def new(job_id: str) -> NewJob:
    return NewJob(job_id, parse_request({"pony_prompt": "a knight", "seed": 1}), None, "cli")


# ---- the store


def test_a_full_store(disk: Disk) -> None:
    store = ImageStore(str(disk.path / "data"))
    store.write(FINAL, "a.png", data=b"old")
    disk.fill(but=8192)
    for name in ("a.png", "b.png"):
        with pytest.raises(
            BackendError, match=rf"6-final/{name} cannot be written: No space left.*space left"
        ) as caught:
            store.write(FINAL, name, data=b"x" * 100_000)
        assert str(disk.path) in caught.value.what
    assert disk.files() == ["a.png"]
    assert store.read(FINAL, "a.png") == b"old"
    disk.free()
    store.write(FINAL, "a.png", data=b"x" * 100_000)
    assert len(store.read(FINAL, "a.png")) == 100_000


def test_a_read_only_store(disk: Disk) -> None:
    store = ImageStore(str(disk.path / "data"))
    store.write(FINAL, "a.png", data=b"old")
    disk.remount("ro")
    for folder in (FINAL, "5-resized"):
        with pytest.raises(BackendError, match=r"cannot be written: Read-only file system.*FC_DATA_DIR"):
            store.write(folder, "a.png", data=b"new")
    assert store.read(FINAL, "a.png") == b"old"
    disk.remount("rw")
    store.write(FINAL, "a.png", data=b"new")
    assert disk.files() == ["a.png"]


# ---- the queue


@pytest.fixture
def small_database(disk: Disk) -> Iterator[Database]:
    database = open_database(f"sqlite:///{disk.path / 'queue.sqlite'}")
    yield database
    database.dispose()


def refuses_and_recovers(queue: JobQueue, place: str, spoil: Callable[[], None], repair: Callable[[], None]) -> None:
    """Each change is refused as a whole while the disk is spoiled, and done when it is fixed."""
    queue.add([new("a")])
    spoil()
    many = [new(f"b{number}") for number in range(400)]
    for change in (lambda: queue.add(many), lambda: queue.add(many)):
        with pytest.raises(
            SettingsError, match=r"cannot be written: .*Nothing was changed\. Free some space"
        ) as caught:
            change()
        assert place in caught.value.what
    repair()
    assert [job.id for job in queue.find()] == ["a"]
    queue.add(many)
    assert len(queue.claim(1000)) == 401


def test_a_full_disk_under_the_queue(disk: Disk, small_database: Database) -> None:
    queue = JobQueue(small_database)
    refuses_and_recovers(queue, f"{disk.path}/queue.sqlite", disk.fill, disk.free)


def test_a_read_only_disk_under_the_queue(disk: Disk, small_database: Database) -> None:
    queue = JobQueue(small_database)
    queue.add([new("a")])
    small_database.dispose()  # a disk with files that are open for writing cannot be made read-only
    disk.remount("ro")
    with pytest.raises(SettingsError, match=r"queue\.sqlite cannot be written"):
        queue.add([new("b")])
    with pytest.raises(SettingsError, match=r"other\.sqlite cannot be used: .*FC_DATABASE_URL"):
        open_database(f"sqlite:///{disk.path / 'other.sqlite'}")
    small_database.dispose()
    disk.remount("rw")
    queue.add([new("b")])
    assert {job.id for job in queue.find()} == {"a", "b"}


def test_a_new_database_on_a_full_disk(disk: Disk) -> None:
    disk.fill(but=8192)
    url = f"sqlite:///{disk.path / 'queue.sqlite'}"
    with pytest.raises(SettingsError, match=r"queue\.sqlite cannot be used: .*disk.*FC_DATABASE_URL"):
        open_database(url)
    disk.free()
    database = open_database(url)
    assert JobQueue(database).add([new("a")])
    database.dispose()


def test_a_full_database_without_a_mount(tmp_path: Path) -> None:
    """SQLite's own limit of its file gives the very error of a full disk."""
    database = open_database(f"sqlite:///{tmp_path / 'queue.sqlite'}")
    most = {"pages": 10}

    def limit(connection: object, *_: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {most['pages']}")  # type: ignore[attr-defined]

    event.listen(database.engine, "checkout", limit)
    refuses_and_recovers(
        JobQueue(database),
        f"{tmp_path}/queue.sqlite",
        lambda: most.update(pages=40),
        lambda: most.update(pages=100_000),
    )
    database.dispose()


def test_a_postgres_that_only_reads(postgres_server: str, postgres_url: str) -> None:
    database = open_database(postgres_url)
    name = str(database.engine.url.database)

    def reading_only(mode: str) -> None:
        run_sql(postgres_server, f"ALTER DATABASE {name} SET default_transaction_read_only = {mode}")
        database.dispose()  # the setting holds for new connections

    refuses_and_recovers(JobQueue(database), name, lambda: reading_only("on"), lambda: reading_only("off"))
    database.dispose()


# ---- the inbox


def test_a_full_inbox_keeps_its_file(disk: Disk, queue: JobQueue, store: ImageStore) -> None:
    """The reason beside a rejected file has no room: the file stays, and the next look puts it aside."""
    dropped = disk.path / "a.json"
    dropped.write_text(json.dumps({"pony_prompt": "", "job_type": "pony_flux"}))
    os.utime(dropped, (time.time() - 60,) * 2)
    (disk.path / "rejected").mkdir()
    disk.fill()
    with pytest.raises(SettingsError, match=r"The inbox .*disk cannot be used: .*No space left"):
        take_inbox(disk.path, queue=queue, store=store, settings=load_settings())
    assert disk.files() == ["a.json"]
    disk.free()
    assert list(take_inbox(disk.path, queue=queue, store=store, settings=load_settings()).rejected) == ["a.json"]
    assert disk.files() == ["a.json", "a.json.error.txt"]


# ---- a run


@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_a_run_on_a_spoiled_data_folder(
    disk: Disk, instance: dg.DagsterInstance, queue: JobQueue, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    data = disk.path / "data"
    monkeypatch.setenv("FC_DATA_DIR", str(data))
    store = ImageStore(str(data))
    add_jobs(queue, store, {"pony_prompt": ONE_PERSON})
    claim_batch(queue, "batch-1")
    assert materialize(instance, "a", selection=STAGES[:2], batch="batch-1").success
    before = disk.files()
    if fault == "full":
        disk.fill(but=8192)
    else:
        disk.remount("ro")
    assert not materialize(instance, "a").success
    job = queue.get("a")
    assert (job.status, job.error_stage) == ("failed", "generated_image")
    assert job.error is not None
    assert f"{data}/0-generated/a.png cannot be written" in job.error
    assert "space left" in str(job.error_hint)
    assert disk.files() == before
    if fault == "full":
        disk.free()
    else:
        disk.remount("rw")
    assert materialize(instance, "a").success
    assert queue.get("a").status == "completed"

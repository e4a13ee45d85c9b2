"""Secrets stay where they are set: after real runs, none is in anything that was written or printed."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from imaging.errors import SettingsError
from imaging.files.provenance import read_provenance
from jobs.cli.main import main
from jobs.queue.job_queue import JobQueue
from resources.connections import DatabaseResource
from resources.database import open_database
from resources.settings import load_settings
from resources.store.image_store import ImageStore
from tests.support.forge_server import ForgeState, forge_server
from tests.support.graph import add_jobs, materialize
from tests.support.http_server import closed_port

KEY, PASSWORD, DATABASE, TOKEN = (f"SECRET-{name}-7f3a" for name in ("key", "password", "database", "token"))
SECRETS = (KEY, PASSWORD, DATABASE, TOKEN)
ONE_PERSON = "portrait of a smiling woman with red hair, forest"


@pytest.fixture
def _secrets(home: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every secret that face-changer knows is set, and each of them is used."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("FC_FORGE_AUTH", f"user:{PASSWORD}")
    monkeypatch.setenv("FC_COMFYUI_AUTH", f"Bearer {PASSWORD}")
    monkeypatch.setenv("FC_DATABASE_URL", postgres_url.replace("postgres:@", f"postgres:{DATABASE}@"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("FC_GENERATOR", "forge")


def leaks(home: Path, postgres_url: str, *texts: str) -> list[str]:
    """Which secret stands where: in a file below the home, in a table of the database, or in a text."""
    places = {str(path): path.read_bytes() for path in home.rglob("*") if path.is_file()}
    places |= {  # PNGs hold their texts compressed
        f"text of {path}": str(read_provenance(found)).encode()
        for path, found in places.items()
        if path.endswith(".png")
    }
    places |= {f"text {number}": text.encode() for number, text in enumerate(texts)}
    database = open_database(postgres_url)
    with database.engine.connect() as connection:
        for table in ("job_queue", "pipeline_results", "pipeline_state", "controller_log", "image_metadata"):
            rows = connection.exec_driver_sql(f"SELECT to_jsonb(one) FROM {table} one").scalars().all()  # noqa: S608 - our names
            places[table] = str(rows).encode()
    database.dispose()
    assert len(places) > 10
    return [f"{secret} in {place}" for place, found in places.items() for secret in SECRETS if secret.encode() in found]


@pytest.mark.usefixtures("_secrets")
def test_no_secret_is_written_or_printed(
    instance: dg.DagsterInstance,
    store: ImageStore,
    home: Path,
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    database = DatabaseResource().get()
    queue = JobQueue(database)
    said = ""
    with forge_server(ForgeState(auth=f"user:{PASSWORD}")) as (url, state):
        monkeypatch.setenv("FC_FORGE_URL", url)
        add_jobs(queue, store, *[{"pony_prompt": ONE_PERSON}] * 3)
        assert materialize(instance, "a").success
        assert queue.get("a").status == "completed"

        state.auth = "another:one"  # the server turns the password down
        assert not materialize(instance, "b").success
        assert queue.get("b").error_stage == "generated_image"

        monkeypatch.setenv("FC_WRITER", "claude")  # the key is sent to a machine that does not answer
        monkeypatch.setenv("ANTHROPIC_BASE_URL", f"http://127.0.0.1:{closed_port()}")
        monkeypatch.setenv("FC_CLAUDE_MAX_RETRIES", "0")
        assert not materialize(instance, "c").success
        assert queue.get("c").error_stage == "enhanced_prompt"

        for arguments in [
            "show a --json",
            "show b --json",
            "show b",
            "list --json",
            "status",
            "doctor",
            "doctor --json",
        ]:
            with pytest.raises(SystemExit):
                main(arguments.split())
            printed = capfd.readouterr()
            assert printed.out
            said += printed.out + printed.err
    for run in instance.get_runs():
        said += f"{run.run_config}{run.tags}"
        said += "".join(str(entry) for entry in instance.all_logs(run.run_id))
        said += str(instance.get_job_snapshot(str(run.job_snapshot_id)))  # compressed on disk
    assert ONE_PERSON in said  # the events are there
    assert leaks(home, postgres_url, said, repr(load_settings())) == []
    monkeypatch.setattr(
        "tests.system.test_secrets.SECRETS", (ONE_PERSON,)
    )  # the search finds what is there, in every place
    found = " ".join(leaks(home, postgres_url, said))
    assert [
        place for place in ("text 0", "job_queue", "requests/a.json", "6-final/a.png", ".db") if place not in found
    ] == []
    database.dispose()


@pytest.mark.usefixtures("_secrets")
def test_a_database_that_cannot_be_opened_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FC_DATABASE_URL", f"postgresql://postgres:{DATABASE}@127.0.0.1:{closed_port()}/gone")
    with pytest.raises(SettingsError, match=r"127\.0\.0\.1/gone cannot be used"):
        open_database(load_settings().resolved_database_url)
    for arguments in ("list", "doctor"):
        with pytest.raises(SystemExit):
            main([arguments])
    printed = capfd.readouterr()
    assert "cannot be used" in printed.out + printed.err
    assert not [secret for secret in SECRETS if secret in printed.out + printed.err]

"""The database: how it is opened, and that its tables, its migrations and its types agree on SQLite and Postgres."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, create_engine, inspect, select, text
from sqlalchemy.exc import IntegrityError, StatementError

import resources.database as database_module
from imaging.errors import SettingsError
from jobs.queue.job_queue import JobQueue
from resources.database import HEAD, Base, Database, ImageMetadataRow, LogRow, open_database, utc_now
from tests.support.postgres import run_sql


@pytest.fixture
def database(any_database: Database) -> Database:
    return any_database


AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
OLD_ROWS: dict[str, dict[str, Any]] = {
    "job_queue": {
        "id": "old", "job_type": "pony_flux", "status": "completed", "priority": 3,
        "request": {"pony_prompt": "a knight", "job_type": "pony_flux"}, "attempts": 1, "origin": "cli",
        "error": "é 🙂", "solo": False, "created_at": AT, "updated_at": AT,
    },
    "pipeline_state": {
        "job_id": "old", "stages_completed": ["job_request"], "run_ids": ["run"], "final_image": "6-final/old.png",
    },
    "pipeline_results": {
        "job_id": "old", "stage": "job_request", "status": "completed", "output": {"sha256": "0"}, "cached": False,
        "runs": 2, "started_at": AT, "finished_at": AT,
    },
    "image_metadata": {
        "job_id": "old", "path": "6-final/old.png", "stage": "final_image", "width": 8, "height": 9, "format": "PNG",
        "bytes": 2**40, "sha256": "0", "face_boxes": [[1, 2, 3, 4]],
    },
    "controller_log": {"at": AT, "level": "info", "job_id": "old", "message": "added by cli"},
    "stage_attempts": {"job_id": "old", "stage": "job_request", "verdict": "completed", "started_at": AT},
    "schedules": {
        "id": "daily", "request": {"pony_prompt": "a knight"}, "every": "1d", "next_at": AT, "enabled": True,
        "created_at": AT,
    },
    "workers": {
        "name": "one", "queues": ["gpu"], "host": "here", "pid": 7, "started_at": AT, "beat_at": AT, "run_ids": [],
    },
}  # fmt: skip
"""A row for each table that an older version may have; the columns that the first of these tables had."""


def _migrations() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(database_module.__file__).parent / "migrations"))
    return config


def _add_log(database: Database, at: datetime, message: str = "m", data: object = None) -> LogRow:
    with database.session() as session:
        session.add(LogRow(at=at, level="info", message=message, data=data))
    with database.reader() as session:
        return session.scalars(select(LogRow).order_by(LogRow.id.desc())).first()


def test_tables_and_migrations_agree(empty_url: str) -> None:
    opened = open_database(empty_url)
    with opened.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        assert set(inspect(connection).get_table_names()) == {*Base.metadata.tables, "alembic_version"}
    opened.dispose()


def test_head_is_the_newest_migration() -> None:
    assert ScriptDirectory.from_config(_migrations()).get_current_head() == HEAD


@pytest.mark.parametrize("version", [f"{number:04}" for number in range(1, int(HEAD))])
def test_an_older_database_comes_to_head_with_its_rows(empty_url: str, tmp_path: Path, version: str) -> None:
    (tmp_path / "new").mkdir(exist_ok=True)
    engine, config = create_engine(empty_url), _migrations()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, version)
        tables = MetaData()
        tables.reflect(connection)
        old = [table for table in tables.sorted_tables if table.name in OLD_ROWS]
        for table in old:
            connection.execute(table.insert().values(OLD_ROWS[table.name]))
        before = {table: dict(connection.execute(table.select()).mappings().one()) for table in old}
    engine.dispose()

    opened = open_database(empty_url)
    with opened.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        for table, row in before.items():
            assert dict(connection.execute(table.select()).mappings().one()) == row, table.name
    job = JobQueue(opened).get("old")
    assert (job.status, job.request.pony_prompt, job.created_at, job.stages_completed) == (
        "completed", "a knight", AT, ("job_request",),
    )  # fmt: skip
    assert (job.error, job.after_id, job.children, dict(job.salts)) == ("é 🙂", None, 0, {})
    assert [image.bytes for image in JobQueue(opened).images("old")] == [2**40]
    opened.dispose()


def test_opening_again_keeps_everything(empty_url: str) -> None:
    first = open_database(empty_url)
    _add_log(first, utc_now(), "kept")
    first.dispose()
    second = open_database(empty_url)
    with second.reader() as session:
        assert session.scalars(select(LogRow.message)).all() == ["kept"]
    second.dispose()


def test_a_database_at_head_needs_no_alembic(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.sqlite'}"
    open_database(url).dispose()
    code = (
        "import sys; from resources.database import open_database; "
        f"open_database({url!r}); print('alembic' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told == "False\n"


def test_processes_that_open_a_new_database_at_once_migrate_it_once(empty_url: str) -> None:
    command = [sys.executable, "-m", "tests.support.queue_worker", empty_url, "open"]
    openers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [(opener.communicate()[1], opener.returncode) for opener in openers] == [("", 0)] * 4
    assert run_sql(empty_url, "SELECT version_num FROM alembic_version") == [[(HEAD,)]]


def test_a_failed_migration_leaves_nothing_behind(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def upgrade_and_break(connection: object) -> None:
        real(connection)
        raise SettingsError("stopped half-way")

    real = database_module._upgrade
    monkeypatch.setattr(database_module, "_upgrade", upgrade_and_break)
    with pytest.raises(SettingsError, match="stopped half-way"):
        open_database(empty_url)
    monkeypatch.undo()
    opened = open_database(empty_url)
    opened.ping()
    opened.dispose()


def test_a_newer_database_is_refused(empty_url: str) -> None:
    open_database(empty_url).dispose()
    run_sql(empty_url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SettingsError, match=r"FC_DATABASE_URL.*newer face-changer"):
        open_database(empty_url)


def test_every_spelling_of_a_postgres_url(postgres_server: str) -> None:
    bare = postgres_server.removeprefix("postgresql+psycopg2")
    for scheme in ("postgres", "postgresql", "postgresql+psycopg2"):
        opened = open_database(scheme + bare)
        assert opened.dialect == "postgresql"
        opened.dispose()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "mysql://me:hunter2@host/name",
        "postgresql+asyncpg://me:hunter2@host/name",
        "postgresql://me:hunter2@127.0.0.1:1/name",
        "postgresql://me:hunter2@127.0.0.1:notaport/name",
        "postgresql://me@127.0.0.1:1/name?password=hunter2",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:////dev/null/x.sqlite",
    ],
)
def test_a_url_that_cannot_be_used(url: str) -> None:
    with pytest.raises(SettingsError, match="FC_DATABASE_URL") as caught:
        open_database(url)
    assert "hunter2" not in str(caught.value)
    assert caught.value.hint


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(SettingsError, match=r"photo\.sqlite cannot be used"):
        open_database(f"sqlite:///{tmp_path / 'photo.sqlite'}")


def test_ping_says_that_the_database_is_gone(postgres_url: str, postgres_server: str) -> None:
    opened = open_database(postgres_url)
    opened.ping()
    opened.dispose()
    run_sql(postgres_server, f"ALTER DATABASE {opened.engine.url.database} RENAME TO moved_away")
    try:
        with pytest.raises(SettingsError, match=r"does not exist.*FC_DATABASE_URL"):
            opened.ping()
    finally:
        run_sql(postgres_server, f"ALTER DATABASE moved_away RENAME TO {opened.engine.url.database}")
    opened.dispose()


def test_times_come_back_aware_and_exact(database: Database) -> None:
    at = datetime(2026, 11, 21, 10, 15, 30, 123456, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    stored = _add_log(database, at)
    assert stored.at == at
    assert stored.at.tzinfo is UTC or stored.at.utcoffset() == timedelta(0)
    whole_second = datetime(2026, 1, 1, tzinfo=UTC)
    assert _add_log(database, whole_second).at == whole_second


def test_times_sort_by_time(database: Database) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    times = [start + timedelta(microseconds=step) for step in (999_999, 0, 1_000_000, 10, 9)]
    for at in times:
        _add_log(database, at)
    with database.reader() as session:
        assert session.scalars(select(LogRow.at).order_by(LogRow.at)).all() == sorted(times)
        assert len(session.scalars(select(LogRow.at).where(LogRow.at > start)).all()) == 4


def test_a_time_without_a_zone_is_refused(database: Database) -> None:
    with pytest.raises(StatementError, match="without a zone"):
        _add_log(database, datetime(2026, 1, 1))  # noqa: DTZ001


def test_free_text_may_hold_anything(database: Database) -> None:
    assert _add_log(database, utc_now(), "a\0b\ud800c é 🙂").message == "a?b?c é 🙂"


def test_json_keeps_its_order_and_any_text(database: Database) -> None:
    data = {"z": [1, 2.5, None, True], "a": "nul \0, half \ud800, é 🙂", "m": {}}
    stored = _add_log(database, utc_now(), data=data).data
    assert stored == data
    assert list(stored) == ["z", "a", "m"]


def test_json_refuses_nan(database: Database) -> None:
    with pytest.raises(StatementError, match="not JSON compliant"):
        _add_log(database, utc_now(), data={"score": float("nan")})


def test_an_exception_rolls_back(database: Database) -> None:
    with pytest.raises(RuntimeError):  # noqa: SIM117, PT012 - what is inside is the transaction
        with database.session() as session:
            session.add(LogRow(at=utc_now(), level="info", message="gone"))
            session.flush()
            raise RuntimeError
    with database.reader() as session:
        assert session.scalars(select(LogRow)).all() == []


def test_foreign_keys_hold(database: Database) -> None:
    image = ImageMetadataRow(
        job_id="nobody", path="p", stage="mask", width=1, height=1, format="PNG", bytes=1, sha256="0"
    )
    with pytest.raises(IntegrityError), database.session() as session:
        session.add(image)


def test_a_reader_does_not_wait_for_a_writer(database: Database) -> None:
    with database.session() as writing:
        writing.add(LogRow(at=utc_now(), level="info", message="not yet"))
        writing.flush()
        with database.reader() as reading:
            assert reading.scalars(select(LogRow)).all() == []


def test_sqlite_is_set_up_for_several_processes(tmp_path: Path) -> None:
    opened = open_database(f"sqlite:///{tmp_path / 'a.sqlite'}")
    with opened.engine.connect() as connection:
        pragmas = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "busy_timeout", "foreign_keys", "synchronous")
        }
    assert pragmas == {"journal_mode": "wal", "busy_timeout": 30_000, "foreign_keys": 1, "synchronous": 1}
    opened.dispose()

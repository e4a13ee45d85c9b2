"""The database of an older version comes to the newest schema step by step, with every row. On SQLite and Postgres."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, MetaData, create_engine

import resources.database as database_module
from jobs.queue.job_queue import JobQueue
from jobs.requests.schedules import find_schedules
from resources.database import Base, open_database
from tests.support.old_homes import restore_postgres

MADE_WITH: Final = "0005"
"""The schema of the version that made the store."""

Rows = dict[str, list[dict[str, Any]]]
"""The rows of each table, in the order of its primary key."""


def _migrations() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(database_module.__file__).parent / "migrations"))
    return config


def _steps() -> list[str]:
    """The old schema and each that came after it."""
    found = ScriptDirectory.from_config(_migrations()).walk_revisions(base=MADE_WITH, head="heads")
    return [step.revision for step in reversed(list(found))]


@pytest.fixture(params=["sqlite", "postgresql"])
def old_url(request: pytest.FixtureRequest, unpacked: Path, tmp_path: Path) -> str:
    """The URL of the old database, as it was made."""
    if request.param == "sqlite":
        return f"sqlite:///{shutil.copy(unpacked / 'sqlite' / 'data' / 'face-changer.sqlite', tmp_path)}"
    url: str = request.getfixturevalue("postgres_url")
    restore_postgres(unpacked / "postgres" / "postgres.sql", url)
    return url


@pytest.fixture
def engine(old_url: str) -> Iterator[Engine]:
    """An engine on it that migrates nothing by itself."""
    made = create_engine(old_url)
    yield made
    made.dispose()


def rows_of(engine: Engine) -> Rows:
    """Everything that is in a database but its version."""
    tables = MetaData()
    with engine.connect() as connection:
        tables.reflect(connection)
        return {
            table.name: [
                dict(row) for row in connection.execute(table.select().order_by(*table.primary_key.columns)).mappings()
            ]
            for table in tables.sorted_tables
            if table.name != "alembic_version"
        }


def assert_kept(before: Rows, now: Rows) -> None:
    """Every row is there, with every column that it had; JSON objects may have got further fields."""
    assert before.keys() <= now.keys()
    for table, rows in before.items():
        assert len(now[table]) == len(rows), table
        for old, new in zip(rows, now[table], strict=True):
            assert old.keys() <= new.keys(), table
            for column, value in old.items():
                if isinstance(value, Mapping) and isinstance(new[column], Mapping):
                    assert value.items() <= {name: new[column].get(name) for name in value}.items(), (table, column)
                else:
                    assert new[column] == value, (table, column)


def test_the_store_is_what_it_is_told_to_be(engine: Engine) -> None:
    with engine.connect() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == MADE_WITH
    counts = {table: len(rows) for table, rows in rows_of(engine).items()}
    assert counts.pop("workers") == 0
    assert counts["job_queue"] == counts["pipeline_state"] == 23
    assert counts["schedules"] == 2
    assert all(counts.values()), "a table without rows shows nothing"


@pytest.mark.parametrize("version", _steps())
def test_each_step_keeps_every_row(engine: Engine, old_url: str, version: str) -> None:
    before, config = rows_of(engine), _migrations()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, version)
    assert_kept(before, rows_of(engine))
    open_database(old_url).dispose()
    assert_kept(before, rows_of(engine))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_it_is_read_as_it_was_written(engine: Engine, old_url: str) -> None:
    before = rows_of(engine)
    opened = open_database(old_url)
    queue = JobQueue(opened)
    jobs = {job.id: job for job in queue.find()}
    assert jobs.keys() == {row["id"] for row in before["job_queue"]}
    for row in before["job_queue"]:
        job = jobs[row["id"]]
        asked = job.request.model_dump(mode="json")
        assert {name: asked[name] for name in row["request"]} == row["request"], job.id
        assert (job.status, job.error, job.error_hint, job.error_stage) == (
            row["status"], row["error"], row["error_mend"], row["error_stage"],
        )  # fmt: skip
        assert (job.parent_id, job.after_id, job.source, job.user_mask) == (
            row["parent_id"], row["after_id"], row["source"], row["user_mask"],
        )  # fmt: skip
        for table, found in (("stage_attempts", queue.attempts(job.id)), ("image_metadata", queue.images(job.id))):
            assert len(found) == sum(one["job_id"] == job.id for one in before[table])
        keys = {one["stage"]: one["content_key"] for one in before["pipeline_results"] if one["job_id"] == job.id}
        assert {one.stage: one.content_key for one in queue.stage_results(job.id)} == keys
    for row, one in zip(before["schedules"], find_schedules(opened), strict=True):
        asked = one.request.model_dump(mode="json")
        assert {name: asked[name] for name in row["request"]} == row["request"]
        assert (one.id, one.every, one.enabled) == (row["id"], row["every"], row["enabled"])
    opened.dispose()

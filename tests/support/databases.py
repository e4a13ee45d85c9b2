"""A pytest plugin: databases on SQLite and on a real Postgres.

A test file that needs them says `pytest_plugins = ["tests.support.databases"]`.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from resources.database import Base, Database, open_database
from resources.settings import PROJECT_ROOT
from tests.support.postgres import run_sql, running_postgres

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of the server's first database; one server per test process."""
    with running_postgres() as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of an empty database."""
    name = f"test_{next(_numbers)}"
    run_sql(postgres_server, f"CREATE DATABASE {name} STRATEGY FILE_COPY")
    yield postgres_server.replace("/postgres?", f"/{name}?")
    run_sql(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without tables, on each of the two."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'new' / 'face-changer.sqlite'}"
    return request.getfixturevalue("postgres_url")


@pytest.fixture(scope="session")
def migrated_urls(tmp_path_factory: pytest.TempPathFactory, postgres_server: str) -> dict[str, str]:
    """A database at the newest schema on each of the two, to be used by one test at a time."""
    urls = {
        "sqlite": f"sqlite:///{tmp_path_factory.mktemp('database') / 'face-changer.sqlite'}",
        "postgresql": postgres_server,
    }
    for url in urls.values():
        open_database(url).dispose()
    return urls


@pytest.fixture(params=["sqlite", "postgresql"])
def any_database(request: pytest.FixtureRequest, migrated_urls: dict[str, str]) -> Iterator[Database]:
    """An open database without rows, on each of the two."""
    opened = open_database(migrated_urls[request.param])
    with opened.session() as session:
        for table in reversed(Base.metadata.sorted_tables):
            session.execute(table.delete())
    yield opened
    opened.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(
    request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    """A Dagster instance whose own storage is on each of the two."""
    if request.param == "postgresql":
        monkeypatch.setenv("FC_DAGSTER_POSTGRES_URL", request.getfixturevalue("postgres_url"))
        shutil.copy(PROJECT_ROOT / "deploy/dagster.postgres.yaml", home / "dagster.yaml")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance

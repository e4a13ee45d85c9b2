"""A Postgres that is killed, and started again, under an open database."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import select

import resources.database as database_module
from resources.database import Database, DatabaseLostError, LogRow, open_database, utc_now
from tests.support.postgres import PostgresServer, postgres


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with postgres() as started:
        yield started


def write(database: Database, message: str) -> None:
    with database.session() as session:
        session.add(LogRow(at=utc_now(), level="info", message=message))


def killed_on_the_way(database: Database, server: PostgresServer) -> None:
    with database.session() as session:
        session.add(LogRow(at=utc_now(), level="info", message="cut"))
        session.flush()
        server.kill()


def test_only_the_transaction_in_hand_is_lost(server: PostgresServer) -> None:
    database = open_database(server.url)
    write(database, "before")
    with pytest.raises(DatabaseLostError, match="was lost"):
        killed_on_the_way(database, server)
    start = threading.Timer(1, server.start)
    start.start()
    write(database, "after")  # waits for the server
    start.join()
    with database.reader() as session:
        assert session.scalars(select(LogRow.message).order_by(LogRow.id)).all() == ["before", "after"]
    database.dispose()


def test_waiting_for_the_server_has_an_end(server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "BUSY_SECONDS", 0)
    database = open_database(server.url)
    server.kill()
    with pytest.raises(DatabaseLostError, match="refused"):
        write(database, "never")
    server.start()
    database.dispose()

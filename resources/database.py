"""The face-changer database: its tables, how it is opened, and its transactions.

Every change of a table needs a new file in `resources/migrations/versions` and its number in `HEAD`.
"""

from __future__ import annotations

import functools
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Connection,
    DateTime,
    Dialect,
    Engine,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    text,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.types import TypeDecorator

from imaging.errors import SettingsError, TransientError

HEAD: Final = "0008"
"""The newest migration; a database at this version needs no Alembic."""

BUSY_SECONDS: Final = 30
RECONNECT_SECONDS: Final = 0.5
_MIGRATION_LOCK: Final = 0x6661636563  # any fixed number: the key of Postgres' advisory lock around a migration
_MIGRATIONS: Final = Path(__file__).parent / "migrations"


def utc_now() -> datetime:
    """The time now: aware, UTC, microseconds. Every timestamp in the database comes from here."""
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC time on both databases; SQLite keeps it as sortable text without a zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC; SQLite is given the bare UTC time."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("A time without a zone cannot be stored; use utc_now().")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Return an aware UTC time."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class FreeText(TypeDecorator[str]):
    """Text from anywhere, such as an error; NUL and lone surrogates cannot be stored and become `?`."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Replace NUL characters and lone surrogates."""
        return None if value is None else value.encode("utf-8", "replace").decode("utf-8").replace("\0", "?")


class Base(DeclarativeBase):
    """What all tables share: which Python type is kept how."""

    type_annotation_map = {  # noqa: RUF012 - the name and form that SQLAlchemy asks for
        datetime: UtcDateTime,
        str: String,
        dict[str, Any]: JSON(none_as_null=True),
        list[str]: JSON,
    }


class JobRow(Base):
    """One job: what was asked, and where it stands."""

    __tablename__ = "job_queue"
    __table_args__ = (
        Index("ix_job_queue_claim", "status", "priority", "created_at", "id"),
        Index("ix_job_queue_newest", "created_at", "id"),
        Index("ix_job_queue_parent", "parent_id"),
        Index("ix_job_queue_after", "after_id"),
    )

    id: Mapped[str] = mapped_column(String(63), primary_key=True)
    job_type: Mapped[str]
    status: Mapped[str]
    priority: Mapped[int]
    request: Mapped[dict[str, Any]]
    source: Mapped[dict[str, Any] | None]
    attempts: Mapped[int]
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("job_queue.id", ondelete="SET NULL"))
    after_id: Mapped[str | None] = mapped_column(String(63))
    children: Mapped[int] = mapped_column(server_default="0")
    origin: Mapped[str]
    error: Mapped[str | None] = mapped_column(FreeText)
    error_stage: Mapped[str | None]
    error_hint: Mapped[str | None] = mapped_column("error_mend", FreeText, key="error_hint")  # its name since 0001
    batch_id: Mapped[str | None]
    run_id: Mapped[str | None]
    solo: Mapped[bool]
    not_before: Mapped[datetime | None]
    created_at: Mapped[datetime]
    claimed_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    updated_at: Mapped[datetime]
    salts: Mapped[dict[str, Any] | None]
    user_mask: Mapped[dict[str, Any] | None]
    fault: Mapped[str | None]
    faults: Mapped[dict[str, Any] | None]
    restored_at: Mapped[datetime | None]
    recipe: Mapped[dict[str, Any] | None]
    stars: Mapped[int | None]
    removing_at: Mapped[datetime | None]
    alone_deaths: Mapped[int] = mapped_column(server_default="0")
    idle_deaths: Mapped[int] = mapped_column(server_default="0")


class PauseRow(Base):
    """There is one row, of the id 1, while the queue is paused."""

    __tablename__ = "queue_pause"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    since: Mapped[datetime]
    by: Mapped[str]
    reason: Mapped[str | None] = mapped_column(FreeText)


class ScheduleRow(Base):
    """A request that becomes a job again and again."""

    __tablename__ = "schedules"
    __table_args__ = (Index("ix_schedules_due", "enabled", "next_at"),)

    id: Mapped[str] = mapped_column(String(63), primary_key=True)
    request: Mapped[dict[str, Any]]
    every: Mapped[str]
    next_at: Mapped[datetime]
    enabled: Mapped[bool]
    last_job_id: Mapped[str | None] = mapped_column(String(63))
    error: Mapped[str | None] = mapped_column(FreeText)
    created_at: Mapped[datetime]


class ResultRow(Base):
    """The newest attempt of one job at one stage."""

    __tablename__ = "pipeline_results"

    job_id: Mapped[str] = mapped_column(ForeignKey("job_queue.id", ondelete="CASCADE"), primary_key=True)
    stage: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str]
    input: Mapped[dict[str, Any] | None]
    output: Mapped[dict[str, Any] | None]
    error: Mapped[str | None] = mapped_column(FreeText)
    milliseconds: Mapped[int | None] = mapped_column(BigInteger)
    run_id: Mapped[str | None]
    content_key: Mapped[str | None]
    cached: Mapped[bool]
    runs: Mapped[int]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class AttemptRow(Base):
    """One attempt of one job at one stage; `pipeline_results` has the newest only."""

    __tablename__ = "stage_attempts"
    __table_args__ = (Index("ix_stage_attempts_job", "job_id", "id"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("job_queue.id", ondelete="CASCADE"))
    stage: Mapped[str]
    verdict: Mapped[str]
    reason: Mapped[str | None] = mapped_column(FreeText)
    input: Mapped[dict[str, Any] | None]
    settings: Mapped[dict[str, Any] | None]
    output: Mapped[dict[str, Any] | None]
    run_id: Mapped[str | None]
    content_key: Mapped[str | None]
    fault: Mapped[str | None]
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class StateRow(Base):
    """How far one job has come; added together with the job."""

    __tablename__ = "pipeline_state"

    job_id: Mapped[str] = mapped_column(ForeignKey("job_queue.id", ondelete="CASCADE"), primary_key=True)
    current_stage: Mapped[str | None]
    stages_completed: Mapped[list[str]]
    run_ids: Mapped[list[str]]
    final_image: Mapped[str | None]


class LogRow(Base):
    """What was decided, and when. Not tied to `job_queue`: the log outlives a removed job."""

    __tablename__ = "controller_log"
    __table_args__ = (Index("ix_controller_log_job", "job_id", "id"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    at: Mapped[datetime]
    level: Mapped[str]
    job_id: Mapped[str | None]
    run_id: Mapped[str | None]
    stage: Mapped[str | None]
    message: Mapped[str] = mapped_column(FreeText)
    data: Mapped[dict[str, Any] | None]


class IdeationRow(Base):
    """One candidate prompt of a job."""

    __tablename__ = "ideation_results"

    job_id: Mapped[str] = mapped_column(ForeignKey("job_queue.id", ondelete="CASCADE"), primary_key=True)
    iteration: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    prompt: Mapped[str] = mapped_column(FreeText)
    enhanced_prompt: Mapped[str] = mapped_column(FreeText)
    score: Mapped[float | None]
    selected: Mapped[bool]


class ImageMetadataRow(Base):
    """One stored image and what was measured on it."""

    __tablename__ = "image_metadata"
    __table_args__ = (
        UniqueConstraint("path", name="uq_image_metadata_path"),
        Index("ix_image_metadata_job", "job_id"),
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("job_queue.id", ondelete="CASCADE"))
    path: Mapped[str]
    stage: Mapped[str]
    width: Mapped[int]
    height: Mapped[int]
    format: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    face_count: Mapped[int | None]
    face_boxes: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))
    quality_score: Mapped[float | None]


class WorkerRow(Base):
    """One worker that takes runs from queues, and its last sign of life."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(primary_key=True)
    queues: Mapped[list[str]]
    host: Mapped[str]
    pid: Mapped[int]
    started_at: Mapped[datetime]
    beat_at: Mapped[datetime]
    run_ids: Mapped[list[str]]


class DatabaseLostError(TransientError):
    """Postgres went away in the middle of a transaction, or did not come back in time for one."""


def overwrite_deleted(connection: Connection) -> None:
    """Let SQLite write zeros over what is deleted; else it lies in the file until its place is needed."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA secure_delete = ON")


def checkpoint_file(file: Path) -> None:
    """Move SQLite's write-ahead log, which holds old rows too, into its file; left undone where a reader is busy."""
    with closing(sqlite3.connect(file, timeout=BUSY_SECONDS)) as own:
        own.execute("PRAGMA wal_checkpoint(TRUNCATE)")


class Database:
    """An open database at the newest schema. Safe to share between threads; each process opens its own.

    Attributes:
        engine: the SQLAlchemy engine; its transactions are deferred on SQLite, so use it to read.
        dialect: `sqlite` or `postgresql`.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.dialect: str = engine.dialect.name
        self._writer = _writer(engine)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A writing transaction: committed at the end, rolled back on an exception. Keep it short.

        On SQLite it holds the one write lock from its first statement on: what it reads stays true.

        A Postgres that does not answer is waited for up to `BUSY_SECONDS` before the first statement.

        Raises:
            SettingsError: the database's disk is full or read-only; names it, and nothing was changed.
            DatabaseLostError: the connection was lost. Nothing was changed, unless that was in the commit.
        """
        with (
            _naming_faults(self.engine.url),
            _connected(self._writer) as connection,
            Session(connection, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    @contextmanager
    def reader(self) -> Iterator[Session]:
        """A transaction that only reads: it never waits for a writer. Errors as in `session`."""
        with (
            _naming_faults(self.engine.url),
            _connected(self.engine) as connection,
            Session(connection, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    def ping(self) -> None:
        """Ask the database for an answer.

        Raises:
            SettingsError: names FC_DATABASE_URL and says why the database does not answer.
        """
        try:
            with self.engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except DBAPIError as error:
            raise _unreachable(self.engine.url, error) from None

    def checkpoint(self) -> None:
        """`checkpoint_file` on SQLite; elsewhere nothing."""
        if self.dialect == "sqlite":
            checkpoint_file(Path(str(self.engine.url.database)))

    def dispose(self) -> None:
        """Close every connection of the pool."""
        self.engine.dispose()


def open_database(url: str) -> Database:
    """Open the database at `url`, make it if it is a new SQLite file, and bring its schema up to date.

    Args:
        url: `sqlite:///<path of a file>` or `postgresql://user:password@host/name` (`postgres://` and
            `postgresql+psycopg2://` too).

    Raises:
        SettingsError: the URL cannot be read, or the database cannot be reached or is a newer face-changer's.
            Names FC_DATABASE_URL and never shows the password.
    """
    parsed = _read_url(url)
    try:
        engine = _sqlite_engine(parsed) if parsed.get_backend_name() == "sqlite" else _postgres_engine(parsed)
        try:
            _bring_to_head(engine)
        except BaseException:
            engine.dispose()
            raise
    except (DBAPIError, OSError) as error:
        raise _unreachable(parsed, error) from None
    return Database(engine)


def _read_url(url: str) -> URL:
    hint = "Set FC_DATABASE_URL to sqlite:///<path> or postgresql://<user>:<password>@<host>:<port>/<name>."
    try:
        parsed = make_url("postgresql" + url.removeprefix("postgres") if url.startswith("postgres://") else url)
    except (ArgumentError, ValueError):
        raise SettingsError("FC_DATABASE_URL is not a database URL.", hint) from None
    if parsed.drivername in ("postgresql", "postgresql+psycopg2"):
        return parsed.set(drivername="postgresql+psycopg2")
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise SettingsError(f"FC_DATABASE_URL names {parsed.drivername}, which face-changer does not use.", hint)
    if not parsed.database or parsed.database == ":memory:" or parsed.query:
        raise SettingsError("FC_DATABASE_URL must name an SQLite file that several processes can open.", hint)
    return parsed


def _unreachable(url: URL, error: Exception) -> SettingsError:
    return SettingsError(
        f"The database at {_place(url)} cannot be used: {_reason(url, error)}.",
        "Check FC_DATABASE_URL, that the server runs or the folder can be written, that its disk has space left, and "
        "the user's rights.",
    )


_DISK_FAULTS: Final = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
_POSTGRES_DISK_FAULTS: Final = ("53100", "25006")  # disk_full, read_only_sql_transaction


@contextmanager
def _naming_faults(url: URL) -> Iterator[None]:
    """Name the database in the faults that only a person can hint, and in a lost connection, which may pass."""
    try:
        yield
    except DBAPIError as error:
        if _is_lost(error):
            raise DatabaseLostError(
                f"The connection to the database at {_place(url)} was lost: {_reason(url, error)}.",
                "The job is tried again by itself; `fc doctor` says whether the database answers.",
            ) from error
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF  # the low byte of an extended code is the plain one
        if code not in _DISK_FAULTS and getattr(error.orig, "pgcode", None) not in _POSTGRES_DISK_FAULTS:
            raise
        raise SettingsError(
            f"The database at {_place(url)} cannot be written: {_reason(url, error)}. Nothing was changed.",
            "Free some space on its disk and make it writable, or correct FC_DATABASE_URL; then do the same again.",
        ) from None


def _is_lost(error: DBAPIError) -> bool:
    """Whether Postgres went away: the connection broke, or a new one was refused."""
    refused = isinstance(error, OperationalError) and getattr(error.orig, "pgcode", "") is None
    return error.connection_invalidated or refused


def _connected(engine: Engine) -> Connection:
    """A connection that answers; a server that restarts is waited for, as SQLite waits for its lock."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return engine.connect()
        except DBAPIError as error:
            if not _is_lost(error) or time.monotonic() > deadline:
                raise
            time.sleep(RECONNECT_SECONDS)


def _place(url: URL) -> str:
    return str(url.database) if url.get_backend_name() == "sqlite" else f"{url.host or 'local socket'}/{url.database}"


def _reason(url: URL, error: Exception) -> str:
    reason = " ".join(str(getattr(error, "orig", None) or error).split())
    for secret in (url.password, url.query.get("password")):
        if secret:
            reason = reason.replace(str(secret), "***")
    return reason


_to_json = functools.partial(json.dumps, allow_nan=False)  # Postgres refuses NaN, so SQLite does as well


def _postgres_engine(url: URL) -> Engine:
    return create_engine(url, pool_pre_ping=True, json_serializer=_to_json, hide_parameters=True)


def _sqlite_engine(url: URL) -> Engine:
    assert url.database  # noqa: S101 - _read_url has seen to it
    Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS}, json_serializer=_to_json, hide_parameters=True)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # so that the driver begins nothing by itself; _begin_sqlite does
    _use_wal(connection)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch a new file to WAL; SQLite does not wait by itself when two processes do so at once."""
    deadline = time.monotonic() + BUSY_SECONDS
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if (
                error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
                or time.monotonic() > deadline
            ):
                raise
            time.sleep(0.02)


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("face_changer_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _writer(engine: Engine) -> Engine:
    """The same engine and pool, whose transactions on SQLite take the write lock at once."""
    return engine.execution_options(face_changer_writes=True)


def _bring_to_head(engine: Engine) -> None:
    """Run the missing migrations, in one transaction; other processes that start now wait for it."""
    with engine.connect() as connection:
        if _version(connection) == HEAD:
            return
    with _writer(engine).begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        if _version(connection) != HEAD:
            _upgrade(connection)


def _version(connection: Connection) -> str | None:
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise SettingsError(
            f"The database named by FC_DATABASE_URL cannot be brought to version {HEAD}: {error}.",
            "It was probably used by a newer face-changer; upgrade this one, or use another database.",
        ) from None

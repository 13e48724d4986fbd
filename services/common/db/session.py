"""The engine and the two kinds of transaction: one that reads, one that writes.

SQLite: a write transaction takes the write lock when it begins (BEGIN IMMEDIATE). A deferred one that reads
first would fail with "database is locked" at its first write whenever somebody else wrote in between, and
no timeout helps there. The driver's own BEGIN is switched off and ours sent by SQLAlchemy's `begin` event,
as its pysqlite page describes for all Python versions. Reading transactions see one snapshot (WAL) and
never wait for a writer.

Postgres: writers run side by side (READ COMMITTED) and are kept apart by row locks, conditional UPDATEs and, where a
row is still to be made, by `take_turns`. Reading transactions see one snapshot there too (REPEATABLE READ).
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import structlog
from sqlalchemy import Connection, Engine, Executable, create_engine, event, func, select
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from services.common.db.models import Event
from services.common.db.settle import forget, settle
from services.common.errors import ServiceError

BUSY_TIMEOUT_MS = 30_000
WAL_RETRY_SECONDS = 0.01
# A statement or a wait for a lock that takes longer is given up with an error, and its request sent again.
POSTGRES_OPTIONS = "-c statement_timeout=60000 -c lock_timeout=20000 -c idle_in_transaction_session_timeout=60000"
CONNECT_SECONDS = 5
DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeoutError)  # what comes while the database is down
DISK_FULL_SQLSTATE = "53100"
_WRITE = "nasdet_write"

log = structlog.get_logger()


def make_engine(url: str, *, pool_size: int = 5) -> Engine:
    """An engine for `sqlite:///PATH` or `postgresql+psycopg://...`; keeps `pool_size` connections, opens 10 more."""
    pool = {"pool_size": pool_size, "max_overflow": 10, "pool_timeout": 30}
    if not url.startswith("sqlite"):
        # No ping before each use, which is a round trip: the first statement after the database was started anew fails,
        # all connections of the pool are thrown away, and whoever asked is told to ask again.
        arguments = {"options": POSTGRES_OPTIONS, "connect_timeout": CONNECT_SECONDS}
        return create_engine(url, **pool, connect_args=arguments)
    engine = create_engine(url, **pool)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    assert isinstance(connection, sqlite3.Connection)  # the listener is for this dialect only
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    _switch_to_wal(cursor)
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _switch_to_wal(cursor: sqlite3.Cursor) -> None:
    """The switch does not wait for other processes that start on a new database at the same moment: we do."""
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(WAL_RETRY_SECONDS)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITE) is True
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN DEFERRED")


class Asked(NamedTuple):
    """A SELECT that was put together once, and the values for this time: putting it together costs more than asking."""

    statement: Executable
    values: Mapping[str, Any]


class Database:
    """One engine with its two session factories. Application code flushes; only these blocks commit."""

    def __init__(self, url: str, *, pool_size: int = 5) -> None:
        self.engine = make_engine(url, pool_size=pool_size)
        self.write_engine = self.engine.execution_options(**{_WRITE: True})
        # Rows are changed by UPDATE statements: every SELECT must show what is there now, not what was read before.
        fresh = {"populate_existing": True}
        self._read = sessionmaker(_reading(self.engine), expire_on_commit=False, execution_options=fresh)
        self._peek = _without_transactions(self.engine)
        self._write = sessionmaker(self.write_engine, expire_on_commit=False, execution_options=fresh)

    @contextmanager
    def write_session(self) -> Iterator[Session]:
        """One write transaction: settled and committed at the end of the block, rolled back by an exception.

        A refusal that wrote its audit event and nothing else (`keeps_transaction`) is committed and raised
        on. Each event is told in a line of the log, once it is committed.
        """
        with self._write() as session, session.begin() as transaction:
            try:
                yield session
            except ServiceError as error:
                if error.keeps_transaction:
                    kept = settle(session)
                    transaction.commit()
                    _tell(kept)
                raise
            else:
                events = settle(session)
            finally:
                forget(session)
        _tell(events)

    @contextmanager
    def read_session(self) -> Iterator[Session]:
        """One snapshot; nothing is ever written."""
        with self._read() as session:
            yield session

    def peek(self, asked: Asked) -> Sequence[Any]:
        """The rows of one SELECT outside any transaction: one round trip, for what is asked many times a second."""
        with self._peek.connect() as connection:
            return connection.execute(asked.statement, asked.values).all()

    def close(self) -> None:
        self.engine.dispose()


def _tell(events: Sequence[Event]) -> None:
    """With the ids that lead from a line of the log to what it is about."""
    for told in events:
        about = {name: getattr(told, name) for name in ("search_id", "trial_id", "job_id", "attempt")}
        named = {name: number for name, number in about.items() if number is not None}
        log.info(told.kind, event_id=told.id, **named)


def _reading(engine: Engine) -> Engine:
    """One snapshot per transaction; SQLite's deferred transactions are that already."""
    if engine.dialect.name == "sqlite":
        return engine
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def _without_transactions(engine: Engine) -> Engine:
    """SQLite reads without a round trip anyway."""
    return engine if engine.dialect.name == "sqlite" else engine.execution_options(isolation_level="AUTOCOMMIT")


def take_turns(session: Session, *what: object) -> None:
    """Until the end of the transaction nobody else passes here with the same `what`, e.g. ("worker", "gpu-0").

    For rows that are looked for and then made: two that look at once would both make one. Taken before any row is
    locked. SQLite has one writer, which has been us since the transaction began.
    """
    if session.get_bind().dialect.name == "sqlite":
        return
    digest = hashlib.sha256(repr(what).encode()).digest()
    key = int.from_bytes(digest[:8], "big", signed=True)
    session.execute(select(func.pg_advisory_xact_lock(key)))


def is_storage_full(error: BaseException) -> bool:
    """Whether the database says that its disk is full."""
    original: Any = error.orig if isinstance(error, DBAPIError) else error
    if getattr(original, "sqlstate", None) == DISK_FULL_SQLSTATE:
        return True
    return isinstance(original, sqlite3.Error) and (
        getattr(original, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        or "database or disk is full" in str(original)
    )

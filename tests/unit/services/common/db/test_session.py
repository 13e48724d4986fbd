"""Transactions on SQLite: who waits for whom, and what an exception leaves behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import OperationalError

from services.common.db.models import Project
from services.common.db.session import Database, is_storage_full
from services.common.db.types import db_now
from services.common.errors import ConflictError, StaleAttemptError
from tests.support import stores


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stores.migrated_template(tmp_path_factory.mktemp("schema"))


@pytest.fixture
def database(template: Path, tmp_path: Path) -> Iterator[Database]:
    database = stores.copied_database(template, tmp_path / "nasdet.db")
    yield database
    database.close()


def names(database: Database) -> list[str]:
    with database.read_session() as session:
        return list(session.scalars(select(Project.name).order_by(Project.id)))


def test_the_connection_is_set_up_for_one_writer_and_many_readers(database: Database) -> None:
    with database.read_session() as session:
        found = {
            name: session.execute(text(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "busy_timeout", "foreign_keys", "synchronous")
        }
    assert found == {"journal_mode": "wal", "busy_timeout": 30_000, "foreign_keys": 1, "synchronous": 1}


def test_two_transactions_that_read_first_and_write_then_both_succeed(database: Database) -> None:
    """A deferred BEGIN fails here: the second one's snapshot is old when it wants to write."""
    both_started = threading.Barrier(2, timeout=20)

    def count_then_add() -> None:
        both_started.wait()
        with database.write_session() as session:
            count = len(session.scalars(select(Project)).all())
            time.sleep(0.05)
            session.add(Project(name=f"project {count}"))

    threads = [threading.Thread(target=count_then_add) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names(database) == ["project 0", "project 1"]


def test_a_reader_sees_the_snapshot_it_began_with_and_never_waits(database: Database) -> None:
    with database.write_session() as writer:
        writer.add(Project(name="new"))
        writer.flush()
        assert names(database) == []
    with database.read_session() as reader:
        assert len(reader.scalars(select(Project)).all()) == 1
        with database.write_session() as writer:
            writer.add(Project(name="newer"))
        assert len(reader.scalars(select(Project)).all()) == 1


def test_an_error_rolls_back(database: Database) -> None:
    with pytest.raises(ConflictError), database.write_session() as session:
        add_and_raise(session, ConflictError("no"))
    assert names(database) == []


def test_a_refusal_keeps_its_audit_event(database: Database) -> None:
    with pytest.raises(StaleAttemptError), database.write_session() as session:
        add_and_raise(session, StaleAttemptError("too late"))
    assert names(database) == ["kept?"]


def add_and_raise(session: object, error: Exception) -> None:
    from sqlalchemy.orm import Session

    assert isinstance(session, Session)
    session.add(Project(name="kept?"))
    session.flush()
    raise error


def test_a_second_look_in_one_session_is_not_the_memory_of_the_first(database: Database) -> None:
    with database.write_session() as session:
        session.add(Project(name="before"))
        session.flush()
        project = session.scalars(select(Project)).one()
        session.execute(text("UPDATE project SET name = 'after'"))
        assert session.scalars(select(Project)).one().name == "after"
        assert project.name == "after"


def test_the_databases_clock_is_the_time_of_day(database: Database) -> None:
    with database.read_session() as session:
        assert abs(float(session.scalar(select(db_now())) or 0) - time.time()) < 5


def test_a_full_disk_is_told_from_other_errors(database: Database) -> None:
    with pytest.raises(OperationalError) as full, database.write_session() as session:
        fill(session)
    assert is_storage_full(full.value)
    with pytest.raises(OperationalError) as other, database.read_session() as session:
        session.execute(text("SELECT * FROM nothing"))
    assert not is_storage_full(other.value)
    assert not is_storage_full(ValueError())


def fill(session: object) -> None:
    from sqlalchemy.orm import Session

    assert isinstance(session, Session)
    pages = session.execute(text("PRAGMA page_count")).scalar_one()
    session.execute(text(f"PRAGMA max_page_count={pages}"))
    session.add(Project(name="x" * 100_000))
    session.flush()

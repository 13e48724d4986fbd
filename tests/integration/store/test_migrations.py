"""Migrations on every kind of database: a new one, several starts at once, and one that an older version wrote.

tests/golden/recorded/database_0001.json was written by the version before server mode: one search that had succeeded,
one in its middle, and the summary that it showed of the first.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Identity, MetaData, Table, inspect, select, text

from services.common.db.migrations import _config, current_revision, head_revision, upgrade
from services.common.db.models import Base, Search, SearchTally
from services.common.db.repositories import JobRepository, SearchRepository
from services.common.db.session import Database
from services.common.db.states import SearchState
from services.common.errors import SchemaVersionError
from services.common.summary import build_summary
from tests.support.searches import FakeWorker, Installation
from tests.support.stores import Store

pytestmark = pytest.mark.integration

STARTS = 4
UPGRADE = """
import sys
from services.common.db.migrations import upgrade
from services.common.db.session import Database
database = Database(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
upgrade(database.write_engine)
"""


@pytest.fixture
def empty(store: Store, tmp_path: Path) -> Iterator[Database]:
    with store.database(tmp_path, migrated=False) as database:
        yield database


@pytest.fixture(scope="module")
def old(repository: Path) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(
        (repository / "tests" / "golden" / "recorded" / "database_0001.json").read_text(encoding="utf-8")
    )
    return body


@pytest.fixture
def recorded(empty: Database, old: dict[str, Any]) -> Database:
    """The old version's database, with its rows."""
    config = _config()
    with empty.write_engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, old["revision"])
    metadata = MetaData()
    with empty.write_engine.begin() as connection:
        for name, content in old["tables"].items():
            rows = [dict(zip(content["columns"], row, strict=True)) for row in content["rows"]]
            table = Table(name, metadata, autoload_with=connection)
            connection.execute(table.insert(), rows)
            if connection.dialect.name == "postgresql" and _counts(table):
                last = f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), (SELECT max(id) FROM {name}))"
                connection.execute(text(last))
    return empty


def _counts(table: Table) -> bool:
    """Whether the database gives out the ids of this table."""
    column = table.columns.get("id")
    return column is not None and (isinstance(column.server_default, Identity) or column.server_default is not None)


def start_at_once(database: Database) -> list[int]:
    """Exit codes of several processes that upgrade the database at the same moment."""
    url = database.engine.url.render_as_string(hide_password=False)
    processes = [
        subprocess.Popen([sys.executable, "-c", UPGRADE, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(STARTS)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
    return [process.returncode for process in processes]


class TestNewDatabase:
    def test_has_the_schema_of_the_models(self, empty: Database) -> None:
        assert current_revision(empty.engine) is None
        upgrade(empty.write_engine)
        upgrade(empty.write_engine)
        assert current_revision(empty.engine) == head_revision()
        with empty.engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
            names = {name for table in Base.metadata.tables for name in _checks(connection, table)}
        assert len(names) == 8

    # SQLite: tests/unit/services/common/db/test_migrations.py, again and again.
    @pytest.mark.parametrize("store", ["postgres"], indirect=True)
    def test_several_processes_may_start_at_once(self, empty: Database) -> None:
        assert start_at_once(empty) == [0] * STARTS
        assert current_revision(empty.engine) == head_revision()

    def test_a_newer_one_is_refused_and_left_alone(self, empty: Database) -> None:
        upgrade(empty.write_engine)
        with empty.write_session() as session:
            session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(SchemaVersionError, match="revision 9999"):
            upgrade(empty.write_engine)
        assert current_revision(empty.engine) == "9999"


def _checks(connection: Any, table: str) -> list[str]:
    return [str(check["name"]) for check in inspect(connection).get_check_constraints(table)]


class TestRecordedDatabase:
    def test_shows_what_the_old_version_showed(self, recorded: Database, old: dict[str, Any]) -> None:
        upgrade(recorded.write_engine)
        with recorded.read_session() as session:
            summary = build_summary(session, SearchRepository(session).get(1))
        shown = {name: summary[name] for name in old["summary"]}
        assert json.loads(json.dumps(shown)) == old["summary"]

    def test_keeps_every_row_and_every_revision(self, recorded: Database, old: dict[str, Any]) -> None:
        upgrade(recorded.write_engine)
        tables = Base.metadata.tables
        with recorded.read_session() as session:
            for name, content in old["tables"].items():
                found = session.execute(select(tables[name].c[content["columns"][0]])).all()
                assert len(found) == len(content["rows"]), name
            tallies = {tally.search_id: tally.revision for tally in session.scalars(select(SearchTally))}
        columns = old["tables"]["search"]["columns"]
        rows = [dict(zip(columns, row, strict=True)) for row in old["tables"]["search"]["rows"]]
        assert tallies == {row["id"]: row["revision"] for row in rows}

    def test_the_search_that_was_in_its_middle_goes_on_to_its_end(self, recorded: Database) -> None:
        upgrade(recorded.write_engine)
        installation = Installation(recorded)
        with recorded.read_session() as session:
            (running,) = session.scalars(select(Search).where(Search.state == SearchState.RUNNING)).all()
        installation.search_id = running.id
        installation.run(FakeWorker(recorded, "worker-0"))
        assert installation.state() is SearchState.SUCCEEDED
        with recorded.read_session() as session:
            assert all(job.state.ended for job in JobRepository(session).of_search(running.id))

    def test_several_processes_may_upgrade_it_at_once(self, recorded: Database) -> None:
        assert start_at_once(recorded) == [0] * STARTS
        assert current_revision(recorded.engine) == head_revision()
        with recorded.read_session() as session:
            assert len(session.scalars(select(SearchTally)).all()) == 2

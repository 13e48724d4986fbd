"""The migrations make exactly the models' schema, once, and leave a newer database alone."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import CheckConstraint, inspect, text

from services.common.db.migrations import current_revision, head_revision, upgrade
from services.common.db.models import Base, Owned
from services.common.db.session import Database
from services.common.errors import SchemaVersionError


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'nasdet.db'}")
    yield database
    database.close()


def test_a_new_database_has_the_schema_of_the_models(database: Database) -> None:
    assert current_revision(database.engine) is None
    upgrade(database.write_engine)
    upgrade(database.write_engine)
    assert current_revision(database.engine) == head_revision()
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        checks = {
            check["name"]: check["sqltext"].split()
            for table in Base.metadata.tables
            for check in inspect(connection).get_check_constraints(table)
        }
    expected = {
        str(constraint.name): _without_table(constraint, table.name)
        for table in Base.metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint)
    }
    assert checks == expected
    assert len(checks) == 8


def _without_table(constraint: CheckConstraint, table: str) -> list[str]:
    text = str(constraint.sqltext.compile(compile_kwargs={"literal_binds": True}))
    return text.replace(f"{table}.", "").split()


@pytest.mark.parametrize("attempt", range(10))
def test_several_processes_may_start_at_once(tmp_path: Path, attempt: int) -> None:
    """Again and again: the switch to WAL fails at once when two make it, in one of twenty starts or so."""
    url = f"sqlite:///{tmp_path / f'nasdet-{attempt}.db'}"
    databases = [Database(url) for _ in range(4)]
    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(lambda database: upgrade(database.write_engine), databases))
    assert current_revision(databases[0].engine) == head_revision()
    for database in databases:
        database.close()


def test_a_newer_database_is_refused_and_left_alone(database: Database) -> None:
    upgrade(database.write_engine)
    with database.write_session() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaVersionError, match="revision 9999"):
        upgrade(database.write_engine)
    assert current_revision(database.engine) == "9999"


def test_every_row_names_its_project_and_its_creator() -> None:
    roots = {"project", "account", "artifact"}  # what projects are made of; a file is known by its hash alone
    counted = {"search_tally", "standing", "front_member"}  # what follows from a search's own rows
    for mapper in Base.registry.mappers:
        if mapper.class_.__tablename__ not in roots | counted:
            assert issubclass(mapper.class_, Owned), mapper.class_

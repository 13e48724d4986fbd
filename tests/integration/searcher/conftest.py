"""A migrated database for each test, and the JSON of a search that nothing disturbed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.common.db.session import Database
from tests.support.searches import FakeWorker, Installation
from tests.support.stores import copied_database, migrated_template


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return migrated_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def new_installation(template: Path, tmp_path: Path) -> Iterator[Callable[[], Installation]]:
    """Makes fresh homes."""
    opened: list[Database] = []

    def make() -> Installation:
        database = copied_database(template, tmp_path / f"home-{len(opened)}.db")
        opened.append(database)
        return Installation(database)

    yield make
    for database in opened:
        database.close()


@pytest.fixture
def installation(new_installation: Callable[[], Installation]) -> Installation:
    return new_installation()


@pytest.fixture(scope="session")
def undisturbed(template: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one searcher and one worker find when nothing goes wrong."""
    database = copied_database(template, tmp_path_factory.mktemp("undisturbed") / "home.db")
    found = Installation(database)
    found.submit()
    result = found.run(FakeWorker(database))
    database.close()
    return result

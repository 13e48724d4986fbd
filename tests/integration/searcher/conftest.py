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
def finished(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A home whose search was done by one searcher and one worker, and nothing went wrong. To be read only."""
    found = Installation(copied_database(template, tmp_path_factory.mktemp("undisturbed") / "home.db"))
    found.submit()
    found.run(FakeWorker(found.database))
    yield found
    found.database.close()


@pytest.fixture(scope="session")
def undisturbed(finished: Installation) -> dict[str, Any]:
    """The JSON that every disturbed run has to repeat."""
    return finished.result()

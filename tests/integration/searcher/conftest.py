"""A migrated database of each kind for each test, and the JSON of a search that nothing disturbed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.searches import FakeWorker, Installation
from tests.support.stores import Store


@pytest.fixture
def new_installation(store: Store, tmp_path: Path) -> Iterator[Callable[[], Installation]]:
    """Makes fresh homes."""
    with ExitStack() as stack:

        def make() -> Installation:
            folder = tmp_path / f"home-{len(list(tmp_path.iterdir()))}"
            folder.mkdir()
            return Installation(stack.enter_context(store.database(folder)))

        yield make


@pytest.fixture
def installation(new_installation: Callable[[], Installation]) -> Installation:
    return new_installation()


@pytest.fixture(scope="session")
def finished(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A home whose search was done by one searcher and one worker, and nothing went wrong. To be read only."""
    with store.database(tmp_path_factory.mktemp("undisturbed")) as database:
        found = Installation(database)
        found.submit()
        found.run(FakeWorker(database))
        yield found


@pytest.fixture(scope="session")
def undisturbed(finished: Installation) -> dict[str, Any]:
    """The JSON that every disturbed run has to repeat."""
    return finished.result()

"""One API process for all tests of this folder on each kind of database; each test has a search of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stores import Store
from tests.support.worker_platform import WorkerPlatform


@pytest.fixture(scope="session")
def shared_platform(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerPlatform]:
    home: Path = tmp_path_factory.mktemp("home")
    url = store.url(home, migrated=False)
    environment = {"NASDET_DATABASE_URL": url, "NASDET_LEASE_SECONDS": "12", "NASDET_MAX_CRASHES": "2"}
    with WorkerPlatform(home, **environment) as platform:
        yield platform
    store.drop(url)


@pytest.fixture
def platform(shared_platform: WorkerPlatform) -> Iterator[WorkerPlatform]:
    """With no worker left running, so that the next test's jobs wait for its own worker."""
    yield shared_platform
    shared_platform.kill_workers()

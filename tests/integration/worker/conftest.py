"""One API process for all tests of this folder; each has a search of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.worker_platform import WorkerPlatform


@pytest.fixture(scope="session")
def shared_platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerPlatform]:
    home: Path = tmp_path_factory.mktemp("home")
    with WorkerPlatform(home, NASDET_LEASE_SECONDS="12", NASDET_MAX_CRASHES="2") as platform:
        yield platform


@pytest.fixture
def platform(shared_platform: WorkerPlatform) -> Iterator[WorkerPlatform]:
    """With no worker left running, so that the next test's jobs wait for its own worker."""
    yield shared_platform
    shared_platform.kill_workers()

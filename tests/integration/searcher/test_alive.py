"""The sign of life that the searcher's health check looks at."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from services.common import alive
from services.common.settings import SearcherSettings
from services.searcher.main import Searcher
from tests.support.searches import Installation

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)  # a file, whatever the database
def test_its_loop_goes_on_giving_it(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alive, "EVERY_SECONDS", 0.0)
    stop = threading.Event()
    searcher = Searcher(installation.database, SearcherSettings(home=tmp_path, poll_seconds=0.02))
    thread = threading.Thread(target=searcher.run, args=(stop,))
    thread.start()
    try:
        for _ in range(2):  # again after somebody took it away: not only at the start
            _wait_for(tmp_path / "alive")
            (tmp_path / "alive").unlink()
    finally:
        stop.set()
        thread.join()


def _wait_for(file: Path) -> None:
    deadline = time.monotonic() + 20
    while not file.exists():
        assert time.monotonic() < deadline, f"{file.name} did not appear"
        time.sleep(0.01)

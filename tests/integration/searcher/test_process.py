"""The searcher as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from services.common.db.migrations import current_revision, head_revision
from services.common.db.session import Database
from services.common.parent_watch import EXIT_PARENT_GONE
from tests.support.searches import FakeWorker, Installation
from tests.support.stores import Store

pytestmark = pytest.mark.integration


def start(home: Path, parent_pipe: int, url: str) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "NASDET_PARENT_PIPE": str(parent_pipe),
        "NASDET_POLL_SECONDS": "0.02",
        "NASDET_DATABASE_URL": url,
    }
    return subprocess.Popen(
        [sys.executable, "-m", "services.searcher", "--home", str(home)],
        env=environment,
        pass_fds=[parent_pipe],
        stderr=subprocess.PIPE,
    )


def test_a_killed_searcher_is_followed_by_one_that_ends_with_its_parent(
    installation: Installation, tmp_path: Path
) -> None:
    installation.submit(search={"algorithm": "random", "trials": 4}, final={"epochs": 1})
    worker = FakeWorker(installation.database)
    reading, writing = os.pipe()

    first = start(tmp_path, reading, installation.url)
    _work_until(installation, worker, stage="search")
    first.kill()
    first.communicate()
    second = start(tmp_path, reading, installation.url)
    _work_until(installation, worker, stage="done")
    os.close(writing)  # as when `nasdet up` was killed
    second.communicate(timeout=20)
    assert second.returncode == EXIT_PARENT_GONE

    os.close(reading)
    assert installation.summary()["search"]["state"] == "succeeded"


def test_a_stop_is_graceful_and_a_new_home_gets_its_schema(store: Store, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    url = store.url(tmp_path, migrated=False)
    searcher = start(tmp_path, reading, url)
    assert searcher.stderr is not None
    assert b"searcher.started" in searcher.stderr.readline()
    searcher.send_signal(signal.SIGTERM)
    searcher.communicate(timeout=20)
    assert searcher.returncode == 0
    database = Database(url)
    assert current_revision(database.engine) == head_revision()
    database.close()
    store.drop(url)
    os.close(reading)
    os.close(writing)


def _work_until(installation: Installation, worker: FakeWorker, *, stage: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if installation.summary()["search"]["stage"] == stage:
            return
        worker.advance()
        time.sleep(0.01)
    raise AssertionError(f"never came to stage {stage}: {installation.summary()}")

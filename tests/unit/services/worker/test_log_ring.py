"""The tail of an executor's output."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from services.worker.log_ring import LogRing


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    with contextlib.suppress(OSError):  # the test closed it
        os.close(writer)
    # The ring's thread must see the end before the number of its descriptor goes to the next test's pipe.
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and thread.name == "executor-log":
            thread.join()
    os.close(reader)


def test_settle_waits_for_everything_written_so_far(pipe: tuple[int, int]) -> None:
    ring = LogRing(pipe[0], limit=65536, echo=False)
    for count in range(1, 200):
        os.write(pipe[1], b"x" * 97)
        ring.settle()
        assert len(ring.text()) == 97 * count


def test_only_the_last_bytes_are_kept(pipe: tuple[int, int]) -> None:
    ring = LogRing(pipe[0], limit=100, echo=False)
    for number in range(1000):
        os.write(pipe[1], b"line %4d\n" % number)
    os.close(pipe[1])
    ring.join()
    assert len(ring.text()) == 100
    assert ring.text().endswith("line  998\nline  999\n")
    assert ring.written() == 10_000


def test_clear_starts_the_next_attempt(pipe: tuple[int, int]) -> None:
    ring = LogRing(pipe[0], limit=100, echo=False)
    os.write(pipe[1], b"attempt 1")
    ring.settle()
    ring.clear()
    os.write(pipe[1], b"attempt 2")
    ring.settle()
    assert ring.text() == "attempt 2"


def test_broken_characters_become_text_a_database_takes(pipe: tuple[int, int]) -> None:
    ring = LogRing(pipe[0], limit=3, echo=False)
    os.write(pipe[1], "aé\x00".encode())
    ring.settle()
    assert "\x00" not in ring.text()
    assert ring.text() == "é\N{REPLACEMENT CHARACTER}"


def test_what_an_executor_says_is_passed_on_as_events_with_its_job(capfd: pytest.CaptureFixture[str]) -> None:
    """In a process of its own, since a process sets its logs up once."""
    code = (
        "import os, sys\n"
        "from services.common.logging import configure_logging\n"
        "from services.worker.log_ring import LogRing\n"
        "configure_logging('worker', log_format='json')\n"
        "read, write = os.pipe()\n"
        "ring = LogRing(read, limit=1000)\n"
        "ring.clear(job=7, attempt=2)\n"
        "os.write(write, b'epoch 1\\nepo')\n"
        "os.write(write, b'ch 2\\n')\n"
        "os.close(write)\n"
        "ring.join()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    told = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [(entry["event"], entry["text"], entry["job"], entry["attempt"]) for entry in told] == [
        ("executor.said", "epoch 1", 7, 2),
        ("executor.said", "epoch 2", 7, 2),
    ]

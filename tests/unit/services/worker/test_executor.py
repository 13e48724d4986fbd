"""A real executor process, with quick planted jobs and no API behind it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.worker.channel import Message
from services.worker.child import ExecutorChild

ROOT = Path(__file__).resolve().parents[4]
CONFIGURATION = {
    "url": "http://127.0.0.1:9",  # nobody listens there
    "token": "token",
    "home": "/nonexistent",
    "device": "cpu",
    "threads": 1,
    "checkpoint_seconds": 15.0,
    "job_plugin": "tests.support.planted_jobs",
}
EVALUATE = {
    "id": 5,
    "kind": "evaluate",
    "attempt": 2,
    "payload": {"dataset_version": "d", "supernet_weights": "w"},
    "trials": [{"id": 1, "number": 0, "genotype": [0, 1]}],
    "checkpoint": None,
    "checkpoint_step": 0,
}


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Iterator[ExecutorChild]:
    monkeypatch.chdir(ROOT)
    started = ExecutorChild(CONFIGURATION, threads=1, log_tail=65536)
    yield started
    started.kill()


def wait_for(child: ExecutorChild, kind: str, seconds: float = 20.0) -> Message:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        message = child.receive(0.1)
        if message is not None and message["type"] == kind:
            return message
    raise AssertionError(f"no message {kind!r} within {seconds} s; the log is: {child.log.text()}")


def test_it_says_what_it_computes_on(child: ExecutorChild) -> None:
    ready = wait_for(child, "ready")
    assert ready["device_class"] == "cpu"
    assert ready["facts"]["threads"] == 1


def test_a_kind_of_job_it_does_not_know_is_a_sentence(child: ExecutorChild) -> None:
    child.send({"type": "job", "job": {**EVALUATE, "kind": "juggle"}})
    done = wait_for(child, "done")
    assert (done["job"], done["attempt"]) == (5, 2)
    assert done["done"]["outcome"] == "failed"
    assert "cannot do jobs of kind 'juggle'; it knows check_dataset" in done["done"]["reason"]


def test_waiting_for_the_api_is_progress_and_can_be_stopped(child: ExecutorChild) -> None:
    child.send({"type": "job", "job": EVALUATE})
    counters: list[int] = []
    while len(counters) < 3 or counters[-1] < 10:  # the candidate ticks six times; more is the waiting
        counters.append(wait_for(child, "progress")["counter"])
    child.send({"type": "stop", "job": 5, "attempt": 2})
    wait_for(child, "stopped", seconds=5)
    assert child.alive


def test_a_stop_for_another_attempt_stops_nothing(child: ExecutorChild) -> None:
    child.send({"type": "job", "job": EVALUATE})
    wait_for(child, "progress")
    child.send({"type": "stop", "job": 5, "attempt": 1})
    time.sleep(0.5)
    while (message := child.receive(0)) is not None:
        assert message["type"] == "progress"


def test_its_death_is_told_in_words(child: ExecutorChild) -> None:
    wait_for(child, "ready")
    os.kill(child.pid, signal.SIGKILL)
    wait_for(child, "died", seconds=2)
    assert child.death() == "was killed by SIGKILL, perhaps by the kernel for want of memory"


def test_it_does_not_outlive_its_supervisor() -> None:
    """Idle it writes nothing, so only the end of its stdin can tell it."""
    script = f"""
import time
from services.worker.child import ExecutorChild

child = ExecutorChild({CONFIGURATION!r}, threads=1, log_tail=1024)
child.receive(20)
print(child.pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 2
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{pid}").exists()

"""`nasdet worker`: one more worker beside an embedded platform, and what people tell it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nasdet_client.local.embedded import Embedded
from nasdet_client.local.home import Home

pytestmark = pytest.mark.integration

PLANTED = {"NASDET_JOB_PLUGIN": "tests.support.planted_jobs", "NASDET_DEVICE": "cpu"}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    notes: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for name, value in PLANTED.items():
            patch.setenv(name, value)
        with Embedded(Home(tmp_path_factory.mktemp("workers") / "home"), workers=1, notify=notes.append) as running:
            running.notes = notes  # type: ignore[attr-defined]  # for the test that reads them
            yield running


def nasdet(*arguments: str, platform: Embedded) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nasdet_client", "worker", *arguments, "--home", str(platform.home.path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def listed(platform: Embedded) -> dict[str, dict[str, Any]]:
    done = nasdet("list", "--json", platform=platform)
    assert done.returncode == 0, done.stderr
    return {worker["name"]: worker for worker in json.loads(done.stdout)}


def wait_until(what: str, holds: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_a_worker_is_started_listed_and_says_goodbye(platform: Embedded, tmp_path: Path) -> None:
    token = platform.home.worker_token_file
    command = [sys.executable, "-m", "nasdet_client", "worker", "--url", platform.url, "--token-file", str(token),
               "--name", "extra", "--slots", "2", "--threads", "1", "--home", str(tmp_path)]  # fmt: skip
    worker = subprocess.Popen(command, env={**os.environ, **PLANTED}, stderr=subprocess.DEVNULL)
    try:
        wait_until("both slots", lambda: {"extra-0", "extra-1"} <= set(listed(platform)))
        assert listed(platform)["extra-0"]["facts"]["threads"] == 1
        paused = json.loads(nasdet("pause", "extra", "--json", platform=platform).stdout)
        assert {item["name"]: item["mode"] for item in paused} == {"extra-0": "paused", "extra-1": "paused"}
        assert listed(platform)["worker-0"]["mode"] == "active"
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(10) == 0
        assert not {"extra-0", "extra-1"} & set(listed(platform))
    finally:
        worker.kill()
        worker.wait()


def test_pause_resume_and_a_drain_that_the_platform_respects(platform: Embedded) -> None:
    wait_until("the platform's worker", lambda: "worker-0" in listed(platform))
    assert nasdet("pause", "worker-0", platform=platform).returncode == 0
    assert listed(platform)["worker-0"]["mode"] == "paused"
    assert "paused" in nasdet("list", platform=platform).stdout
    assert "active" in nasdet("resume", "worker-0", platform=platform).stdout

    done = nasdet("drain", "worker-0", "--now", "--json", platform=platform)
    assert [item["mode"] for item in json.loads(done.stdout)] == ["leaving"]
    wait_until("its end", lambda: "worker-0" not in platform.processes(), 20)
    assert "worker-0" not in listed(platform)
    time.sleep(1.0)
    assert "worker-0" not in platform.processes()  # it is not started again
    assert "worker-0 ended as it was told to" in platform.notes  # type: ignore[attr-defined]


def test_what_is_wrong_is_one_sentence(platform: Embedded, tmp_path: Path) -> None:
    unknown = nasdet("pause", "nobody", platform=platform)
    assert unknown.returncode == 2
    assert "there is no worker 'nobody'" in unknown.stderr

    command = [sys.executable, "-m", "nasdet_client", "worker", "--slots", "2", "list"]
    misplaced = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert misplaced.returncode == 2
    assert "after the subcommand" in misplaced.stderr

    command = [sys.executable, "-m", "nasdet_client", "worker", "--home", str(tmp_path)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("NASDET_")}
    alone = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert alone.returncode == 2
    assert "--url" in alone.stderr

    command = [*command, "--url", platform.url]
    without = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert without.returncode == 1
    assert "worker-token" in without.stderr
    assert "Traceback" not in without.stderr

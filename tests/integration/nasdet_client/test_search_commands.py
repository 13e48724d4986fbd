"""`nasdet search pause|resume|priority|clone|retry` on a running platform, as typed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nasdet_client.local.embedded import Embedded
from nasdet_client.local.home import Home

pytestmark = pytest.mark.integration

SPECIFICATION: dict[str, Any] = {
    "schema": 1,
    "name": "a search",
    "dataset": "scenes",
    "detector": {
        "backbone": {"space": "detnas-300m", "width": 0.25},
        "neck": {"model": "fpn", "channels": 16, "extra_levels": 0},
        "head": {"model": "fcos", "convs": 1, "norm_groups": 4},
    },
    "search": {"algorithm": "random", "trials": 4},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Of a platform without workers: what is submitted to it stays queued."""
    folder = tmp_path_factory.mktemp("commands")
    (folder / "scenes").mkdir()
    with Embedded(Home(folder / "home"), workers=0) as running:
        running.home.register_dataset(folder / "scenes")
        (folder / "spec.yaml").write_text(json.dumps(SPECIFICATION))
        yield folder


def search(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nasdet_client", "search", *arguments, "--home", str(home / "home")]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def as_json(home: Path, *arguments: str) -> Any:
    done = search(home, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_search_is_steered_from_the_command_line(home: Path) -> None:
    number = str(as_json(home, "submit", str(home / "spec.yaml"), "--priority", "3")["search"]["id"])
    assert as_json(home, "pause", number)["search"]["state"] == "paused"
    shown = search(home, "show", number)
    assert "waits for somebody to resume it" in shown.stdout
    assert as_json(home, "resume", number)["search"]["state"] == "running"
    said = search(home, "priority", number, "7")
    assert (said.returncode, said.stderr) == (0, "")
    assert "none is there; start one with `nasdet worker`" in said.stdout
    assert next(item for item in as_json(home, "list") if item["id"] == int(number))["priority"] == 7
    assert as_json(home, "cancel", number)["search"]["state"] == "cancelled"
    again = as_json(home, "retry", number, "--gpu-hours", "5")
    assert (again["search"]["state"], again["spec"]["budget"]) == ("running", {"gpu_hours": 5.0})
    changes = home / "changes.yaml"
    changes.write_text("budget: null\nsearch: {algorithm: random, trials: 6}\n")
    cloned = as_json(home, "clone", number, "--changes", str(changes), "--seed", "9", "--name", "another")
    assert cloned["search"]["id"] != int(number)
    assert (cloned["spec"]["seed"], cloned["spec"]["name"]) == (9, "another")
    assert cloned["spec"]["search"]["trials"] == 6
    assert "budget" not in cloned["spec"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("pause", "999"), "there is no search 999"),
        (("retry", "999"), "there is no search 999"),
        (("clone", "999"), "there is no search 999"),
        (("priority", "999", "1"), "there is no search 999"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(home: Path, arguments: tuple[str, ...], words: str) -> None:
    done = search(home, *arguments)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.strip().count("\n") == 0
    assert words in done.stderr

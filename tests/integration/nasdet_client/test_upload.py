"""`nasdet data upload` and `nasdet data register --name`, as their user types them, at a platform of another home."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from nasdet_client.cli.main import app
from nasdet_client.local.archive import FolderArchive
from tests.support.api_process import ApiProcess, started_api

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    root = tmp_path_factory.mktemp("data")
    (root / "scenes").mkdir()
    with started_api(tmp_path_factory.mktemp("home"), data_root=root, collect_seconds=0.3, max_chunk=64 << 20) as api:
        yield api


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "My Cars (2)"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(os.urandom(1000))
    return folder


def arguments(api: ApiProcess, *words: object) -> list[str]:
    return ["data", *map(str, words), "--url", api.url, "--token", api.operator_token]


def run(api: ApiProcess, *words: object) -> Result:
    return CliRunner().invoke(app, arguments(api, *words))


def result_of(api: ApiProcess, *words: object) -> dict[str, Any]:
    result = run(api, *words, "--json")
    assert result.exit_code == 0, result.stderr
    body: dict[str, Any] = json.loads(result.stdout)
    return body


def refusal(api: ApiProcess, *words: object) -> str:
    result = run(api, *words)
    assert (result.exit_code, result.stdout) == (2, "")
    (sentence,) = [line for line in result.stderr.splitlines() if line.strip()]
    return str(sentence)


def archive_of(api: ApiProcess, name: str) -> str | None:
    with api.client(api.operator_token) as client:
        found: str | None = client.get(f"/v1/datasets/{name}").json()["archive"]
        return found


def test_a_folder_becomes_a_dataset_of_its_name(api: ApiProcess, folder: Path) -> None:
    body = result_of(api, "upload", folder)
    assert (body["name"], body["bytes"]) == ("my-cars-2", FolderArchive(folder).size)
    assert archive_of(api, "my-cars-2") == body["archive"]
    again = result_of(api, "upload", folder)
    assert again["upload"] == body["upload"]
    (folder / "more.jpg").write_bytes(b"another picture")
    newer = result_of(api, "upload", folder)
    assert archive_of(api, "my-cars-2") == newer["archive"] != body["archive"]
    assert "next: write `dataset: my-cars-2`" in run(api, "upload", folder).stdout


def test_a_client_that_is_killed_goes_on_where_it_was(api: ApiProcess, tmp_path: Path) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.bin").write_bytes(os.urandom(1 << 20) * 16)
    command = [sys.executable, "-m", "nasdet_client", *arguments(api, "upload", folder, "--json")]
    dying = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    sent = api.home / "artifacts" / "uploads"
    deadline = time.monotonic() + 60
    while sum(path.stat().st_size for path in sent.iterdir()) < 10 << 20 and time.monotonic() < deadline:
        time.sleep(0.005)
    dying.send_signal(signal.SIGKILL)
    dying.communicate()
    assert dying.returncode == -signal.SIGKILL
    (upload,) = sent.iterdir()
    there = upload.stat().st_size
    assert there >= 8 << 20
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    body = json.loads(done.stdout)
    assert archive_of(api, "large") == body["archive"]
    assert list(sent.iterdir()) == []


def test_refusals_are_sentences(api: ApiProcess, folder: Path, tmp_path: Path) -> None:
    assert "choose another name" in refusal(api, "upload", folder, "--name", "scenes")
    assert "choose another --name" in refusal(api, "upload", folder, "--name", "../scenes")
    assert "does not exist" in refusal(api, "upload", tmp_path / "nothing")
    assert "send it with `nasdet data upload DIR`" in refusal(api, "register", folder)
    assert "but got neither" in refusal(api, "register")
    assert "knows no dataset 'nothing' (known: " in refusal(api, "register", "--name", "nothing")


def test_a_folder_of_the_data_root_is_registered_by_its_name(api: ApiProcess) -> None:
    assert result_of(api, "register", "--name", "scenes")["name"] == "scenes"
    assert archive_of(api, "scenes") is None

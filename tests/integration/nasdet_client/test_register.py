"""A dataset that is registered while the platform of its home runs is known to that platform at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nasdet_client.cli.main import app
from nasdet_client.local.embedded import Embedded
from nasdet_client.local.home import Home
from nasdet_core.data.demo import write_demo_dataset

pytestmark = pytest.mark.integration


def test_the_running_platform_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NASDET_TOKEN", raising=False)
    monkeypatch.setenv("NASDET_URL", "http://127.0.0.1:9")  # another platform has nothing to do with this home
    data = write_demo_dataset(tmp_path / "scenes", train=12, val=6, test=6)
    with Embedded(Home(tmp_path / "home"), workers=0) as platform:
        arguments = ["data", "register", str(data), "--name", "digits", "--home", str(tmp_path / "home"), "--json"]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.stderr
        body = json.loads(result.stdout)
        assert (body["name"], body["platform"]) == ("digits", platform.url)
        with platform.client() as client:
            assert client.dataset("digits")["name"] == "digits"

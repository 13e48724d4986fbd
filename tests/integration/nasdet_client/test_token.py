"""`nasdet token` against a running platform."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from nasdet_client.cli.main import app
from nasdet_client.local.embedded import Embedded
from nasdet_client.local.home import Home

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    with Embedded(Home(tmp_path_factory.mktemp("tokens") / "home"), workers=0) as running:
        yield running


@pytest.fixture
def nasdet(platform: Embedded, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    for name in ("NASDET_TOKEN", "NASDET_URL"):
        monkeypatch.delenv(name, raising=False)
    home = str(platform.home.path)
    return lambda *arguments: CliRunner().invoke(app, ["token", *arguments, "--home", home])


def status(platform: Embedded, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.get(f"{platform.url}/v1/searches", headers=headers, trust_env=False).status_code


def test_a_token_lives_from_create_to_revoke(platform: Embedded, nasdet: Callable[..., Any]) -> None:
    made = nasdet("create", "alice", "--scope", "read", "--scope", "write", "--scope", "read")
    assert made.exit_code == 0, made.stderr
    token = made.stdout.strip()  # alone on stdout, for `$(nasdet token create ...)`
    assert token.startswith("nasdet_")
    assert "not shown again" in made.stderr
    assert token not in made.stderr
    assert status(platform, token) == 200

    listed = json.loads(nasdet("list", "--json").stdout)
    (entry,) = [entry for entry in listed if entry["name"] == "alice"]
    assert entry["scopes"] == ["read", "write"]
    table = nasdet("list").stdout
    assert "alice" in table
    assert token not in table + json.dumps(listed)

    assert nasdet("revoke", str(entry["id"])).exit_code == 0
    assert status(platform, token) == 401
    assert "revoked" in nasdet("list").stdout


def test_json_holds_the_token_once(platform: Embedded, nasdet: Callable[..., Any]) -> None:
    made = json.loads(nasdet("create", "node-1", "--scope", "worker", "--json").stdout)
    assert made["scopes"] == ["worker"]
    assert status(platform, made["token"]) == 403


def test_url_and_token_reach_a_platform_without_its_home(platform: Embedded, tmp_path: Path) -> None:
    token = platform.home.token()
    assert token is not None
    place = ["--url", platform.url, "--token", token, "--home", str(tmp_path)]
    assert CliRunner().invoke(app, ["token", "list", *place]).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["create", "alice"], 2, "--scope"),
        (["create", "a b", "--scope", "read"], 2, "name"),
        (["create", "alice", "--scope", "root"], 2, "root"),
        (["revoke", "0"], 2, "greater than or equal to 1"),
        (["revoke", "999"], 2, "there is no token 999"),
        (["revoke", "1"], 2, "token file"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    nasdet: Callable[..., Any], arguments: list[str], code: int, says: str
) -> None:
    ended = nasdet(*arguments)
    assert ended.exit_code == code, ended.stderr
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr

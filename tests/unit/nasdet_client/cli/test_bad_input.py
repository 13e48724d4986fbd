"""Bad input ends a command with exit code 2 and one sentence on stderr."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from nasdet_client.cli.main import app
from nasdet_client.cli.output import error_console

URL = ("--url", "http://127.0.0.1:9")
TOKEN = ("--token", "secret")


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NASDET_URL", "NASDET_TOKEN", "NASDET_HOME"):
        monkeypatch.delenv(name, raising=False)


def _refusal(*arguments: str) -> str:
    """What stderr gets; asserts that it is one line of a refused command."""
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("nasdet: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


class TestConnection:
    @pytest.mark.parametrize(
        "url", ["http://[::", "127.0.0.1:8765", "ftp://127.0.0.1", "http://", "http://h:99999999", "\udcff"]
    )
    def test_an_address_that_is_none(self, url: str, tmp_path: Path) -> None:
        text = _refusal("search", "list", "--url", url, *TOKEN, "--home", str(tmp_path))

        assert "expected an address such as http://127.0.0.1:8765" in text
        assert "--url" in text

    @pytest.mark.parametrize("token", ["é", "two words", "line\nbreak"])
    def test_a_token_that_no_header_carries(self, token: str, tmp_path: Path) -> None:
        text = _refusal("search", "list", *URL, "--token", token, "--home", str(tmp_path))

        assert "expected a token of visible ASCII characters" in text
        assert token not in text

    @pytest.mark.parametrize("content", [b"\xff\xfe", b"", b"\xc3\xa9\n"])
    def test_a_token_file_that_is_broken(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "token").write_bytes(content)

        text = _refusal("search", "list", *URL, "--home", str(tmp_path))

        assert str(tmp_path / "token") in text
        assert "--token" in text

    @pytest.mark.parametrize("content", ["{", "[]", "{}", '{"url": 3}', '{"url": "x"}'])
    def test_an_address_file_that_is_broken(self, content: str, tmp_path: Path) -> None:
        (tmp_path / "address.json").write_text(content)

        text = _refusal("search", "list", *TOKEN, "--home", str(tmp_path))

        assert str(tmp_path / "address.json") in text
        assert "--url" in text

    def test_a_home_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "home").write_text("")

        assert "Not a directory" in _refusal("search", "list", "--home", str(tmp_path / "home"))


class TestCost:
    @pytest.mark.parametrize("size", ["99999999999999999999,3", "3,16385", "0,3"])
    def test_a_side_out_of_range(self, size: str) -> None:
        text = _refusal("cost", "shufflenet_plain_40", "--genotype", "all-0", "--image-size", size)

        assert "1 to 16384 pixels" in text


@pytest.mark.parametrize("text", ["home /tmp/h[/red]x", "home [bold]x", "home :smile:"])
def test_notes_are_printed_as_they_are(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    error_console().print(text)

    assert capsys.readouterr().err == f"{text}\n"

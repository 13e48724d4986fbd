"""What `nasdet doctor` says of homes that are none."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from nasdet_client.local import doctor
from nasdet_client.local.finding import Finding


def _finding(home: Path, monkeypatch: pytest.MonkeyPatch) -> Finding:
    for slow in ("_torch", "_device"):
        monkeypatch.setattr(doctor, slow, lambda **_settings: Finding("torch", "ok", "not looked at"))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    return next(finding for finding in doctor.examine(home, port) if finding.subject == "home")


class TestHome:
    def test_a_schema_that_is_no_number(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "home.json").write_text('{"schema": "x"}')

        finding = _finding(tmp_path, monkeypatch)

        assert finding.verdict == "fails"
        assert "a whole number" in finding.text
        assert "--home" in finding.text

    def test_a_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "home").write_text("")

        finding = _finding(tmp_path / "home", monkeypatch)

        assert finding.verdict == "fails"
        assert "home is a file" in finding.text

    def test_a_folder_below_a_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").write_text("")

        assert _finding(tmp_path / "file" / "home", monkeypatch).verdict == "fails"

    def test_a_home_json_that_is_a_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "home.json").mkdir()

        finding = _finding(tmp_path, monkeypatch)

        assert finding.verdict == "fails"
        assert "Is a directory" in finding.text

    def test_a_folder_without_a_platform(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert _finding(tmp_path, monkeypatch).verdict == "ok"

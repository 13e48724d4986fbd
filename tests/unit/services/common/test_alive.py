"""The sign of life that health checks look at."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from services.common import alive
from services.common.alive import SignOfLife


class TestSignOfLife:
    def test_a_beat_makes_the_file_new(self, tmp_path: Path) -> None:
        file = tmp_path / "alive"
        file.touch()
        os.utime(file, (1.0, 1.0))

        SignOfLife(tmp_path).beat()

        assert file.stat().st_mtime > 1.0

    def test_beats_that_follow_at_once_write_nothing(self, tmp_path: Path) -> None:
        sign = SignOfLife(tmp_path)
        sign.beat()
        os.utime(tmp_path / "alive", (1.0, 1.0))

        sign.beat()

        assert (tmp_path / "alive").stat().st_mtime == 1.0

    def test_it_beats_again_after_its_pause(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(alive, "EVERY_SECONDS", 0.0)
        sign = SignOfLife(tmp_path)
        sign.beat()
        os.utime(tmp_path / "alive", (1.0, 1.0))

        sign.beat()

        assert (tmp_path / "alive").stat().st_mtime > 1.0

    def test_a_home_that_is_gone_is_told_and_stops_nothing(self, tmp_path: Path) -> None:
        with capture_logs() as lines:
            SignOfLife(tmp_path / "gone").beat()

        assert [line["event"] for line in lines] == ["alive.not_written"]
        assert "No such file" in lines[0]["reason"]

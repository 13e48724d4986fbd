"""Starting a worker: its settings, and what it may not import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.worker.__main__ import read_settings

ROOT = Path(__file__).resolve().parents[4]


def test_the_supervisor_and_what_it_uses_run_without_torch() -> None:
    script = (
        "import sys; import services.worker.__main__, services.worker.supervisor, services.worker.api_client; "
        "import services.worker.slot, services.worker.bell, services.worker.keeper, services.worker.watch; "
        "import services.worker.protocol, services.worker.executor, services.worker.jobs.trials; "
        "print(sorted({'torch', 'torchvision', 'pycocotools', 'celery', 'kombu'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class TestThreads:
    def test_half_of_the_cores_unless_told_otherwise(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("NASDET_THREADS", raising=False)
        monkeypatch.setattr(os, "cpu_count", lambda: 6)
        assert read_settings(["--home", "/home"]).threads == 3
        assert read_settings(["--home", "/home", "--threads", "2"]).threads == 2

    def test_a_variable_counts_as_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NASDET_THREADS", "1")
        monkeypatch.setattr(os, "cpu_count", lambda: 6)
        assert read_settings(["--home", "/home"]).threads == 1


def test_a_missing_home_is_one_sentence_and_bad_usage() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "services.worker"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "NASDET_HOME" in done.stderr
    assert "Traceback" not in done.stderr

"""API and searcher run in an environment without torch, so their suites must pass in one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.torch_free import torch_free_suites

# Which database is behind it has nothing to do with torch: on SQLite alone, for the sake of time.
PYTEST = (sys.executable, "-m", "pytest", "-p", "tests.support.block_torch", "-q", "-n", "0", "-k", "not postgres")


@pytest.mark.timeout(300)
def test_api_and_searcher_suites_pass_where_torch_cannot_be_imported(repository: Path, tmp_path: Path) -> None:
    command = [*PYTEST, "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'inner'}", *torch_free_suites(long=False)]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


def test_under_the_block_torch_really_cannot_be_imported(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "test_planted.py").write_text("def test_torch() -> None:\n    import torch\n")
    command = [
        *PYTEST,
        "-p",
        "no:cacheprovider",
        f"--rootdir={repository}",
        f"-c{repository / 'pyproject.toml'}",
    ]
    done = subprocess.run([*command, str(tmp_path)], cwd=repository, capture_output=True, text=True)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "No module named 'torch'" in done.stdout

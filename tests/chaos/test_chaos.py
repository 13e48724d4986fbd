"""The short form of `make chaos`, and the proof that it would see a platform without fencing."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

SEED = 1
SECONDS = 10  # of faults; each kind of fault is struck at least once
LAST_LINE = re.compile(
    r"chaos seed=\d+ store=\w+ faults=(?P<faults>\d+) trials=(?P<trials>\d+) lost=(?P<lost>\d+) "
    r"counted_twice=(?P<twice>\d+) fenced=(?P<fenced>\d+) poison_attempts=(?P<poison>\d+)$"
)
FENCE = "Job.id == job_id, Job.state == WorkState.RUNNING, Job.attempt == attempt, *also"
NO_FENCE = "Job.id == job_id, Job.state == WorkState.RUNNING, *also"


def chaos(tree: Path, store: str, folder: Path) -> subprocess.CompletedProcess[str]:
    arguments = ["--store", store, "--seed", str(SEED), "--seconds", str(SECONDS), "--folder", str(folder)]
    return subprocess.run(
        [sys.executable, "-m", "tests.chaos.run", *arguments], cwd=tree, capture_output=True, text=True
    )


@pytest.mark.timeout(400)
@pytest.mark.parametrize("store", ["postgres", "sqlite"])
def test_no_fault_loses_or_doubles_a_result(store: str, repository: Path, tmp_path: Path) -> None:
    done = chaos(repository, store, tmp_path)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
    last = LAST_LINE.match(done.stdout.splitlines()[-1])
    assert last is not None, done.stdout
    counts = {name: int(value) for name, value in last.groupdict().items()}
    assert (counts["lost"], counts["twice"], counts["poison"]) == (0, 0, 6)
    assert counts["trials"] >= 200
    assert counts["fenced"] >= 1
    assert counts["faults"] >= 12


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("store", ["postgres", "sqlite"])
def test_without_the_fencing_predicate_the_same_run_fails(store: str, repository: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name in ("nasdet_core", "nasdet_client", "services", "tests"):
        shutil.copytree(repository / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    fence = tree / "services" / "common" / "db" / "repositories" / "job_base.py"
    text = fence.read_text()
    assert text.count(FENCE) == 1, "the fencing predicate reads differently now; change this test with it"
    fence.write_text(text.replace(FENCE, NO_FENCE))
    done = chaos(tree, store, tmp_path / "run")
    assert done.returncode == 1, done.stdout[-8000:] + done.stderr[-4000:]
    assert re.search(r"a result of attempt \d+ counted although \d+ held the job", done.stdout), done.stdout
    assert "counted_twice=0" not in done.stdout.splitlines()[-1]

"""Descriptions and algorithms import where torch is not installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import importlib, pkgutil, sys
sys.modules["torch"] = None  # an import now fails as if it were not installed
sys.modules["torchvision"] = None
import nasdet_core.algorithms, nasdet_core.errors, nasdet_core.search_spaces
for package in (nasdet_core.algorithms, nasdet_core.search_spaces):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
space = nasdet_core.search_spaces.DetectorSpace.from_description(
    {"backbone": {"space": "detnas-300m"}, "neck": {"model": "fpn"}, "head": {"model": "fcos"}}, 80)
nasdet_core.algorithms.build_algorithm("detnas", space, [], 0, {}).ask(0, [])
sys.stdout.write(" ".join(sorted(name for name in sys.modules if name.startswith("nasdet_core."))))
"""


def test_search_spaces_and_algorithms_need_no_torch(repository: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, cwd=repository)
    assert done.returncode == 0, done.stderr
    loaded = {name.split(".")[1] for name in done.stdout.split()}
    assert loaded == {"algorithms", "errors", "search_spaces"}

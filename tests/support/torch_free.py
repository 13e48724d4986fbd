"""The suites that must pass where torch is not installed: what API and searcher are made of."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUITES = (
    "tests/unit/services/api",
    "tests/unit/services/searcher",
    "tests/unit/services/common",
    "tests/unit/nasdet_core/search_spaces",
    "tests/unit/nasdet_core/algorithms",
    "tests/contracts",
)


def torch_free_suites() -> list[str]:
    """Paths relative to the repository root."""
    missing = [suite for suite in SUITES if not (ROOT / suite).is_dir()]
    if missing:
        raise FileNotFoundError(f"torch-free suites that do not exist: {', '.join(missing)}")
    return list(SUITES)


if __name__ == "__main__":
    sys.stdout.write(" ".join(torch_free_suites()) + "\n")

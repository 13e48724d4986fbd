"""The suites that must pass where torch is not installed: what API and searcher are made of."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Quick enough to be run a second time, with torch blocked, by the default test run.
QUICK_SUITES = (
    "tests/unit/services/api",
    "tests/unit/services/searcher",
    "tests/unit/services/common",
    "tests/unit/nasdet_core/search_spaces",
    "tests/unit/nasdet_core/algorithms",
    "tests/contracts",
)
# Only where there is a whole environment without torch (`make test-no-torch`).
LONG_SUITES = ("tests/integration/searcher", "tests/integration/api")


def torch_free_suites(*, long: bool) -> list[str]:
    """Paths relative to the repository root."""
    suites = [*QUICK_SUITES, *(LONG_SUITES if long else ())]
    missing = [suite for suite in suites if not (ROOT / suite).is_dir()]
    if missing:
        raise FileNotFoundError(f"torch-free suites that do not exist: {', '.join(missing)}")
    return suites


if __name__ == "__main__":
    sys.stdout.write(" ".join(torch_free_suites(long=True)) + "\n")

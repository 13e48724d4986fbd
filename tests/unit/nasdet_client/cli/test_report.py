"""The report of a search says where the winner's weights are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nasdet_client.cli.report import print_report, weights_line

FIRST, SECOND, THIRD = ("ab" * 32, "cd" * 32, "ef" * 32)


def seed(number: int, box_map: float | None, weights: str | None) -> dict[str, Any]:
    return {"seed": number, "state": "succeeded", "box_map": box_map, "reason": None, "weights": weights}


def summary(*seeds: dict[str, Any], box_map: float | None = 0.5) -> dict[str, Any]:
    final = {
        "box_map": box_map, "box_ap50": 0.7, "standard_error": 0.01, "spread": [0.4, 0.6], "seeds": list(seeds),
        "macs": 1_000_000, "params": 100_000, "split": "test",
    }  # fmt: skip
    return {"search": {"id": 1, "name": "cells", "state": "succeeded"}, "image_size": [192, 256], "final": final}


def keep(home: Path, digest: str) -> Path:
    file = home / "artifacts" / digest[:2] / digest
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    return file


def test_the_file_of_the_home_is_named_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = keep(tmp_path, FIRST)
    print_report(summary(seed(0, 0.5, FIRST)), tmp_path)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"winner's weights (seed 0, AP 0.5000): {file}; ")
    assert f"nasdet predict {file} IMAGE" in last


@pytest.mark.parametrize("elsewhere", [True, False])
def test_without_such_a_file_the_artifact_is_named(tmp_path: Path, elsewhere: bool) -> None:
    line = weights_line(summary(seed(0, 0.5, FIRST)), tmp_path if elsewhere else None)
    assert line == f"winner's weights (seed 0, AP 0.5000): artifact {FIRST}"


def test_of_several_seeds_it_is_the_one_whose_ap_is_reported() -> None:
    seeds = (seed(0, 0.6, FIRST), seed(1, 0.5, SECOND), seed(2, 0.4, THIRD))
    assert SECOND in str(weights_line(summary(*seeds), None))


def test_seeds_that_failed_have_none() -> None:
    seeds = (seed(0, None, None), seed(1, 0.45, SECOND), seed(2, None, THIRD))
    assert SECOND in str(weights_line(summary(*seeds), None))


@pytest.mark.parametrize(
    "unfinished", [{"search": {}}, {"final": None}, summary(seed(0, None, None), box_map=None), summary()]
)
def test_a_search_without_a_winner_has_no_line(unfinished: dict[str, Any]) -> None:
    assert weights_line(unfinished, None) is None

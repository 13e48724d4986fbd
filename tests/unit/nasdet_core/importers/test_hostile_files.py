"""Files that mean harm are refused: nothing of them runs, and none costs more than 200 MB or takes for ever."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.hostile_files import HOSTILE, mapping, proto, storage, tensor, torch_legacy

MOST_MIB = 200
FOREIGN_NETWORKS = ("foreign_network_in_torch_legacy", "foreign_network_in_torch_zip")
MEASURE_ITSELF = "measure itself"  # of tests.support.refusal_costs

Refusals = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    """Every hostile file, with what its refusal must say."""
    directory = tmp_path_factory.mktemp("hostile")
    command = f"touch {directory / 'it-ran'}"
    files = {name: (directory / name, build(directory / name, command)) for name, build in HOSTILE.items()}
    for name in FOREIGN_NETWORKS:
        files[name] = (directory / name, foreign_network(directory / name, legacy="legacy" in name))
    return files


@pytest.fixture(scope="module")
def refusals(planted: dict[str, tuple[Path, str]], repository: Path) -> Refusals:
    command = [sys.executable, "-m", "tests.support.refusal_costs", *(str(file) for file, _ in planted.values())]
    result = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=150, check=False)
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    return {line["file"]: line for line in lines}


def foreign_network(file: Path, *, legacy: bool) -> str:
    """An honest file of 256 MiB, sparse on disk where it can be."""
    count = 2**26
    if not legacy:
        torch.save({"w": torch.zeros(count)}, file)
    else:
        top = proto(2, mapping(w=tensor(storage(count), (count,), (1,))))
        torch_legacy(file, top, rest=struct.pack("<q", count))
        os.truncate(file, file.stat().st_size + 4 * count)
    return "the blocks of a DetNAS backbone were expected"


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file_is_refused_at_little_cost(
    name: str, planted: dict[str, tuple[Path, str]], refusals: Refusals
) -> None:
    file, reason = planted[name]
    outcome = refusals[name]["outcome"]
    assert outcome.startswith(f"refused: {name}: "), outcome
    assert reason in outcome
    assert "\n" not in outcome
    assert refusals[name]["grown_mib"] <= MOST_MIB
    assert not (file.parent / "it-ran").exists()


@pytest.mark.parametrize("name", FOREIGN_NETWORKS)
def test_weights_of_another_network_are_refused_by_their_names_alone(
    name: str, planted: dict[str, tuple[Path, str]], refusals: Refusals
) -> None:
    assert planted[name][1] in refusals[name]["outcome"]
    assert refusals[name]["grown_mib"] <= MOST_MIB


def test_the_measure_sees_what_a_read_costs(refusals: Refusals) -> None:
    assert refusals[MEASURE_ITSELF]["grown_mib"] > 290

"""The proposals of seed 0, recorded: a search repeats exactly, also with a later version of nasdet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nasdet_core.algorithms import CompletedTrial, build_algorithm
from nasdet_core.search_spaces import DetectorSpace, Limit
from nasdet_core.search_spaces.base import Genotype

SPACE = DetectorSpace.from_description(
    {
        "backbone": {"space": "detnas-300m", "width": 0.5},
        "neck": {"model": "fpn", "channels": 64, "extra_levels": 0},
        "head": {"model": "fcos", "convs": 2, "norm_groups": 8},
    },
    3,
)
LIMITS = [Limit("macs", 80e6, "backbone", (224, 224))]
OPTIONS: dict[str, dict[str, Any]] = {
    "random": {"trials": 12},
    "detnas": {"population": 12, "generations": 4, "parents": 4},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_seed_0_proposes_what_was_recorded(name: str, recorded: Callable[[str, Any], Any]) -> None:
    algorithm = build_algorithm(name, SPACE, LIMITS, 0, OPTIONS[name])
    genotypes: list[Genotype] = []
    rows: list[dict[str, Any]] = []
    told = 0
    for number in range(algorithm.total_trials):
        while told < algorithm.visible(number):
            value = float(genotypes[told].count(3))  # any fixed objective
            algorithm.tell(CompletedTrial(told, genotypes[told], "succeeded", value))
            told += 1
        proposal = algorithm.ask(number, genotypes)
        genotypes.append(proposal.genotype)
        rows.append(
            {
                "genotype": " ".join(map(str, proposal.genotype)),
                "origin": proposal.origin,
                "parents": list(proposal.parents),
                "architecture_id": SPACE.architecture_id(proposal.genotype),
            }
        )
    assert rows == recorded(f"trajectory_{name}", rows)

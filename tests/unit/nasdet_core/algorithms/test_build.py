"""Names and options of algorithms, as a search specification gives them."""

from __future__ import annotations

from typing import Any

import pytest

from nasdet_core.algorithms import ALGORITHMS, DetNasEvolution, algorithm_options, build_algorithm
from nasdet_core.errors import SettingError, UnknownNameError
from nasdet_core.search_spaces import DetectorSpace

SPACE = DetectorSpace.from_description(
    {"backbone": {"space": "detnas-300m"}, "neck": {"model": "fpn"}, "head": {"model": "fcos"}}, 80
)


def test_the_public_names() -> None:
    assert set(ALGORITHMS) == {"random", "detnas"}


def test_options_reach_the_algorithm() -> None:
    search = build_algorithm("detnas", SPACE, [], 3, {"population": 12, "generations": 3, "mutations": 1})
    assert isinstance(search, DetNasEvolution)
    assert (search.population, search.generations, search.mutations, search.seed) == (12, 3, 1, 3)
    assert search.name == "detnas"


def test_options_are_listed_with_their_defaults() -> None:
    options = algorithm_options("detnas")
    assert options["population"] == 50
    assert {"generations", "parents", "mutations", "crossovers", "mutation_probability", "attempts"} < set(options)
    assert not {"space", "limits", "seed"} & set(options)


def test_an_unknown_algorithm_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="unknown algorithm 'nsga2'; known algorithms are random, detnas"):
        build_algorithm("nsga2", SPACE, [], 0, {})


@pytest.mark.parametrize("option", ["poplation", "space", "seed", "self"])
def test_an_unknown_option_is_refused_by_name(option: str) -> None:
    with pytest.raises(
        UnknownNameError, match=f"algorithm 'detnas': unknown key '{option}'; known keys are population"
    ):
        build_algorithm("detnas", SPACE, [], 0, {option: 1})


def test_a_missing_option_is_named() -> None:
    with pytest.raises(SettingError, match="algorithm 'random': trials was expected"):
        build_algorithm("random", SPACE, [], 0, {})


@pytest.mark.parametrize("seed", [-1, 2**63, 1.0, True, None])
def test_a_seed_that_is_none_is_refused(seed: Any) -> None:
    with pytest.raises(SettingError, match="seed: a whole number"):
        build_algorithm("random", SPACE, [], seed, {"trials": 1})

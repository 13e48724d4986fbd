"""Random search: uniform, without repeats, honest when the space is used up."""

from __future__ import annotations

from typing import Any

import pytest

from nasdet_core.algorithms import CompletedTrial, RandomSearch
from nasdet_core.errors import LimitError, SearchSpaceExhaustedError, SettingError, TrialOrderError
from nasdet_core.search_spaces import DetectorSpace, Limit

SPACE = DetectorSpace.from_description(
    {"backbone": {"space": "detnas-300m"}, "neck": {"model": "fpn"}, "head": {"model": "fcos"}}, 80
)


def test_a_fixed_detector_has_one_candidate_only() -> None:
    fixed = SPACE.fixed((0,) * 20)
    assert RandomSearch(fixed, [], 0, trials=1).ask(0, []).genotype == ()
    with pytest.raises(SearchSpaceExhaustedError, match="2 different candidates were asked for, but the space has 1"):
        RandomSearch(fixed, [], 0, trials=2)


def test_a_limit_nothing_satisfies_is_refused_at_the_start() -> None:
    with pytest.raises(LimitError, match="237,222,720"):
        RandomSearch(SPACE, [Limit("macs", 1e6, "backbone", (224, 224))], 0, trials=3)


def test_a_limit_hardly_anything_satisfies_ends_with_the_numbers() -> None:
    narrow = Limit("macs", 237_222_720, "backbone", (224, 224))
    search = RandomSearch(SPACE, [narrow], 0, trials=3, random_attempts=200)
    with pytest.raises(SearchSpaceExhaustedError, match="0 of 200 samples are within the limits"):
        search.ask(0, [])


def test_earlier_genotypes_are_never_proposed_again() -> None:
    search = RandomSearch(SPACE, [], 0, trials=5)
    first = search.ask(1, [(0,) * 20]).genotype
    assert search.ask(1, [first]).genotype != first


@pytest.mark.parametrize(("lag", "visible"), [(None, 0), (1, 9), (4, 6), (20, 0)])
def test_lag_bounds_how_far_asking_runs_ahead(lag: int | None, visible: int) -> None:
    assert RandomSearch(SPACE, [], 0, trials=20, lag=lag).visible(9) == visible


def test_with_lag_the_results_are_needed() -> None:
    search = RandomSearch(SPACE, [], 0, trials=20, lag=1)
    first = search.ask(0, []).genotype
    with pytest.raises(TrialOrderError, match=r"results of trials 0\.\.0, but only 0 were told"):
        search.ask(1, [first])
    search.tell(CompletedTrial(0, first, "failed", None))
    assert search.ask(1, [first]).genotype != first


@pytest.mark.parametrize("options", [{"trials": 0}, {"trials": 3, "lag": 0}, {"trials": 3, "random_attempts": 0}])
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match="random: "):
        RandomSearch(SPACE, [], 0, **options)

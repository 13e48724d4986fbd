"""Order, ties and front of candidates, against what is seen at a glance."""

from __future__ import annotations

import random

from services.common.db.models import Measurement, Trial
from services.common.ranking import ScoredTrial, difference_error, pareto_front, ranked, tied_with_best


def scored(
    number: int,
    value: float,
    *,
    macs: int = 100,
    jackknife: list[float] | None = None,
    images: int = 40,
    protocol: str = "p",
) -> ScoredTrial:
    measurement = Measurement(
        value=value,
        jackknife=jackknife,
        standard_error=0.01,
        fidelity={"images": images},
        protocol_hash=protocol,
    )
    return ScoredTrial(Trial(id=number + 100, number=number, macs=macs), measurement)


class TestFront:
    def test_equals_the_quadratic_definition(self) -> None:
        rng = random.Random(0)
        for _ in range(50):
            items = [scored(n, rng.randrange(8) / 10, macs=rng.randrange(8)) for n in range(12)]
            expected = {(a.box_map, a.trial.macs) for a in items if not any(_dominates(b, a) for b in items)}
            front = pareto_front(items)
            assert {(item.box_map, item.trial.macs) for item in front} == expected
            assert len(front) == len(expected)  # of equal ones only the first
            assert [item.trial.macs for item in front] == sorted(item.trial.macs for item in front)

    def test_of_equal_candidates_the_lower_number_stays(self) -> None:
        front = pareto_front([scored(5, 0.4), scored(3, 0.4)])
        assert [item.trial.number for item in front] == [3]


def _dominates(a: ScoredTrial, b: ScoredTrial) -> bool:
    no_worse = a.box_map >= b.box_map and a.trial.macs <= b.trial.macs
    return no_worse and (a.box_map, a.trial.macs) != (b.box_map, b.trial.macs)


class TestTies:
    def test_within_one_paired_error_is_tied(self) -> None:
        best = scored(0, 0.400, jackknife=[0.40, 0.41, 0.39])
        close = scored(1, 0.395, jackknife=[0.40, 0.40, 0.385])
        far = scored(2, 0.380, jackknife=[0.38, 0.39, 0.37])  # always 0.02 less: no error of the difference
        assert difference_error(best.measurement, far.measurement) < 1e-9
        assert tied_with_best([best, close, far]) == [1]

    def test_without_pairs_the_single_errors_count(self) -> None:
        assert tied_with_best([scored(0, 0.400), scored(1, 0.387), scored(2, 0.385)]) == [1]

    def test_nothing_is_tied_with_nothing(self) -> None:
        assert tied_with_best([]) == []


class TestRanked:
    def test_the_best_comes_first_and_of_equal_ones_the_lower_number(self) -> None:
        items = [scored(3, 0.2), scored(2, 0.4), scored(0, 0.1), scored(1, 0.4)]
        assert [item.trial.number for item in ranked(items)] == [1, 2, 3, 0]

    def test_a_trial_is_ranked_once(self) -> None:
        twice = scored(0, 0.3)
        assert len(ranked([twice, ScoredTrial(twice.trial, twice.measurement)])) == 1

    def test_full_fidelity_wins_over_the_more_common(self) -> None:
        items = [scored(0, 0.9, images=10), scored(1, 0.8, images=10), scored(2, 0.3, images=40)]
        assert [item.trial.number for item in ranked(items)] == [2]

    def test_of_one_fidelity_the_commonest_protocol_is_compared(self) -> None:
        items = [scored(0, 0.9, protocol="z"), scored(1, 0.3), scored(2, 0.2)]
        assert [item.trial.number for item in ranked(items)] == [1, 2]

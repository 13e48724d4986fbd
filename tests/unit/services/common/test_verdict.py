"""The sentence about winner and baseline claims what the numbers hold, and no more."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import pytest

from services.common.db.models import Measurement
from services.common.verdict import compare, sentence


def runs(*values: float, jackknife: Sequence[float] | None = None, error: float | None = 0.0) -> dict[int, Measurement]:
    leave_out = list(jackknife) if jackknife is not None else None
    return {
        seed: Measurement(value=value, standard_error=error, jackknife=leave_out) for seed, value in enumerate(values)
    }


def told(winner: dict[int, Measurement], baseline: dict[int, Measurement]) -> str:
    return sentence(compare(winner, baseline), first="the winner", second="the baseline")


class TestCompare:
    def test_the_difference_is_that_of_the_medians(self) -> None:
        assert compare(runs(0.5, 0.1, 0.4), runs(0.3, 0.3, 0.9)).difference == pytest.approx(0.1)

    def test_spread_over_seeds_and_choice_of_images_add_up_in_squares(self) -> None:
        winner, baseline = runs(0.40, 0.42, 0.44, error=0.03), runs(0.30, 0.30, 0.30, error=0.04)
        over_seeds = statistics.stdev([0.40, 0.42, 0.44]) / math.sqrt(3)
        assert compare(winner, baseline).error == pytest.approx(math.hypot(over_seeds, 0.05))

    def test_the_error_by_images_is_paired_where_both_saw_the_same_groups(self) -> None:
        leave_out = [0.5, 0.25, 0.375, 0.5]
        shifted = [value - 0.125 for value in leave_out]
        winner = runs(0.40, jackknife=leave_out, error=0.05)
        assert compare(winner, runs(0.38, jackknife=shifted, error=0.05)).error is None  # no error is left at all
        assert compare(winner, runs(0.38, jackknife=shifted[:3], error=0.05)).error == pytest.approx(
            math.hypot(0.05, 0.05)
        )

    def test_seeds_are_paired_where_both_have_them(self) -> None:
        winner = {0: Measurement(value=0.4, standard_error=0.03), 2: Measurement(value=0.4, standard_error=0.3)}
        baseline = {0: Measurement(value=0.3, standard_error=0.04), 1: Measurement(value=0.3, standard_error=0.4)}
        assert compare(winner, baseline).error == pytest.approx(0.05)


class TestSentence:
    def test_wins(self) -> None:
        text = told(runs(0.46, 0.46, error=0.01), runs(0.40, 0.40, error=0.01))
        assert text == "The winner wins by 0.0600 ± 0.0141 over the baseline."

    def test_loses(self) -> None:
        text = told(runs(0.40, 0.40, error=0.01), runs(0.46, 0.46, error=0.01))
        assert text == "The winner loses by 0.0600 ± 0.0141 against the baseline."

    @pytest.mark.parametrize("value", [0.41, 0.39])
    def test_says_so_when_the_difference_is_within_the_error(self, value: float) -> None:
        text = told(runs(value, value, error=0.01), runs(0.40, 0.40, error=0.01))
        assert text.endswith("no difference within the error.")

    def test_calls_less_than_two_errors_weak(self) -> None:
        text = told(runs(0.42, 0.42, error=0.01), runs(0.40, 0.40, error=0.01))
        assert "wins by 0.0200 ± 0.0141" in text
        assert text.endswith("(less than two errors: weak evidence).")

    def test_says_that_one_seed_tells_no_spread(self) -> None:
        text = told(runs(0.50, error=0.01), runs(0.40, error=0.01))
        assert text.endswith("(one seed: the spread over seeds is unknown).")

    def test_claims_nothing_without_any_error(self) -> None:
        text = told(runs(0.50, error=None), runs(0.40, error=None))
        assert text == "The winner differs by +0.1000 from the baseline, but no error is known, so this says nothing."

"""When two candidates are as good as each other, against what is seen at a glance."""

from __future__ import annotations

from services.common.db.models import Measurement, Trial
from services.common.ranking import ScoredTrial, difference_error, is_tied


def scored(number: int, value: float, *, jackknife: list[float] | None = None) -> ScoredTrial:
    measurement = Measurement(value=value, jackknife=jackknife, standard_error=0.01)
    return ScoredTrial(Trial(id=number + 100, number=number), measurement)


def test_within_one_paired_error_is_tied() -> None:
    best = scored(0, 0.400, jackknife=[0.40, 0.41, 0.39])
    close = scored(1, 0.395, jackknife=[0.40, 0.40, 0.385])
    far = scored(2, 0.380, jackknife=[0.38, 0.39, 0.37])  # always 0.02 less: no error of the difference
    assert difference_error(best.measurement, far.measurement) < 1e-9
    assert [is_tied(best, other) for other in (close, far)] == [True, False]


def test_without_pairs_the_single_errors_count() -> None:
    best = scored(0, 0.400)
    assert [is_tied(best, other) for other in (scored(1, 0.387), scored(2, 0.385))] == [True, False]

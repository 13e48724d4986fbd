"""How pending trials are cut into lists."""

from __future__ import annotations

import pytest

from services.common.db.models import Trial
from services.searcher.dispatch import list_length, seconds_per_trial


@pytest.mark.parametrize(
    ("pending", "workers", "seconds", "length"),
    [
        (12, 1, None, 12),
        (12, 2, None, 6),
        (12, 5, None, 3),
        (12, 0, None, 12),  # nobody is there yet: whoever comes takes it
        (12, 50, None, 1),
        (50, 1, None, 25),  # nobody knows how long one takes
        (50, 1, 1.0, 50),
        (50, 1, 60.0, 10),  # 10 minutes at most
        (11, 1, 60.0, 6),  # not 10 and 1
        (3, 1, 3600.0, 1),
        (1, 1, 0.01, 1),
    ],
)
def test_lists_share_the_work_and_last_ten_minutes_at_most(
    pending: int, workers: int, seconds: float | None, length: int
) -> None:
    assert list_length(pending, workers, seconds) == length


def test_the_time_of_a_trial_is_the_median_of_all_its_parts() -> None:
    trials = [Trial(seconds={"recalibration": 1.0, "inference": n}) for n in (7, 100, 3)]
    assert seconds_per_trial(trials) == pytest.approx(1 + 7)


def test_unmeasured_trials_tell_no_time() -> None:
    assert seconds_per_trial([Trial(seconds=None), Trial(seconds={})]) is None

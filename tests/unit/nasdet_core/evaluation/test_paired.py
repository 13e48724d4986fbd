"""Standard errors from jackknife values."""

from __future__ import annotations

import numpy as np
import pytest

from nasdet_core.errors import SettingError
from nasdet_core.evaluation.paired import jackknife_standard_error, paired_standard_error, tied


def leave_one_out_means(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[float]:
    return [float((values.sum() - value) / (len(values) - 1)) for value in values]


def test_of_a_mean_it_is_the_textbook_error() -> None:
    values = np.random.default_rng(0).normal(0, 1, 50)
    assert jackknife_standard_error(leave_one_out_means(values)) == pytest.approx(values.std(ddof=1) / np.sqrt(50))


def test_what_both_candidates_share_cancels() -> None:
    rng = np.random.default_rng(0)
    images, a, b = rng.normal(0, 1, 50), rng.normal(0, 0.1, 50), rng.normal(0, 0.1, 50)
    first, second = leave_one_out_means(images + a), leave_one_out_means(images + b)
    assert paired_standard_error(first, second) == pytest.approx((a - b).std(ddof=1) / np.sqrt(50))
    assert paired_standard_error(first, second) < 0.2 * jackknife_standard_error(first)
    assert paired_standard_error(first, first) == 0
    assert paired_standard_error(first, second) == paired_standard_error(second, first)


def test_tied_within_one_error() -> None:
    first, second = (0.40, 0.42, 0.38), (0.40, 0.40, 0.40)
    error = paired_standard_error(first, second)
    assert tied(0.40, 0.40 + 0.99 * error, first, second)
    assert not tied(0.40, 0.40 + 1.01 * error, first, second)
    assert tied(0.40, 0.40 + 1.99 * error, first, second, errors=2)


def test_only_the_same_groups_can_be_paired() -> None:
    with pytest.raises(SettingError, match="same image groups, found 2 and 3"):
        paired_standard_error((0.1, 0.2), (0.1, 0.2, 0.3))
    with pytest.raises(SettingError, match="at least 2 leave-out values"):
        jackknife_standard_error((0.1,))

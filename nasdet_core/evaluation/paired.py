"""How sure a difference of two AP values is: the delete-a-group jackknife over fixed groups of images.

For G groups and the values theta_g computed without group g, the variance of the full-set value is
estimated as (G - 1) / G * sum_g (theta_g - mean(theta))^2 (Tukey 1958; Efron and Tibshirani 1993, "An
Introduction to the Bootstrap", chapter 11; with groups: Kott 2001, "The Delete-a-Group Jackknife", Journal
of Official Statistics 17). For two candidates scored on the same images the same formula is applied to the
differences a_g - b_g: what makes an image hard for both cancels, so the paired error is smaller than the
two single errors suggest.

It measures the noise of the choice of images only, not that of training.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nasdet_core.errors import SettingError


def jackknife_standard_error(leave_out: Sequence[float]) -> float:
    """Standard error of a value from its leave-one-group-out values (at least two)."""
    values = np.asarray(leave_out, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise SettingError(f"a jackknife needs at least 2 leave-out values, found {values.size}")
    groups = len(values)
    return float(np.sqrt((groups - 1) / groups * np.sum((values - values.mean()) ** 2)))


def paired_standard_error(jackknife_a: Sequence[float], jackknife_b: Sequence[float]) -> float:
    """Standard error of the difference a - b of two candidates scored on the same images and groups."""
    if len(jackknife_a) != len(jackknife_b):
        raise SettingError(
            f"two candidates can be paired only on the same image groups, found {len(jackknife_a)} and "
            f"{len(jackknife_b)} of them; score both on the same split"
        )
    difference = np.asarray(jackknife_a, dtype=np.float64) - np.asarray(jackknife_b, dtype=np.float64)
    return jackknife_standard_error(difference.tolist())


def tied(
    value_a: float,
    value_b: float,
    jackknife_a: Sequence[float],
    jackknife_b: Sequence[float],
    *,
    errors: float = 1.0,
) -> bool:
    """Whether two candidates are within `errors` paired standard errors of each other."""
    return abs(value_a - value_b) <= errors * paired_standard_error(jackknife_a, jackknife_b)

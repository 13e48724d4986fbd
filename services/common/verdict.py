"""Winner against baseline: a difference, its error, and a sentence that claims no more than they hold."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from services.common.db.models import Measurement
from services.common.ranking import difference_error

Outcome = Literal["wins", "loses", "no difference"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """`difference` of the medians over seeds, first minus second; `error` is None when none is known."""

    difference: float
    error: float | None
    seeds: int  # the fewer of both sides

    @property
    def outcome(self) -> Outcome:
        if self.error is None or abs(self.difference) <= self.error:
            return "no difference"
        return "wins" if self.difference > 0 else "loses"


def compare(first: Mapping[int, Measurement], second: Mapping[int, Measurement]) -> Comparison:
    """Compare two detectors trained with several seeds each (seed -> measurement on the report split).

    Two sources of error add up in squares: the spread over seeds of either side, and the choice of images.
    """
    values = [[measurement.value for measurement in side.values()] for side in (first, second)]
    seeds_error = math.hypot(*(_error_of_seeds(side) for side in values))
    images_error = _error_of_images(first, second)
    known = images_error > 0 or seeds_error > 0
    return Comparison(
        difference=statistics.median(values[0]) - statistics.median(values[1]),
        error=math.hypot(seeds_error, images_error) if known else None,
        seeds=min(len(side) for side in values),
    )


def _error_of_seeds(values: list[float]) -> float:
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def _error_of_images(first: Mapping[int, Measurement], second: Mapping[int, Measurement]) -> float:
    """The mean over pairs of runs, of the same seed where both have it."""
    seeds = sorted(first.keys() & second.keys())
    pairs = [(first[seed], second[seed]) for seed in seeds] or list(zip(first.values(), second.values(), strict=False))
    return statistics.fmean(difference_error(a, b) for a, b in pairs)


def sentence(comparison: Comparison, *, first: str, second: str) -> str:
    """`first` and `second` name both sides with their AP, e.g. "the winner (AP 0.441 on test)"."""
    size = abs(comparison.difference)
    opening = f"{first[:1].upper()}{first[1:]}"
    if comparison.error is None:
        return (
            f"{opening} differs by {comparison.difference:+.4f} from {second}, "
            "but no error is known, so this says nothing."
        )
    error = f"{comparison.error:.4f}"
    if comparison.outcome == "no difference":
        text = (
            f"{opening} and {second} differ by {comparison.difference:+.4f} ± {error}: no difference within the error"
        )
    elif comparison.outcome == "wins":
        text = f"{opening} wins by {size:.4f} ± {error} over {second}"
    else:
        text = f"{opening} loses by {size:.4f} ± {error} against {second}"
    return f"{text}{_doubts(comparison)}."


def _doubts(comparison: Comparison) -> str:
    doubts = []
    if comparison.error is not None and comparison.error < abs(comparison.difference) <= 2 * comparison.error:
        doubts.append("less than two errors: weak evidence")
    if comparison.seeds == 1:
        doubts.append("one seed: the spread over seeds is unknown")
    return f" ({'; '.join(doubts)})" if doubts else ""

"""The order of a search's candidates: which is best, which is as good within the error, which is on the front.

Only succeeded trials measured under one protocol at full fidelity are compared. Equal APs go by the lower
number, so the order never hangs on when a result came in.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from nasdet_core.evaluation.paired import paired_standard_error
from services.common.db.models import Measurement, Trial
from services.common.db.states import WorkState

OBJECTIVE = "box_map"
FEWEST_GROUPS = 2  # of images, for a jackknife


@dataclass(frozen=True, slots=True)
class ScoredTrial:
    """A candidate with the measurement that it is ranked by."""

    trial: Trial
    measurement: Measurement

    @property
    def box_map(self) -> float:
        return self.measurement.value


def ranked_trials(session: Session, search_id: int) -> list[ScoredTrial]:
    """Candidates that can be compared, the best first."""
    rows = session.execute(
        select(Trial, Measurement)
        .join(Measurement, Measurement.trial_id == Trial.id)
        .where(
            Trial.search_id == search_id,
            Trial.state == WorkState.SUCCEEDED,
            Measurement.metric == OBJECTIVE,
        )
        .order_by(Trial.number, Measurement.id)
    )
    return ranked([ScoredTrial(trial, measurement) for trial, measurement in rows])


def ranked(scored: Sequence[ScoredTrial]) -> list[ScoredTrial]:
    """Those that can be compared, the best first; of equal ones the lower number."""
    return sorted(_one_protocol(scored), key=lambda item: (-item.box_map, item.trial.number))


def tied_with_best(order: Sequence[ScoredTrial]) -> list[int]:
    """Numbers of the trials whose distance to the best is within one paired error of it."""
    if not order:
        return []
    best = order[0]
    tied = [
        other.trial.number
        for other in order[1:]
        if best.box_map - other.box_map <= difference_error(best.measurement, other.measurement)
    ]
    return sorted(tied)


def difference_error(a: Measurement, b: Measurement) -> float:
    """The standard error of `a - b` that comes from the choice of images.

    Both see the same images, so the errors are paired where both have leave-one-group-out values of the same
    groups; elsewhere they are taken as independent, which is the larger error.
    """
    if a.jackknife and b.jackknife and len(a.jackknife) == len(b.jackknife) >= FEWEST_GROUPS:
        return paired_standard_error(a.jackknife, b.jackknife)
    return math.hypot(a.standard_error or 0.0, b.standard_error or 0.0)


def pareto_front(order: Sequence[ScoredTrial]) -> list[ScoredTrial]:
    """Highest AP against fewest MACs of the whole detector, from few MACs to many."""
    front: list[ScoredTrial] = []
    by_cost = sorted(order, key=lambda scored: (scored.trial.macs, -scored.box_map, scored.trial.number))
    for scored in by_cost:
        if not front or scored.box_map > front[-1].box_map:
            front.append(scored)
    return front


def _one_protocol(scored: Sequence[ScoredTrial]) -> list[ScoredTrial]:
    """One measurement per trial, all of the fullest fidelity and, among those, of the commonest protocol."""
    groups = Counter(_protocol(item.measurement) for item in scored)
    if not groups:
        return []
    chosen = max(groups, key=lambda group: (group[0], groups[group], group[1:]))
    firsts: dict[int, ScoredTrial] = {}
    for item in scored:
        if _protocol(item.measurement) == chosen:
            firsts.setdefault(item.trial.id, item)
    return list(firsts.values())


def _protocol(measurement: Measurement) -> tuple[int, str, str]:
    fidelity = measurement.fidelity
    images = int(fidelity["images"]) if "images" in fidelity else 0
    return images, json.dumps(fidelity, sort_keys=True), measurement.protocol_hash

"""The order of a search's candidates: which is best, which is as good within the error, which is on the front.

Only succeeded trials measured under one protocol at full fidelity are compared (db/standings.py says which one).
Equal APs go by the lower number, so the order never hangs on when a result came in. Nothing here reads all trials of
a search: people poll it while it grows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, false, select
from sqlalchemy.orm import Session

from nasdet_core.evaluation.paired import paired_standard_error
from services.common.db.models import FrontMember, Measurement, Trial
from services.common.db.standings import OBJECTIVE, chosen_protocol

FEWEST_GROUPS = 2  # of images, for a jackknife
RANDOM_GENERATION = 0  # candidates that were drawn, not bred
TIES_LOOKED_AT = 200
BATCH = 500  # ids in one query


@dataclass(frozen=True, slots=True)
class ScoredTrial:
    """A candidate with the measurement that it is ranked by."""

    trial: Trial
    measurement: Measurement

    @property
    def box_map(self) -> float:
        return self.measurement.value


def best_trials(session: Session, search_id: int, limit: int) -> list[ScoredTrial]:
    """The first `limit` of the candidates that can be compared, the best first."""
    protocol = chosen_protocol(session, search_id)
    statement = (
        select(Trial).where(*_comparable(search_id, protocol)).order_by(Trial.value.desc(), Trial.number).limit(limit)
    )
    return _with_measurements(session, session.scalars(statement).all())


def random_trials(session: Session, search_id: int, limit: int) -> list[ScoredTrial]:
    """The first `limit` comparable candidates, by number, that were drawn at random."""
    protocol = chosen_protocol(session, search_id)
    statement = (
        select(Trial)
        .where(*_comparable(search_id, protocol), Trial.generation == RANDOM_GENERATION)
        .order_by(Trial.number)
        .limit(limit)
    )
    return _with_measurements(session, session.scalars(statement).all())


def front_trials(session: Session, search_id: int) -> list[ScoredTrial]:
    """Highest AP against fewest MACs of the whole detector, from few MACs to many."""
    protocol = chosen_protocol(session, search_id)
    statement = (
        select(Trial)
        .join(FrontMember, FrontMember.trial_id == Trial.id)
        .where(FrontMember.search_id == search_id, FrontMember.protocol == protocol)
        .order_by(FrontMember.macs)
    )
    return _with_measurements(session, session.scalars(statement).all())


def tied_with_best(session: Session, search_id: int) -> list[int]:
    """Numbers of the trials whose distance to the best is within one paired error of it.

    Looked for among the best `TIES_LOOKED_AT`: where more are tied, the longer list would say no more.
    """
    order = best_trials(session, search_id, 1 + TIES_LOOKED_AT)
    return sorted(other.trial.number for other in order[1:] if is_tied(order[0], other))


def is_tied(best: ScoredTrial, other: ScoredTrial) -> bool:
    return best.box_map - other.box_map <= difference_error(best.measurement, other.measurement)


def difference_error(a: Measurement, b: Measurement) -> float:
    """The standard error of `a - b` that comes from the choice of images.

    Both see the same images, so the errors are paired where both have leave-one-group-out values of the same
    groups; elsewhere they are taken as independent, which is the larger error.
    """
    if a.jackknife and b.jackknife and len(a.jackknife) == len(b.jackknife) >= FEWEST_GROUPS:
        return paired_standard_error(a.jackknife, b.jackknife)
    return math.hypot(a.standard_error or 0.0, b.standard_error or 0.0)


def _comparable(search_id: int, protocol: str | None) -> tuple[ColumnElement[bool], ...]:
    """Only succeeded trials have a value and a protocol; with no protocol yet there is nothing to compare."""
    if protocol is None:
        return (false(),)
    return Trial.search_id == search_id, Trial.protocol == protocol, Trial.value.is_not(None)


def _with_measurements(session: Session, trials: Sequence[Trial]) -> list[ScoredTrial]:
    """In the order of `trials`; a trial's first measurement of the objective is the one it is ranked by."""
    found: dict[int | None, Measurement] = {}
    ids = [trial.id for trial in trials]
    for start in range(0, len(ids), BATCH):
        rows = session.scalars(
            select(Measurement)
            .where(Measurement.trial_id.in_(ids[start : start + BATCH]), Measurement.metric == OBJECTIVE)
            .order_by(Measurement.id)
        )
        for row in rows:
            found.setdefault(row.trial_id, row)
    return [ScoredTrial(trial, found[trial.id]) for trial in trials]

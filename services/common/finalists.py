"""What the finalists of a search reached: one entry per role and rank, with the spread over its seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.common.db.models import Finalist, Measurement, Trial
from services.common.db.states import FinalistRole, WorkState

AP, AP50 = "box_map", "box_ap50"


@dataclass(frozen=True)
class Contender:
    """One architecture of one role, trained once per seed."""

    role: FinalistRole
    rank: int
    trial_number: int | None
    runs: tuple[Finalist, ...]  # by seed
    measured: Mapping[int, Mapping[str, Measurement]]  # seed -> metric -> measurement, of succeeded runs

    @property
    def by_seed(self) -> dict[int, Measurement]:
        """AP on the report split of every seed that has one."""
        return {seed: metrics[AP] for seed, metrics in self.measured.items() if AP in metrics}

    @property
    def box_map(self) -> float | None:
        """The median over seeds."""
        return _median([measurement.value for measurement in self.by_seed.values()])

    @property
    def split(self) -> str | None:
        return next((measurement.split for measurement in self.by_seed.values()), None)

    def to_json(self) -> dict[str, Any]:
        """AP 0..1. `standard_error` is that of one run, by the choice of images; `spread` is over seeds."""
        run = self.runs[0]
        values = [measurement.value for measurement in self.by_seed.values()]
        errors = [m.standard_error for m in self.by_seed.values() if m.standard_error is not None]
        ap50 = [metrics[AP50].value for metrics in self.measured.values() if AP50 in metrics]
        return {
            "trial": self.trial_number,
            "genotype": list(run.genotype),
            "architecture_id": run.architecture_id,
            "box_map": self.box_map,
            "box_ap50": _median(ap50),
            "standard_error": _median(errors),
            "spread": [min(values), max(values)] if values else None,
            "seeds": [self._seed_json(run) for run in self.runs],
            "macs": run.macs,
            "params": run.params,
            "split": self.split,
        }

    def _seed_json(self, run: Finalist) -> dict[str, Any]:
        measurement = self.by_seed.get(run.seed)
        return {
            "seed": run.seed,
            "state": run.state.value,
            "box_map": measurement.value if measurement else None,
            "reason": run.reason,
            "weights": run.weights,  # SHA-256 of the detector file
        }


def contenders(session: Session, search_id: int) -> list[Contender]:
    """All finalists of a search, grouped by role and rank."""
    runs = session.scalars(
        select(Finalist).where(Finalist.search_id == search_id).order_by(Finalist.role, Finalist.rank, Finalist.seed)
    ).all()
    measured = _measurements(session, runs)
    trial_ids = [run.trial_id for run in runs if run.trial_id is not None]
    rows = session.execute(select(Trial.id, Trial.number).where(Trial.id.in_(trial_ids)))
    numbers = {row.id: row.number for row in rows}
    groups: dict[tuple[FinalistRole, int], list[Finalist]] = {}
    for run in runs:
        groups.setdefault((run.role, run.rank), []).append(run)
    return [
        Contender(
            role=role,
            rank=rank,
            trial_number=numbers[group[0].trial_id] if group[0].trial_id is not None else None,
            runs=tuple(group),
            measured={run.seed: measured[run.id] for run in group if run.id in measured},
        )
        for (role, rank), group in groups.items()
    ]


def best_winner(found: Sequence[Contender]) -> Contender | None:
    """The winner with the highest median; equal ones go by their rank in the search, failed ones come last."""
    winners = [contender for contender in found if contender.role is FinalistRole.WINNER]
    return min(winners, key=_order, default=None)


def of_role(found: Sequence[Contender], role: FinalistRole) -> Contender | None:
    """The first of a role that has one rank only."""
    return next((contender for contender in found if contender.role is role), None)


def _order(contender: Contender) -> tuple[float, int]:
    return (-contender.box_map if contender.box_map is not None else 1.0, contender.rank)


def _measurements(session: Session, runs: Sequence[Finalist]) -> dict[int, dict[str, Measurement]]:
    succeeded = [run.id for run in runs if run.state is WorkState.SUCCEEDED]
    rows = session.scalars(select(Measurement).where(Measurement.finalist_id.in_(succeeded)).order_by(Measurement.id))
    found: dict[int, dict[str, Measurement]] = {}
    for row in rows:
        if row.finalist_id is not None:
            found.setdefault(row.finalist_id, {}).setdefault(row.metric, row)
    return found


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None

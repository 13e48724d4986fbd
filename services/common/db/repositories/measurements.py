"""Measurements: one row per measured number, with everything it can be traced to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.common.db.models import Measurement
from services.common.db.repositories.owner import Owner


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredBy:
    """What a measurement belongs to; the same for all numbers of one result."""

    owner: Owner
    job_id: int
    attempt: int
    dataset_version_id: int
    architecture_id: str
    search_id: int | None = None
    trial_id: int | None = None
    finalist_id: int | None = None
    supernet_id: int | None = None


class MeasurementRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def add_all(self, by: MeasuredBy, items: Iterable[Mapping[str, Any]]) -> int:
        """Store the measurements of a worker's payload; returns how many."""
        rows = [
            Measurement(
                **by.owner.columns(),
                search_id=by.search_id,
                trial_id=by.trial_id,
                finalist_id=by.finalist_id,
                supernet_id=by.supernet_id,
                architecture_id=by.architecture_id,
                metric=item["metric"],
                split=item["split"],
                protocol_hash=item["protocol_hash"],
                fidelity=item["fidelity"],
                device_class=item["device_class"],
                value=item["value"],
                standard_error=item.get("standard_error"),
                jackknife=item.get("jackknife"),
                supernet_digest=item.get("supernet_digest"),
                dataset_version_id=by.dataset_version_id,
                job_id=by.job_id,
                attempt=by.attempt,
            )
            for item in items
        ]
        self.session.add_all(rows)
        self.session.flush()
        return len(rows)

    def of_search(
        self, search_id: int, *, metric: str | None = None, after: int = 0, limit: int | None = None
    ) -> Sequence[Measurement]:
        statement = select(Measurement).where(Measurement.search_id == search_id, Measurement.id > after)
        if metric is not None:
            statement = statement.where(Measurement.metric == metric)
        return self.session.scalars(statement.order_by(Measurement.id).limit(limit)).all()

    def of_trials(self, trial_ids: Sequence[int]) -> dict[int, list[Measurement]]:
        """The measurements of each of some trials."""
        found: dict[int, list[Measurement]] = {trial_id: [] for trial_id in trial_ids}
        rows = self.session.scalars(
            select(Measurement).where(Measurement.trial_id.in_(trial_ids)).order_by(Measurement.id)
        )
        for row in rows:
            if row.trial_id is not None:
                found[row.trial_id].append(row)
        return found

    def of_finalist(self, finalist_id: int) -> Sequence[Measurement]:
        return self.session.scalars(
            select(Measurement).where(Measurement.finalist_id == finalist_id).order_by(Measurement.id)
        ).all()

    def of_supernet(self, supernet_id: int) -> Sequence[Measurement]:
        """Of the supernet itself (a fixed path has an AP of its own), not of candidates scored with it."""
        return self.session.scalars(
            select(Measurement)
            .where(
                Measurement.supernet_id == supernet_id,
                Measurement.trial_id.is_(None),
                Measurement.finalist_id.is_(None),
            )
            .order_by(Measurement.id)
        ).all()

"""Trials: the candidates of a search, by the order in which they were proposed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from services.common.db.models import JsonDict, Trial
from services.common.db.repositories.events import EventRepository
from services.common.db.repositories.owner import Owner
from services.common.db.states import OPEN_STATES, WorkState
from services.common.errors import NotFoundError


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTrial:
    number: int
    genotype: list[int]
    architecture_id: str
    origin: str
    parents: list[int]
    generation: int
    macs: int
    params: int
    counted: JsonDict


class TrialRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, owner: Owner, search_id: int, new: NewTrial) -> Trial:
        """Propose a trial. Number and architecture are unique in a search: no step adds one twice."""
        trial = Trial(
            **owner.columns(),
            search_id=search_id,
            number=new.number,
            genotype=new.genotype,
            architecture_id=new.architecture_id,
            origin=new.origin,
            parents=new.parents,
            generation=new.generation,
            macs=new.macs,
            params=new.params,
            counted=new.counted,
        )
        self.session.add(trial)
        self.session.flush()
        EventRepository(self.session).add(
            "trial.proposed",
            owner,
            search_id=search_id,
            trial_id=trial.id,
            data={"number": new.number, "origin": new.origin, "generation": new.generation},
        )
        return trial

    def get(self, trial_id: int) -> Trial:
        trial = self.session.get(Trial, trial_id, populate_existing=True)
        if trial is None:
            raise NotFoundError(f"there is no trial {trial_id}")
        return trial

    def of_search(self, search_id: int, *, after: int = -1, limit: int | None = None) -> Sequence[Trial]:
        """In order of number, after the cursor."""
        return self.session.scalars(
            select(Trial)
            .where(Trial.search_id == search_id, Trial.number > after)
            .order_by(Trial.number)
            .limit(limit)
            .execution_options(populate_existing=True)
        ).all()

    def open_of_job(self, job_id: int) -> Sequence[Trial]:
        return self.session.scalars(
            select(Trial)
            .where(Trial.job_id == job_id, Trial.state.in_(OPEN_STATES))
            .order_by(Trial.number)
            .execution_options(populate_existing=True)
        ).all()

    def without_job(self, search_id: int) -> Sequence[Trial]:
        """Queued trials that no job has held yet."""
        return self.session.scalars(
            select(Trial)
            .where(Trial.search_id == search_id, Trial.state == WorkState.QUEUED, Trial.job_id.is_(None))
            .order_by(Trial.number)
        ).all()

    def last_number(self, search_id: int) -> int | None:
        """The number of the trial that was proposed last."""
        return self.session.scalar(select(func.max(Trial.number)).where(Trial.search_id == search_id))

    def ended_last(self, search_id: int, count: int) -> Sequence[Trial]:
        """The `count` trials that succeeded last."""
        return self.session.scalars(
            select(Trial)
            .where(Trial.search_id == search_id, Trial.state == WorkState.SUCCEEDED)
            .order_by(Trial.finished_at.desc())
            .limit(count)
        ).all()

    def count_by_state(self, search_id: int) -> dict[WorkState, int]:
        rows = self.session.execute(
            select(Trial.state, func.count()).where(Trial.search_id == search_id).group_by(Trial.state)
        )
        return {row[0]: row[1] for row in rows}

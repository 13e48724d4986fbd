"""Finalists: detectors that are trained at the end of a search."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from services.common.db.models import Finalist
from services.common.db.repositories.events import EventRepository
from services.common.db.repositories.owner import Owner
from services.common.db.states import FinalistRole


class FinalistRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def get_or_create(
        self,
        owner: Owner,
        search_id: int,
        role: FinalistRole,
        *,
        rank: int,
        seed: int,
        genotype: list[int],
        architecture_id: str,
        macs: int,
        params: int,
        trial_id: int | None = None,
    ) -> tuple[Finalist, bool]:
        """The finalist of this place, and whether it is new."""
        found = self.session.scalars(
            select(Finalist).where(
                Finalist.search_id == search_id,
                Finalist.role == role,
                Finalist.rank == rank,
                Finalist.seed == seed,
            )
        ).one_or_none()
        if found is not None:
            return found, False
        finalist = Finalist(
            **owner.columns(),
            search_id=search_id,
            role=role,
            rank=rank,
            seed=seed,
            genotype=genotype,
            architecture_id=architecture_id,
            macs=macs,
            params=params,
            trial_id=trial_id,
        )
        self.session.add(finalist)
        self.session.flush()
        EventRepository(self.session).add(
            "finalist.chosen",
            owner,
            search_id=search_id,
            trial_id=trial_id,
            data={"role": role.value, "rank": rank, "seed": seed, "architecture_id": architecture_id},
        )
        return finalist, True

    def set_job(self, finalist_id: int, job_id: int) -> None:
        """The job that trains a finalist; its state follows the job's from here on."""
        self.session.execute(
            update(Finalist)
            .where(Finalist.id == finalist_id, Finalist.job_id.is_(None))
            .values(job_id=job_id)
            .execution_options(synchronize_session="fetch")
        )

    def of_search(self, search_id: int, role: FinalistRole | None = None) -> Sequence[Finalist]:
        statement = select(Finalist).where(Finalist.search_id == search_id)
        if role is not None:
            statement = statement.where(Finalist.role == role)
        return self.session.scalars(statement.order_by(Finalist.role, Finalist.rank, Finalist.seed)).all()

    def of_job(self, job_id: int) -> Finalist | None:
        return self.session.scalars(
            select(Finalist).where(Finalist.job_id == job_id).execution_options(populate_existing=True)
        ).one_or_none()

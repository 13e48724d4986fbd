"""Supernets: trained weights that are known again by what they were trained from."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from services.common.db.models import Job, JsonDict, Supernet
from services.common.db.repositories.events import EventRepository
from services.common.db.repositories.owner import Owner
from services.common.db.session import take_turns
from services.common.db.states import OPEN_STATES, JobKind, WorkState
from services.common.errors import NotFoundError


class SupernetRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def get(self, supernet_id: int) -> Supernet:
        found = self.session.get(Supernet, supernet_id)
        if found is None:
            raise NotFoundError(f"there is no supernet {supernet_id}")
        return found

    def find(self, project_id: int, key: str) -> Supernet | None:
        return self.session.scalars(
            select(Supernet).where(Supernet.project_id == project_id, Supernet.key == key)
        ).one_or_none()

    def get_or_create(
        self, owner: Owner, key: str, description: JsonDict, dataset_version_id: int
    ) -> tuple[Supernet, bool]:
        """The supernet of this key, and whether it is new."""
        take_turns(self.session, "supernet", owner.project_id, key)
        found = self.find(owner.project_id, key)
        if found is not None:
            return found, False
        supernet = Supernet(**owner.columns(), key=key, description=description, dataset_version_id=dataset_version_id)
        self.session.add(supernet)
        self.session.flush()
        EventRepository(self.session).add("supernet.created", owner, data={"id": supernet.id, "key": key})
        return supernet, True

    def reopen(self, supernet_id: int) -> bool:
        """Queue a supernet whose training ended without weights, so that another job may train it."""
        changed = self.session.execute(
            update(Supernet)
            .where(
                Supernet.id == supernet_id,
                Supernet.state.not_in((*OPEN_STATES, WorkState.SUCCEEDED)),
            )
            .values(state=WorkState.QUEUED, reason=None, result=None)
            .returning(Supernet.id)
            .execution_options(synchronize_session="fetch")
        )
        return changed.one_or_none() is not None

    def open_job(self, supernet_id: int) -> Job | None:
        """The job that trains a supernet now or soon, of whichever search."""
        return self.session.scalars(
            select(Job)
            .where(
                Job.supernet_id == supernet_id,
                Job.kind == JobKind.TRAIN_SUPERNET,
                Job.state.in_(OPEN_STATES),
            )
            .order_by(Job.id)
        ).first()

    def page(self, project_id: int, *, after: int = 0, limit: int = 100) -> Sequence[Supernet]:
        return self.session.scalars(
            select(Supernet)
            .where(Supernet.project_id == project_id, Supernet.id > after)
            .order_by(Supernet.id)
            .limit(limit)
        ).all()

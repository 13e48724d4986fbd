"""Events: append-only, never changed. Together they tell the whole story of a search."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.common.db.models import Event, JsonDict
from services.common.db.repositories.owner import Owner
from services.common.db.settle import bump, owed


class EventRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def add(
        self,
        kind: str,
        owner: Owner,
        *,
        search_id: int | None = None,
        trial_id: int | None = None,
        job_id: int | None = None,
        attempt: int | None = None,
        data: JsonDict | None = None,
    ) -> None:
        """Tell something; written when the transaction settles, and a change of its search that shows."""
        bump(self.session, search_id)
        owed(self.session).events.append(
            Event(
                **owner.columns(),
                kind=kind,
                search_id=search_id,
                trial_id=trial_id,
                job_id=job_id,
                attempt=attempt,
                data=data or {},
            )
        )

    def of_search(self, search_id: int, *, after: int = 0, limit: int = 200) -> Sequence[Event]:
        """Events of a search in the order in which they happened."""
        return self.session.scalars(
            select(Event).where(Event.search_id == search_id, Event.id > after).order_by(Event.id).limit(limit)
        ).all()

    def of_job(self, job_id: int) -> Sequence[Event]:
        return self.session.scalars(select(Event).where(Event.job_id == job_id).order_by(Event.id)).all()

"""Workers: who may hold jobs, and under which incarnation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from services.common.db.models import JsonDict, Worker
from services.common.db.repositories.events import EventRepository
from services.common.db.repositories.jobs import JobRepository
from services.common.db.repositories.owner import Owner
from services.common.db.session import take_turns
from services.common.db.settle import seen
from services.common.db.types import db_now
from services.common.errors import ConflictError, NotFoundError


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerFacts:
    name: str
    incarnation: str
    device_class: str
    device_name: str
    facts: JsonDict


class WorkerRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def register(self, owner: Owner, worker: WorkerFacts, jobs: JobRepository) -> Worker:
        """Make a worker known. What an older incarnation of it held is requeued at once."""
        take_turns(self.session, "worker", owner.project_id, worker.name)
        known = self.session.scalars(
            select(Worker).where(Worker.project_id == owner.project_id, Worker.name == worker.name)
        ).one_or_none()
        if known is None:
            known = Worker(
                **owner.columns(),
                name=worker.name,
                incarnation=worker.incarnation,
                device_class=worker.device_class,
                device_name=worker.device_name,
                facts=worker.facts,
            )
            self.session.add(known)
            self.session.flush()
            requeued = 0
        elif known.incarnation == worker.incarnation:
            self.touch(known.id)
            return known
        else:
            requeued = jobs.release_previous_incarnation(known.id)
            self.session.execute(
                update(Worker)
                .where(Worker.id == known.id)
                .values(
                    incarnation=worker.incarnation,
                    device_class=worker.device_class,
                    device_name=worker.device_name,
                    facts=worker.facts,
                    resident=[],
                    last_seen_at=db_now(),
                )
                .execution_options(synchronize_session=False)
            )
        EventRepository(self.session).add(
            "worker.registered",
            owner,
            data={
                "id": known.id,
                "name": worker.name,
                "incarnation": worker.incarnation,
                "requeued": requeued,
            },
        )
        self.session.flush()
        self.session.refresh(known)
        return known

    def present(self, worker_id: int, incarnation: str, resident: Sequence[str]) -> Worker:
        """The worker that asks, if it is the incarnation that registered last; notes that it was seen."""
        worker = self.session.get(Worker, worker_id, populate_existing=True)
        if worker is None:
            raise NotFoundError(f"there is no worker {worker_id}; register with POST /v1/workers first")
        if worker.incarnation != incarnation:
            raise ConflictError(
                f"worker '{worker.name}' was started anew elsewhere as incarnation {worker.incarnation}; "
                f"incarnation {incarnation} gets no jobs and should stop or register again"
            )
        self.touch(worker_id, resident)
        return worker

    def touch(self, worker_id: int, resident: Sequence[str] | None = None) -> None:
        """It was heard of; written when the transaction settles, after every job."""
        seen(self.session, worker_id, resident)

    def page(self, project_id: int, *, after: int = 0, limit: int = 100) -> Sequence[Worker]:
        return self.session.scalars(
            select(Worker).where(Worker.project_id == project_id, Worker.id > after).order_by(Worker.id).limit(limit)
        ).all()

    def count_live(self, project_id: int, within_seconds: float) -> int:
        """Workers that were seen lately."""
        return (
            self.session.scalar(
                select(func.count())
                .select_from(Worker)
                .where(Worker.project_id == project_id, Worker.last_seen_at > db_now() - within_seconds)
            )
            or 0
        )

"""Workers: who may hold jobs, under which incarnation, and what people told them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from services.common.db.models import Job, JsonDict, Worker
from services.common.db.repositories.events import EventRepository
from services.common.db.repositories.jobs import JobRepository
from services.common.db.repositories.owner import Owner
from services.common.db.session import take_turns
from services.common.db.settle import seen
from services.common.db.states import WorkerMode, WorkState
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
        """Make a worker known. What an older incarnation of it held is requeued at once.

        A new incarnation is active, whatever people told the one before.
        """
        take_turns(self.session, "worker", owner.project_id, worker.name)
        known = self.session.scalars(
            select(Worker).where(Worker.project_id == owner.project_id, Worker.name == worker.name)
        ).one_or_none()
        requeued = 0
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
        elif known.incarnation == worker.incarnation:
            self._set(known.id, gone_at=None)  # it was forgotten, and is back
            self.touch(known.id)
            return self._reread(known)
        else:
            requeued = jobs.release_previous_incarnation(known.id)
            self._set(
                known.id,
                incarnation=worker.incarnation,
                device_class=worker.device_class,
                device_name=worker.device_name,
                facts=worker.facts,
                resident=[],
                mode=WorkerMode.ACTIVE,
                gone_at=None,
                last_seen_at=db_now(),
            )
        data = {"incarnation": worker.incarnation, "requeued": requeued}
        self._event("worker.registered", known, data)
        return self._reread(known)

    def get(self, worker_id: int, project_id: int) -> Worker:
        """A worker that is not gone."""
        worker = self.session.get(Worker, worker_id, populate_existing=True)
        if worker is None or worker.project_id != project_id:
            raise NotFoundError(f"there is no worker {worker_id}; see GET /v1/workers for those there are")
        if worker.gone_at is not None:
            raise NotFoundError(
                f"worker '{worker.name}' is gone: it ended, or was not heard of for long; start it again, and it "
                "registers by itself"
            )
        return worker

    def present(self, worker_id: int, project_id: int, incarnation: str, resident: Sequence[str]) -> Worker:
        """The worker that asks, if it is the incarnation that registered last; notes that it was seen."""
        worker = self.session.get(Worker, worker_id, populate_existing=True)
        if worker is None or worker.project_id != project_id:
            raise NotFoundError(f"there is no worker {worker_id}; register with POST /v1/workers first")
        self._check_incarnation(worker, incarnation)
        if worker.gone_at is not None:
            raise NotFoundError(
                f"worker '{worker.name}' was not heard of for long and is forgotten; "
                "register with POST /v1/workers again"
            )
        self.touch(worker_id, resident)
        return worker

    def goodbye(self, worker_id: int, project_id: int, incarnation: str, jobs: JobRepository) -> None:
        """A worker ends: it is not listed any more, and what it still held is queued again, uncharged.

        Said twice it is no error.
        """
        worker = self.session.get(Worker, worker_id, populate_existing=True)
        if worker is None or worker.project_id != project_id:
            raise NotFoundError(f"there is no worker {worker_id}; see GET /v1/workers for those there are")
        self._check_incarnation(worker, incarnation)
        if worker.gone_at is not None:
            return
        requeued = jobs.release_of_leaving(worker_id)
        if self._set(worker_id, Worker.incarnation == incarnation, Worker.gone_at.is_(None), gone_at=db_now()):
            self._event("worker.left", worker, {"incarnation": incarnation, "requeued": requeued})

    def set_mode(self, worker_id: int, project_id: int, mode: WorkerMode) -> Worker:
        """What this worker may do next; it hears of it at its next claim or heartbeat."""
        worker = self.get(worker_id, project_id)
        if worker.mode is not mode and self._set(worker_id, Worker.gone_at.is_(None), mode=mode):
            self._event(f"worker.{mode}", worker, {"before": worker.mode.value})
        return self._reread(worker)

    def forget(self, seconds: float) -> list[str]:
        """Workers that were not heard of for so long are gone; returns their names. Safe when two do it at once."""
        old = Worker.last_seen_at < db_now() - seconds
        found = self.session.scalars(
            select(Worker)
            .where(Worker.gone_at.is_(None), old)
            .order_by(Worker.id)
            .with_for_update(
                skip_locked=True, key_share=True
            )  # in order of id, as everywhere: nobody waits for us in a circle
        ).all()
        for worker in found:
            self._set(worker.id, old, gone_at=db_now())
            self._event("worker.forgotten", worker, {"last_seen_at": worker.last_seen_at})
        return [worker.name for worker in found]

    def touch(self, worker_id: int, resident: Sequence[str] | None = None) -> None:
        """It was heard of; written when the transaction settles, after every job."""
        seen(self.session, worker_id, resident)

    def mode(self, worker_id: int) -> WorkerMode:
        """What people told this worker."""
        return self.session.scalar(select(Worker.mode).where(Worker.id == worker_id)) or WorkerMode.ACTIVE

    def page(self, project_id: int, *, after: int = 0, limit: int = 100) -> Sequence[Worker]:
        """Workers that are there, in order of id."""
        mine = select(Worker).where(Worker.project_id == project_id, Worker.gone_at.is_(None))
        return self.session.scalars(mine.where(Worker.id > after).order_by(Worker.id).limit(limit)).all()

    def held_jobs(self, workers: Sequence[int]) -> dict[int, list[int]]:
        """Worker → ids of the jobs that it holds now."""
        held: dict[int, list[int]] = {worker_id: [] for worker_id in workers}
        rows = self.session.execute(
            select(Job.worker_id, Job.id)
            .where(Job.state == WorkState.RUNNING, Job.worker_id.in_(workers))
            .order_by(Job.id)
        )
        for worker_id, job_id in rows:
            if worker_id is not None:
                held[worker_id].append(job_id)
        return held

    def count_live(self, project_id: int | None, within_seconds: float) -> int:
        """Workers that were seen lately; of all projects when none is named."""
        live = (
            select(func.count())
            .select_from(Worker)
            .where(Worker.gone_at.is_(None), Worker.last_seen_at > db_now() - within_seconds)
        )
        if project_id is not None:
            live = live.where(Worker.project_id == project_id)
        return self.session.scalar(live) or 0

    def _check_incarnation(self, worker: Worker, incarnation: str) -> None:
        if worker.incarnation != incarnation:
            raise ConflictError(
                f"worker '{worker.name}' was started anew elsewhere as incarnation {worker.incarnation}; "
                f"incarnation {incarnation} gets no jobs and should stop or register again"
            )

    def _set(self, worker_id: int, *conditions: ColumnElement[bool], **values: Any) -> bool:
        self.session.flush()
        changed = self.session.scalars(
            update(Worker)
            .where(Worker.id == worker_id, *conditions)
            .values(**values)
            .returning(Worker.id)
            .execution_options(synchronize_session=False)
        ).one_or_none()
        return changed is not None

    def _event(self, kind: str, worker: Worker, data: JsonDict) -> None:
        EventRepository(self.session).add(kind, Owner.of(worker), data={"id": worker.id, "name": worker.name, **data})

    def _reread(self, worker: Worker) -> Worker:
        self.session.flush()
        self.session.refresh(worker)
        return worker

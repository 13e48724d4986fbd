"""Which queued jobs somebody should be woken for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.orm import Session

from services.common.db.models import Job, Worker
from services.common.db.repositories.jobs import may_be_handed_out
from services.common.db.states import WorkerMode, WorkState
from services.common.db.types import db_now

ANY = "any"


@dataclass(frozen=True, slots=True)
class Bell:
    """One message to send."""

    job_id: int
    device_class: str


class DoorbellRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def due(self, *, ring_seconds: float, live_seconds: float, limit: int) -> list[Bell]:
        """Jobs to ring for, best first, marked as rung: whoever else looks now gets others.

        No more than workers are idle: busy ones look for the next job by themselves, new ones as soon as they are
        there. A bell that was sent less than `ring_seconds` ago is on its way, and counts as one idle worker less.
        """
        idle = self._idle(live_seconds)
        if not idle:
            return []
        on_their_way = self._on_their_way(ring_seconds)
        room = min(limit, idle.total() - on_their_way.total())
        if room <= 0:
            return []
        candidates = self.session.execute(
            select(Job.id, Job.device_class)
            .where(*self._waits(), ~self._fresh(ring_seconds), Job.device_class.in_((ANY, *idle)))
            .order_by(Job.priority.desc(), Job.id)
            .limit(room)
            .with_for_update(
                skip_locked=True, key_share=True, of=Job
            )  # Postgres: nobody waits here, and nobody rings twice
        ).all()
        taken: Counter[str] = on_their_way
        bells = []
        for job_id, device_class in candidates:
            if device_class != ANY and taken[device_class] >= idle[device_class]:
                continue
            taken[device_class] += 1
            bells.append(Bell(job_id, device_class))
        return self._mark(bells, ring_seconds)

    def _idle(self, live_seconds: float) -> Counter[str]:
        """Device class → workers that were seen lately, may work, and hold nothing."""
        busy = select(Job.id).where(Job.state == WorkState.RUNNING, Job.worker_id == Worker.id).exists()
        rows = self.session.execute(
            select(Worker.device_class, func.count())
            .where(
                Worker.gone_at.is_(None),
                Worker.mode == WorkerMode.ACTIVE,
                Worker.last_seen_at > db_now() - live_seconds,
                ~busy,
            )
            .group_by(Worker.device_class)
        ).all()
        return Counter({row[0]: row[1] for row in rows})

    def _on_their_way(self, ring_seconds: float) -> Counter[str]:
        rows = self.session.execute(
            select(Job.device_class, func.count())
            .where(*self._waits(), self._fresh(ring_seconds))
            .group_by(Job.device_class)
        ).all()
        return Counter({row[0]: row[1] for row in rows})

    def _waits(self) -> tuple[ColumnElement[bool], ...]:
        return (Job.state == WorkState.QUEUED, Job.cancel_requested.is_(False), may_be_handed_out(Job))

    def _fresh(self, ring_seconds: float) -> ColumnElement[bool]:
        """It was rung for a moment ago, and nobody has had it since."""
        rung = Job.rung_at.is_not(None) & (Job.rung_at >= db_now() - ring_seconds)
        return rung & or_(Job.claimed_at.is_(None), Job.claimed_at < Job.rung_at)

    def _mark(self, bells: Sequence[Bell], ring_seconds: float) -> list[Bell]:
        if not bells:
            return []
        marked = set(
            self.session.scalars(
                update(Job)
                .where(
                    Job.id.in_([bell.job_id for bell in bells]),
                    Job.state == WorkState.QUEUED,
                    ~self._fresh(ring_seconds),
                )
                .values(rung_at=db_now())
                .returning(Job.id)
                .execution_options(synchronize_session=False)
            )
        )
        return [bell for bell in bells if bell.job_id in marked]

"""What a search, a job or a trial waits for, and when that ends at the latest: one sentence and one moment each.

Nothing in this platform waits without saying so. Moments are seconds since 1970-01-01 UTC by the database's clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from services.common.db.models import Job, Search, Worker
from services.common.db.states import SearchState, WorkerMode, WorkState
from services.common.db.types import db_now

LIVE_SECONDS = 60.0  # a worker that was heard of so lately is there
PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class Status:
    """`waits_for` is a sentence; `deadline_at` the moment at which something happens without anybody's help.

    `needs_somebody`: it will wait until a person does something.
    """

    waits_for: str
    deadline_at: float | None = None
    needs_somebody: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "waits_for": self.waits_for,
            "deadline_at": self.deadline_at,
            "needs_somebody": self.needs_somebody,
        }


def shown_state(search: Search) -> str:
    """The state as clients see it: a running search on hold is "paused"."""
    if search.state is SearchState.RUNNING and search.paused_at is not None:
        return PAUSED
    return search.state.value


def search_status(session: Session, search: Search) -> Status:
    """What a running search waits for."""
    if search.paused_at is not None:
        running = _count(session, search.id, WorkState.RUNNING)
        more = f"; {running} running jobs go on to their end" if running else ""
        return Status(f"somebody to resume it{more}", search.deadline_at, needs_somebody=True)
    running, queued = (_count(session, search.id, state) for state in (WorkState.RUNNING, WorkState.QUEUED))
    if running:
        behind = f", {queued} more are queued" if queued else ""
        return Status(f"{running} running jobs of stage '{search.stage}'{behind}", search.deadline_at)
    if queued:
        wanted = session.scalars(
            select(Job.device_class).where(Job.search_id == search.id, Job.state == WorkState.QUEUED).distinct()
        ).all()
        workers, some = _workers_for(session, wanted)
        return Status(f"{workers} ({queued} jobs are queued)", search.deadline_at, needs_somebody=not some)
    return Status(f"the searcher's next step in stage '{search.stage}'", search.deadline_at)


def job_status(session: Session, job: Job) -> Status | None:
    """What an open job waits for; None when it has ended."""
    if job.state is WorkState.RUNNING:
        holder = None if job.worker_id is None else session.get(Worker, job.worker_id)
        name = holder.name if holder else "a worker"
        asked = ", which was asked to stop" if job.cancel_requested else ""
        return Status(f"attempt {job.attempt} on {name}{asked}; taken back without a heartbeat", job.lease_expires_at)
    if job.state is not WorkState.QUEUED:
        return None
    search = None if job.search_id is None else session.get(Search, job.search_id)
    if search is not None and search.paused_at is not None:
        return Status(f"search {search.id}, which is paused", search.deadline_at, needs_somebody=True)
    deadline = search.deadline_at if search is not None else None
    workers, some = _workers_for(session, [job.device_class])
    return Status(workers, deadline, needs_somebody=not some)


def _workers_for(session: Session, classes: Sequence[str]) -> tuple[str, bool]:
    """Which workers could take a job of one of these device classes, in words, and whether there is one."""
    live = (Worker.gone_at.is_(None), Worker.last_seen_at > db_now() - LIVE_SECONDS)
    able = () if "any" in classes else (Worker.device_class.in_(classes),)
    by_mode = select(Worker.mode, func.count()).where(*live, *able).group_by(Worker.mode)
    counts: dict[WorkerMode, int] = {row[0]: row[1] for row in session.execute(by_mode)}
    kind = "" if "any" in classes else f" of class {' or '.join(sorted(classes))}"
    active, all_live = counts.get(WorkerMode.ACTIVE, 0), sum(counts.values())
    if active:
        return f"one of {active} active workers{kind} to be free", True
    if all_live:
        return f"a worker{kind}: {all_live} are there, but paused or about to end", False
    return f"a worker{kind}: none is there; start one with `nasdet worker`", False


def _count(session: Session, search_id: int, state: WorkState) -> int:
    counted = select(func.count()).select_from(Job).where(Job.search_id == search_id, Job.state == state)
    return session.scalar(counted) or 0

"""What claims, results and recovery share: the fencing predicate and the ends of attempts."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, CursorResult, Update, func, select, update
from sqlalchemy.orm import Session

from services.common.db.models import Finalist, Job, JobAttempt, JsonDict, Search, Supernet, Trial
from services.common.db.repositories.artifacts import ArtifactRepository
from services.common.db.repositories.events import EventRepository
from services.common.db.repositories.owner import Owner
from services.common.db.settle import bump, charge
from services.common.db.states import OPEN_STATES, JobKind, WorkState
from services.common.db.types import db_now
from services.common.errors import NotFoundError, StaleAttemptError


def checkpoint_owner(job_id: int) -> str:
    """The reference that keeps a job's checkpoint."""
    return f"job:{job_id}:checkpoint"


class JobBase:
    """State of one repository: a session and how leases are counted. The caller owns the transaction."""

    def __init__(self, session: Session, *, lease_seconds: float = 30.0, max_crashes: int = 3) -> None:
        self.session = session
        self.lease_seconds = lease_seconds
        self.max_crashes = max_crashes
        self.events = EventRepository(session)
        self.artifacts = ArtifactRepository(session)

    def get(self, job_id: int) -> Job:
        """The job as it is in the database now."""
        job = self.session.get(Job, job_id, populate_existing=True)
        if job is None:
            raise NotFoundError(f"there is no job {job_id}")
        return job

    def _change(self, statement: Update) -> int:
        """Execute a conditional UPDATE and return how many rows it changed."""
        self.session.flush()
        result = self.session.execute(statement.execution_options(synchronize_session=False))
        assert isinstance(result, CursorResult)  # an UPDATE without RETURNING
        return result.rowcount

    def _change_held(self, job_id: int, attempt: int, values: dict[str, Any], *also: ColumnElement[bool]) -> bool:
        """Change a job only while `attempt` holds it: THE fencing predicate.

        Everything that a worker sends goes through here first. The UPDATE also locks the row (Postgres) for
        the rest of the transaction, so that nobody takes the job away between this line and the commit.
        """
        held = update(Job).where(Job.id == job_id, Job.state == WorkState.RUNNING, Job.attempt == attempt, *also)
        return self._change(held.values(**values)) == 1

    def _lease(self) -> dict[str, Any]:
        return {"lease_expires_at": db_now() + self.lease_seconds}

    def _refuse(self, job: Job, attempt: int, what: str, *, trial_id: int | None = None) -> StaleAttemptError:
        """Write the audit event of what came too late; the caller raises what this returns."""
        holder = f"attempt {job.attempt} holds it" if job.state is WorkState.RUNNING else f"it is {job.state}"
        self.events.add(
            "result.refused",
            Owner.of(job),
            search_id=job.search_id,
            job_id=job.id,
            trial_id=trial_id,
            attempt=attempt,
            data={"what": what, "state": job.state.value, "current_attempt": job.attempt},
        )
        return StaleAttemptError(f"{what} of attempt {attempt} came too late for job {job.id}: {holder}; drop this job")

    def _event(self, kind: str, job: Job, data: JsonDict | None = None, *, attempt: int | None = None) -> None:
        self.events.add(
            kind,
            Owner.of(job),
            search_id=job.search_id,
            job_id=job.id,
            attempt=job.attempt if attempt is None else attempt,
            data={"kind": job.kind.value, "purpose": job.purpose, **(data or {})},
        )

    def _bump(self, search_id: int | None) -> None:
        bump(self.session, search_id)

    def _end_attempt(self, job: Job, attempt: int, outcome: str, reason: str | None) -> None:
        seconds = self.session.scalar(
            update(JobAttempt)
            .where(JobAttempt.job_id == job.id, JobAttempt.attempt == attempt, JobAttempt.ended_at.is_(None))
            .values(outcome=outcome, reason=reason, ended_at=db_now())
            .returning(JobAttempt.ended_at - JobAttempt.created_at)
            .execution_options(synchronize_session=False)
        )
        charge(self.session, job.search_id, max(0.0, float(seconds or 0.0)))

    def _set_trials(self, job_id: int, state: WorkState, reason: str | None) -> int:
        """End all open trials of a job alike; returns how many."""
        trials = self.session.scalars(
            select(Trial).where(Trial.job_id == job_id, Trial.state.in_(OPEN_STATES)).order_by(Trial.number)
        ).all()
        changed = self._change(
            update(Trial)
            .where(Trial.job_id == job_id, Trial.state.in_(OPEN_STATES))
            .values(state=state, reason=reason, finished_at=db_now())
        )
        for trial in trials:
            self.events.add(
                f"trial.{state}",
                Owner.of(trial),
                search_id=trial.search_id,
                trial_id=trial.id,
                job_id=job_id,
                data={"number": trial.number, "reason": reason},
            )
        return changed

    def _set_product(self, job: Job, state: WorkState, values: dict[str, Any]) -> None:
        """Move what a training job makes (a supernet or a finalist) together with the job."""
        if job.kind is JobKind.TRAIN_SUPERNET and job.supernet_id is not None:
            self._change(
                update(Supernet)
                .where(Supernet.id == job.supernet_id, Supernet.state.in_(OPEN_STATES))
                .values(state=state, **values)
            )
            self._bump_users_of(job.supernet_id)
        elif job.kind is JobKind.TRAIN_DETECTOR:
            ended = {"finished_at": db_now()} if state.ended else {}
            self._change(
                update(Finalist)
                .where(Finalist.job_id == job.id, Finalist.state.in_(OPEN_STATES))
                .values(state=state, **values, **ended)
            )

    def _bump_users_of(self, supernet_id: int) -> None:
        """A supernet may be shared: every search that waits for it shows a change."""
        users = (Search.supernet_id == supernet_id) | (Search.baseline_supernet_id == supernet_id)
        for search_id in self.session.scalars(select(Search.id).where(users)):
            bump(self.session, search_id)

    def _forget_checkpoint(self, job: Job) -> None:
        """Nobody resumes an ended job."""
        self.artifacts.drop(checkpoint_owner(job.id))

    def _count_open_trials(self, job_id: int) -> int:
        count = self.session.scalar(
            select(func.count()).select_from(Trial).where(Trial.job_id == job_id, Trial.state.in_(OPEN_STATES))
        )
        return count or 0

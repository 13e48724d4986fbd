"""What happens when whoever held a job gives it back, dies, hangs, or is no longer wanted.

A list of trials whose executor died is halved until the culprit is alone, and only that one is charged.
Every function first takes the job away from its attempt by a conditional UPDATE; whoever changes no row
does nothing more.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, func, select, update

from services.common.db.models import Job, JobAttempt, Search, Trial, Worker
from services.common.db.repositories.job_base import JobBase
from services.common.db.repositories.owner import Owner
from services.common.db.states import OPEN_STATES, JobKind, ReleaseKind, SearchState, WorkState
from services.common.db.types import db_now
from services.common.errors import ConflictError, NotFoundError

LEASE_EXPIRED = "lease_expired"
_UNCHARGED = (ReleaseKind.GRACEFUL.value,)


class JobRecovery(JobBase):
    def release(self, job_id: int, attempt: int, kind: ReleaseKind, reason: str | None = None) -> Job:
        """A worker gives its job back before the end; only a graceful stop is free."""
        if not self._take_back(job_id, attempt):
            job = self.get(job_id)
            if self._was_released_as(job_id, attempt, kind):
                return job  # the same release sent again
            raise self._refuse(job, attempt, f"a release ({kind})")
        self._requeue(self.get(job_id), attempt, kind.value, reason)
        return self.get(job_id)

    def requeue_after_loss(self, job: Job, outcome: str, reason: str) -> bool:
        """Take a running job from its present attempt; False when somebody else was quicker."""
        if not self._take_back(job.id, job.attempt):
            return False
        self._requeue(self.get(job.id), job.attempt, outcome, reason)
        return True

    def reap(self) -> list[int]:
        """Requeue every job whose lease has run out; returns their ids. Two reapers do no more than one."""
        expired = Job.lease_expires_at < db_now()
        overdue = self.session.execute(
            select(Job.id, Job.attempt).where(Job.state == WorkState.RUNNING, expired).order_by(Job.id)
        ).all()
        reaped = []
        for job_id, attempt in overdue:
            if self._take_back(job_id, attempt, expired):  # it may have been renewed meanwhile
                reason = "its worker sent no heartbeat until the lease ran out"
                self._requeue(self.get(job_id), attempt, LEASE_EXPIRED, reason)
                reaped.append(job_id)
        return reaped

    def release_previous_incarnation(self, worker_id: int, reason: str = "its worker was started anew") -> int:
        """Requeue at once what a worker held before it was started anew; returns how many jobs."""
        return self._release_all_of(worker_id, LEASE_EXPIRED, reason)

    def release_other_platforms(self, platform: str) -> int:
        """Requeue what workers of an earlier start of this embedded platform held; nobody is charged.

        The whole platform went down (a reboot, a closed terminal), so no job is to blame. It is called before the
        searcher's first look at the leases.
        """
        holders = self.session.scalars(
            select(Worker).where(
                Worker.id.in_(select(Job.worker_id).where(Job.state == WorkState.RUNNING, Job.worker_id.is_not(None)))
            )
        ).all()
        gone = [worker.id for worker in holders if worker.facts.get("platform") not in (None, platform)]
        reason = "the platform was started anew"
        return sum(self._release_all_of(worker_id, ReleaseKind.GRACEFUL.value, reason) for worker_id in gone)

    def release_unacknowledged(self, worker_id: int) -> int:
        """Requeue what a worker holds without knowing: it has one slot and asks for a job. Nobody is charged."""
        reason = "its worker asked for another job: the reply to its claim was lost"
        return self._release_all_of(worker_id, ReleaseKind.GRACEFUL.value, reason)

    def release_of_leaving(self, worker_id: int) -> int:
        """Requeue what a worker that ends could not give back itself. Nobody is charged."""
        return self._release_all_of(worker_id, ReleaseKind.GRACEFUL.value, "its worker ended")

    def _release_all_of(self, worker_id: int, outcome: str, reason: str) -> int:
        held = self.session.scalars(
            select(Job)
            .where(Job.worker_id == worker_id, Job.state == WorkState.RUNNING)
            .order_by(Job.id)
            .execution_options(populate_existing=True)
        ).all()
        return sum(self.requeue_after_loss(job, outcome, reason) for job in held)

    def end_search(self, search_id: int, state: SearchState, reason: str | None) -> bool:
        """End a running search with everything of it that is still open; False when it was not running.

        Queued jobs end at once, running ones are asked to stop at their next heartbeat. A job that trains a
        supernet which another running search waits for goes on.
        """
        changed = self._change(
            update(Search)
            .where(Search.id == search_id, Search.state == SearchState.RUNNING)
            .values(state=state, reason=reason, finished_at=db_now(), paused_at=None)
        )
        if changed != 1:
            return False
        search = self.session.get(Search, search_id, populate_existing=True)
        if search is None:
            raise NotFoundError(f"there is no search {search_id}")
        self.events.add(
            f"search.{state}",
            Owner.of(search),
            search_id=search_id,
            data={"reason": reason} if reason else {},
        )
        self._cancel_open_jobs(search, f"its search ended as {state}")
        self._cancel_jobless_trials(search_id, f"its search ended as {state}")
        return True

    def cancel_search(self, search_id: int, reason: str = "cancelled on request") -> Search:
        """Cancel a running search; one that has ended is refused."""
        cancelled = self.end_search(search_id, SearchState.CANCELLED, reason)
        search = self.session.get(Search, search_id, populate_existing=True)
        if search is None:
            raise NotFoundError(f"there is no search {search_id}")
        if not cancelled and search.state is not SearchState.CANCELLED:
            raise ConflictError(f"search {search_id} is {search.state}; only a running search can be cancelled")
        return search

    def _cancel_open_jobs(self, search: Search, reason: str) -> None:
        """Until no new one appears: while we waited for the row of a job, its list was halved, which made another."""
        seen: set[int] = set()
        while new := [job for job in self._open_jobs(search) if job.id not in seen]:
            for job in new:
                seen.add(job.id)
                if not self._needed_elsewhere(job):
                    self._cancel(job, reason)

    def _open_jobs(self, search: Search) -> Sequence[Job]:
        """Of the search itself, and what an earlier ended search left running for it (a shared supernet)."""
        shared = (search.supernet_id, search.baseline_supernet_id)
        trains_shared = (Job.kind == JobKind.TRAIN_SUPERNET) & Job.supernet_id.in_(
            [supernet_id for supernet_id in shared if supernet_id is not None]
        )
        return self.session.scalars(
            select(Job)
            .where((Job.search_id == search.id) | trains_shared, Job.state.in_(OPEN_STATES))
            .order_by(Job.id)
            .execution_options(populate_existing=True)
        ).all()

    def _needed_elsewhere(self, job: Job) -> bool:
        if job.kind is not JobKind.TRAIN_SUPERNET or job.supernet_id is None:
            return False
        others = select(Search.id).where(
            Search.state == SearchState.RUNNING,
            (Search.supernet_id == job.supernet_id) | (Search.baseline_supernet_id == job.supernet_id),
        )
        return self.session.scalars(others.limit(1)).first() is not None

    def _cancel(self, job: Job, reason: str) -> None:
        # Asked first: where the job is claimed in this moment, its worker hears it at the next heartbeat.
        self._change(update(Job).where(Job.id == job.id, Job.state.in_(OPEN_STATES)).values(cancel_requested=True))
        ended = self._change(
            update(Job)
            .where(Job.id == job.id, Job.state == WorkState.QUEUED)
            .values(state=WorkState.CANCELLED, reason=reason, finished_at=db_now())
        )
        if ended:
            self._end_all(self.get(job.id), WorkState.CANCELLED, reason)
        else:
            self._event("job.cancel_requested", job, {"reason": reason})

    def _cancel_jobless_trials(self, search_id: int, reason: str) -> None:
        cancelled = self.session.execute(
            update(Trial)
            .where(Trial.search_id == search_id, Trial.job_id.is_(None), Trial.state.in_(OPEN_STATES))
            .values(state=WorkState.CANCELLED, reason=reason, finished_at=db_now())
            .returning(Trial.id, Trial.number, Trial.project_id, Trial.created_by)
            .execution_options(synchronize_session=False)
        ).all()
        for trial_id, number, project_id, created_by in sorted(cancelled, key=lambda row: row[1]):
            self.events.add(
                f"trial.{WorkState.CANCELLED}",
                Owner(project_id, created_by),
                search_id=search_id,
                trial_id=trial_id,
                data={"number": number, "reason": reason},
            )

    def _take_back(self, job_id: int, attempt: int, *also: ColumnElement[bool]) -> bool:
        """running → queued, from this attempt only. What becomes of it is decided in the same transaction."""
        values = {"state": WorkState.QUEUED, "worker_id": None, "lease_expires_at": None}
        return self._change_held(job_id, attempt, values, *also)

    def _was_released_as(self, job_id: int, attempt: int, kind: ReleaseKind) -> bool:
        outcome = self.session.scalar(
            select(JobAttempt.outcome).where(JobAttempt.job_id == job_id, JobAttempt.attempt == attempt)
        )
        return outcome == kind.value

    def _requeue(self, job: Job, attempt: int, outcome: str, reason: str | None) -> None:
        """Decide what becomes of a job that was just taken back."""
        self._end_attempt(job, attempt, outcome, reason)
        self._change(
            update(Trial).where(Trial.job_id == job.id, Trial.state == WorkState.RUNNING).values(state=WorkState.QUEUED)
        )
        self._set_product(job, WorkState.QUEUED, {})
        # How much has to be done again: from the checkpoint to the last step that was heard of.
        steps = {"step": (job.progress or {}).get("step"), "checkpoint_step": job.checkpoint_step}
        self._event("job.released", job, {"outcome": outcome, "reason": reason, **steps})
        if job.cancel_requested:
            self._end(job, WorkState.CANCELLED, reason or "cancelled on request")
        elif job.kind is JobKind.EVALUATE:
            self._requeue_list(job, outcome, reason)
        elif outcome not in _UNCHARGED:
            self._charge(job, outcome, reason)
        self._bump(job.search_id)

    def _requeue_list(self, job: Job, outcome: str, reason: str | None) -> None:
        unfinished = self.session.scalars(
            select(Trial)
            .where(Trial.job_id == job.id, Trial.state.in_(OPEN_STATES))
            .order_by(Trial.number)
            .execution_options(populate_existing=True)
        ).all()
        if not unfinished:
            self._end(job, WorkState.SUCCEEDED, None)  # it died after its last result
        elif outcome in _UNCHARGED:
            return
        elif len(unfinished) > 1:
            self._halve(job, [trial.id for trial in unfinished])
        else:
            trial = update(Trial).where(Trial.id == unfinished[0].id)
            self._change(trial.values(crashes=Trial.crashes + 1))
            self._charge(job, outcome, reason)

    def _halve(self, job: Job, unfinished: list[int]) -> None:
        """The first half stays in the job, the second goes to a new one."""
        moved = unfinished[(len(unfinished) + 1) // 2 :]
        splits = self.session.scalar(select(func.count()).select_from(Job).where(Job.split_from == job.id)) or 0
        other = Job(
            **Owner.of(job).columns(),
            search_id=job.search_id,
            kind=job.kind,
            purpose=f"{job.purpose}/split-{splits + 1}",
            payload=job.payload,
            priority=job.priority,
            device_class=job.device_class,
            resident=job.resident,
            supernet_id=job.supernet_id,
            split_from=job.id,
        )
        self.session.add(other)
        self.session.flush()
        self._change(
            update(Trial)
            .where(Trial.id.in_(moved), Trial.job_id == job.id, Trial.state == WorkState.QUEUED)
            .values(job_id=other.id)
        )
        self._event("job.split", job, {"kept": len(unfinished) - len(moved), "moved": len(moved), "to": other.id})
        self._event("job.queued", other, {"trials": len(moved), "split_from": job.id})

    def _charge(self, job: Job, outcome: str, reason: str | None) -> None:
        """Count a crash of a job that was alone with its work; at the maximum it ends."""
        self._change(update(Job).where(Job.id == job.id).values(charged=Job.charged + 1))
        job = self.get(job.id)
        if job.charged < self.max_crashes:
            return
        attempts = self.session.scalars(
            select(JobAttempt.attempt)
            .where(JobAttempt.job_id == job.id, JobAttempt.outcome.not_in(_UNCHARGED))
            .order_by(JobAttempt.attempt.desc())
            .limit(job.charged)
        ).all()
        listed = ", ".join(str(number) for number in sorted(attempts))
        state = WorkState.LOST if outcome == LEASE_EXPIRED else WorkState.FAILED
        what = "was lost" if state is WorkState.LOST else "crashed, hung or ran out of time"
        last = f"; the last time: {reason}" if reason else ""
        self._end(job, state, f"whoever worked on it {what} in {len(attempts)} attempts ({listed}){last}")

    def _end(self, job: Job, state: WorkState, reason: str | None) -> None:
        ended = self._change(
            update(Job)
            .where(Job.id == job.id, Job.state == WorkState.QUEUED)
            .values(state=state, reason=reason, finished_at=db_now())
        )
        if ended:
            self._end_all(self.get(job.id), state, reason)

    def _end_all(self, job: Job, state: WorkState, reason: str | None) -> None:
        """Everything that hangs on an ended job ends alike."""
        self._set_trials(job.id, state, reason)
        self._set_product(job, state, {"reason": reason})
        self._forget_checkpoint(job)
        self._event("job.ended", job, {"outcome": state.value, "reason": reason})

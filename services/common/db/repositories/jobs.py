"""Jobs: the queue of record. Claims here, results in job_results.py, losses in job_recovery.py."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, case, func, select, update
from sqlalchemy.orm import aliased

from services.common.db.models import Job, JobAttempt, JsonDict, Search, SearchTally, Trial, Worker
from services.common.db.repositories.job_base import checkpoint_owner
from services.common.db.repositories.job_recovery import JobRecovery
from services.common.db.repositories.job_results import JobResults
from services.common.db.repositories.owner import Owner
from services.common.db.states import OPEN_STATES, JobKind, SearchState, WorkState
from services.common.db.types import db_now
from services.common.errors import ConflictError, NotFoundError

SECONDS_PER_HOUR = 3600.0
PRIORITY_SHIFT = 1_000_000
PRIORITIES_OF_ONE_SEARCH = 100  # a job's priority is its search's times this, plus that of its kind


def may_be_handed_out(job: type[Job]) -> ColumnElement[bool]:
    """Its search is not paused, or it trains a supernet that another search waits for."""
    waiting = aliased(Search)
    own = aliased(Search)
    paused = select(own.id).where(own.id == job.search_id, own.paused_at.is_not(None)).exists()
    needed = (
        select(waiting.id)
        .where(
            waiting.state == SearchState.RUNNING,
            waiting.paused_at.is_(None),
            (waiting.supernet_id == job.supernet_id) | (waiting.baseline_supernet_id == job.supernet_id),
        )
        .exists()
    )
    return ~paused | ((job.kind == JobKind.TRAIN_SUPERNET) & needed)


@dataclass(frozen=True, slots=True)
class HeartbeatReply:
    cancel: bool
    lease_seconds: float


class JobRepository(JobResults, JobRecovery):
    """Every transition of a job. Lock order everywhere: the job's row first, its trials after."""

    def create(
        self,
        search_id: int | None,
        kind: JobKind,
        purpose: str,
        payload: JsonDict,
        *,
        priority: int = 0,
        device_class: str = "any",
        resident: str | None = None,
        supernet_id: int | None = None,
        split_from: int | None = None,
        trials: Iterable[int] = (),
        owner: Owner | None = None,
    ) -> Job:
        """Queue a job that holds the trials with these ids; an existing purpose returns the job there is.

        `owner` is needed where no search gives one.
        """
        existing = self._by_purpose(search_id, purpose)
        if existing is not None:
            return existing
        job = Job(
            **(owner or self._owner_of_search(search_id)).columns(),
            search_id=search_id,
            kind=kind,
            purpose=purpose,
            payload=payload,
            priority=priority,
            device_class=device_class,
            resident=resident,
            supernet_id=supernet_id,
            split_from=split_from,
        )
        self.session.add(job)
        self.session.flush()
        held = self._hand_over(job, list(trials))
        self._event("job.queued", job, {"priority": priority, "trials": held, "split_from": split_from})
        self._bump(search_id)
        return job

    def _by_purpose(self, search_id: int | None, purpose: str) -> Job | None:
        same = Job.search_id.is_(None) if search_id is None else Job.search_id == search_id
        return self.session.scalars(select(Job).where(same, Job.purpose == purpose)).first()

    def _owner_of_search(self, search_id: int | None) -> Owner:
        search = None if search_id is None else self.session.get(Search, search_id)
        if search is None:
            raise NotFoundError(f"a job needs a search or an owner, but there is no search {search_id}")
        return Owner.of(search)

    def _hand_over(self, job: Job, trials: list[int]) -> int:
        """Give queued trials that no open job holds to a new job."""
        if not trials:
            return 0
        holder = aliased(Job)
        free = ~select(holder.id).where(holder.id == Trial.job_id, holder.state.in_(OPEN_STATES)).exists()
        changed = self._change(
            update(Trial)
            .where(Trial.id.in_(trials), Trial.search_id == job.search_id, Trial.state == WorkState.QUEUED, free)
            .values(job_id=job.id)
        )
        if changed != len(trials):
            raise ConflictError(
                f"job '{job.purpose}' should hold {len(trials)} queued trials of search {job.search_id}, "
                f"but only {changed} of them are free"
            )
        return changed

    def claim(self, worker_id: int, device_class: str, resident: Sequence[str]) -> Job | None:
        """Give a worker the best queued job: a conditional UPDATE that also counts the attempt.

        Order: the search's priority; then a fair share, which is the search with the fewest running jobs and,
        among equal ones, with the least device time so far; then the kind of job, what the worker already holds
        in memory, and age. Jobs of a paused search wait, except a supernet that another search waits for. A
        worker has one slot, so whatever it still holds was claimed by a request whose reply it never saw; that
        goes back first. A search that has spent its budget gets nothing, also before its next step ends it.
        """
        self.release_unacknowledged(worker_id)
        best = self._best_within_budget(device_class, resident)
        if best is None:
            return None
        claimed = self.session.scalars(
            update(Job)
            .where(Job.id == best, Job.state == WorkState.QUEUED)
            .values(
                state=WorkState.RUNNING,
                attempt=Job.attempt + 1,
                worker_id=worker_id,
                claimed_at=db_now(),
                progress=None,
                **self._lease(),
            )
            .returning(Job.id)
            .execution_options(synchronize_session=False)
        ).one_or_none()
        return None if claimed is None else self._begin_attempt(self.get(claimed), worker_id)

    def _best_within_budget(self, device_class: str, resident: Sequence[str]) -> int | None:
        spent: list[int] = []
        while True:
            row = self.session.execute(self._best(device_class, resident, spent)).one_or_none()
            if row is None:
                return None
            job_id, search_id = row[0], row[1]
            if search_id is None or not self._has_spent_its_budget(search_id):
                return job_id
            spent.append(search_id)

    def _has_spent_its_budget(self, search_id: int) -> bool:
        """Of a running search only: what an ended one left running for others is not stopped by its budget."""
        search = self.session.get(Search, search_id)
        if search is None or search.state is not SearchState.RUNNING:
            return False
        hours = (search.spec.get("budget") or {}).get("gpu_hours")
        return hours is not None and self.device_seconds(search.id) >= hours * SECONDS_PER_HOUR

    def _best(self, device_class: str, resident: Sequence[str], without: Sequence[int]) -> Select[int, int | None]:
        """(job, search) of the job that goes next, its row held; jobs of the searches in `without` are passed over."""
        candidate = aliased(Job)
        above_zero = candidate.priority + PRIORITY_SHIFT  # SQL's remainder of a negative number is negative
        running = (
            select(
                Job.search_id,
                func.count().label("jobs"),
                func.sum(db_now() - Job.claimed_at).label("seconds"),
            )
            .where(Job.state == WorkState.RUNNING)
            .group_by(Job.search_id)
            .cte("running")  # computed once: in a subquery, Postgres may read the clock anew for every candidate
        )
        return (
            select(candidate.id, candidate.search_id)
            .outerjoin(running, running.c.search_id == candidate.search_id)
            .outerjoin(SearchTally, SearchTally.search_id == candidate.search_id)
            .where(
                candidate.state == WorkState.QUEUED,
                candidate.cancel_requested.is_(False),
                candidate.device_class.in_(("any", device_class)),
                may_be_handed_out(candidate),
                candidate.search_id.is_(None) | candidate.search_id.not_in(without),
            )
            .order_by(
                (above_zero - above_zero % PRIORITIES_OF_ONE_SEARCH).desc(),
                func.coalesce(running.c.jobs, 0),
                func.coalesce(SearchTally.share, 0.0) + func.coalesce(running.c.seconds, 0.0),
                candidate.priority.desc(),
                case((candidate.resident.in_(resident), 0), else_=1),
                candidate.id,
            )
            .limit(1)
            .with_for_update(skip_locked=True, key_share=True, of=candidate)  # Postgres; SQLite has one writer anyway
        )

    def _begin_attempt(self, job: Job, worker_id: int) -> Job:
        trials = self._change(
            update(Trial).where(Trial.job_id == job.id, Trial.state == WorkState.QUEUED).values(state=WorkState.RUNNING)
        )
        self._set_product(job, WorkState.RUNNING, {})
        self.session.add(JobAttempt(**Owner.of(job).columns(), job_id=job.id, attempt=job.attempt, worker_id=worker_id))
        worker = self.session.get(Worker, worker_id)
        self._event("job.claimed", job, {"worker": worker.name if worker else worker_id, "trials": trials})
        self._bump(job.search_id)
        self.session.flush()
        return job

    def heartbeat(self, job_id: int, attempt: int, progress: JsonDict, counter: int) -> HeartbeatReply:
        """Renew the lease; the reply says whether the job should be dropped."""
        values = {**self._lease(), "progress": {**progress, "counter": counter}}
        held = self._change_held(job_id, attempt, values)
        job = self.get(job_id)
        if not held:
            raise self._refuse(job, attempt, "a heartbeat")
        self._bump(job.search_id)
        return HeartbeatReply(cancel=job.cancel_requested, lease_seconds=self.lease_seconds)

    def save_checkpoint(self, job_id: int, attempt: int, digest: str, step: int) -> Job:
        """Resume from here from now on. A step that advanced clears the charges: the job makes progress."""
        advanced = step > Job.checkpoint_step
        held = self._change_held(
            job_id,
            attempt,
            {
                "checkpoint": digest,
                "checkpoint_step": step,
                "charged": case((advanced, 0), else_=Job.charged),
                **self._lease(),
            },
            Job.checkpoint_step <= step,
        )
        job = self.get(job_id)
        if not held:
            if job.state is WorkState.RUNNING and job.attempt == attempt:
                raise ConflictError(
                    f"job {job_id} has a checkpoint of step {job.checkpoint_step}; step {step} is older"
                )
            raise self._refuse(job, attempt, f"the checkpoint of step {step}")
        self.artifacts.take(digest, Owner.of(job), checkpoint_owner(job_id))
        self.artifacts.drop(checkpoint_owner(job_id), keep=digest)
        self._event("checkpoint", job, {"step": step, "digest": digest})
        self._bump(job.search_id)
        return job

    def write_log(self, job_id: int, attempt: int, tail: str, *, limit: int = 65536) -> None:
        """Keep the end of an attempt's log; it may come late, whoever holds the job by then."""
        text = tail.replace("\x00", "\ufffd").encode(errors="replace")[-limit:].decode(errors="ignore")
        changed = self._change(
            update(JobAttempt).where(JobAttempt.job_id == job_id, JobAttempt.attempt == attempt).values(log=text)
        )
        if changed == 0:
            raise NotFoundError(f"job {job_id} has no attempt {attempt}")

    def attempts(self, job_id: int) -> Sequence[JobAttempt]:
        return self.session.scalars(
            select(JobAttempt).where(JobAttempt.job_id == job_id).order_by(JobAttempt.attempt)
        ).all()

    def of_search(self, search_id: int) -> Sequence[Job]:
        return self.session.scalars(select(Job).where(Job.search_id == search_id).order_by(Job.id)).all()

    def page(self, project_id: int, *, after: int = 0, limit: int = 100, search_id: int | None = None) -> Sequence[Job]:
        """Jobs in order of id, after the cursor."""
        statement = select(Job).where(Job.project_id == project_id, Job.id > after)
        if search_id is not None:
            statement = statement.where(Job.search_id == search_id)
        return self.session.scalars(statement.order_by(Job.id).limit(limit)).all()

    def device_seconds(self, search_id: int) -> float:
        """Device time that a search has used: the sum over attempts of its jobs, running ones included."""
        seconds = self.session.scalar(
            select(func.sum(func.coalesce(JobAttempt.ended_at, db_now()) - JobAttempt.created_at))
            .join(Job, Job.id == JobAttempt.job_id)
            .where(Job.search_id == search_id)
        )
        return float(seconds or 0.0)

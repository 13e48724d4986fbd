"""Beginning anew what failed: a search that ended without success goes on where it ended."""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from services.common.db.models import Finalist, Job, JsonDict, Search, Supernet, Trial
from services.common.db.repositories.datasets import DatasetRepository
from services.common.db.repositories.events import EventRepository
from services.common.db.repositories.job_base import JobBase
from services.common.db.repositories.owner import Owner
from services.common.db.repositories.searches import SearchRepository
from services.common.db.states import JobKind, SearchState, WorkState
from services.common.db.types import db_now
from services.common.errors import ConflictError

RETRIABLE = (SearchState.FAILED, SearchState.CANCELLED)
UNSUCCESSFUL = (WorkState.FAILED, WorkState.INFEASIBLE, WorkState.LOST, WorkState.CANCELLED)
UNDECIDED = (WorkState.FAILED, WorkState.LOST)


class SearchRetry(JobBase):
    """Lock order: the search's row first, then its jobs, then their trials and products."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.searches = SearchRepository(session)

    def retry(self, search_id: int, *, told: int, spec: JsonDict, wall_seconds: float | None) -> Search:
        """Run a failed or cancelled search again from where it ended; what succeeded stays.

        `told` says how many trials the algorithm has heard of when it proposed the last one. Of those a failure is
        part of the history, and stays: another answer would have led to other candidates. `spec` is the search's
        specification, perhaps with a larger budget; `wall_seconds` from now on is its new deadline.
        """
        reopened = self._change(
            update(Search)
            .where(Search.id == search_id, Search.state.in_(RETRIABLE))
            .values(
                state=SearchState.RUNNING,
                reason=None,
                finished_at=None,
                paused_at=None,
                spec=spec,
                retries=Search.retries + 1,
                deadline_at=None if wall_seconds is None else db_now() + wall_seconds,
            )
        )
        search = self.searches.get(search_id)
        if reopened != 1:
            raise ConflictError(
                f"search {search_id} is {search.state}; only a failed or cancelled search can be retried, "
                "a finished one can be cloned"
            )
        self.searches.level_share(search)
        jobs = self._reopen_jobs(search)
        trials = self._reopen_trials(search, told)
        data = {"retry": search.retries, "jobs": jobs, "trials": trials}
        EventRepository(self.session).add("search.retried", Owner.of(search), search_id=search_id, data=data)
        return self.searches.get(search_id)

    def _reopen_jobs(self, search: Search) -> int:
        """Trainings and checks are queued anew; lists of candidates are made anew from their trials."""
        # A worker that was asked to stop and still holds its job may go on.
        self._change(
            update(Job)
            .where(Job.search_id == search.id, Job.state == WorkState.RUNNING, Job.cancel_requested.is_(True))
            .values(cancel_requested=False)
        )
        ended = self.session.scalars(
            select(Job)
            .where(Job.search_id == search.id, Job.kind != JobKind.EVALUATE, Job.state.in_(UNSUCCESSFUL))
            .order_by(Job.id)
        ).all()
        archive = DatasetRepository(self.session).archive_for_check(search.dataset_id)
        for job in ended:
            # Data that were uploaded anew meanwhile: what the check failed on may be gone.
            fresh = {} if archive is None or job.kind is not JobKind.CHECK_DATASET else {"archive": archive}
            self._change(
                update(Job)
                .where(Job.id == job.id)
                .values(
                    payload={**job.payload, **fresh},
                    state=WorkState.QUEUED,
                    reason=None,
                    charged=0,
                    cancel_requested=False,
                    result=None,
                    result_digest=None,
                    finished_at=None,
                    rung_at=None,
                )
            )
            self._reopen_product(job)
            self._event("job.queued", job, {"retry": search.retries})
        return len(ended)

    def _reopen_product(self, job: Job) -> None:
        queued = {"state": WorkState.QUEUED, "reason": None, "result": None}
        if job.kind is JobKind.TRAIN_SUPERNET:
            supernet = update(Supernet).where(Supernet.id == job.supernet_id, Supernet.state.in_(UNSUCCESSFUL))
            self._change(supernet.values(**queued))
        elif job.kind is JobKind.TRAIN_DETECTOR:
            finalist = update(Finalist).where(Finalist.job_id == job.id, Finalist.state.in_(UNSUCCESSFUL))
            self._change(finalist.values(**queued, finished_at=None))

    def _reopen_trials(self, search: Search, told: int) -> int:
        """Trials that nobody has an answer for, and failed ones that no later proposal was based on."""
        # RETURNING and not a list of ids: a search may have more trials than a statement may have parameters.
        reopened = self.session.execute(
            update(Trial)
            .where(
                Trial.search_id == search.id,
                (Trial.state == WorkState.CANCELLED) | (Trial.state.in_(UNDECIDED) & (Trial.number >= told)),
            )
            .values(
                state=WorkState.QUEUED,
                job_id=None,
                reason=None,
                crashes=0,
                seconds=None,
                result_digest=None,
                finished_at=None,
            )
            .returning(Trial.id, Trial.number)
            .execution_options(synchronize_session=False)
        ).all()
        for trial_id, number in sorted(reopened, key=lambda row: row[1]):
            self.events.add(
                "trial.requeued",
                Owner.of(search),
                search_id=search.id,
                trial_id=trial_id,
                data={"number": number, "retry": search.retries},
            )
        return len(reopened)

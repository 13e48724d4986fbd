"""Steering searches and sharing devices, on every database behind the store; a subclass supplies `database`."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from services.common.db.models import Job, JobAttempt, SearchTally, Trial
from services.common.db.repositories import EventRepository, JobRepository, SearchRepository, TrialRepository
from services.common.db.repositories.jobs import PRIORITIES_OF_ONE_SEARCH
from services.common.db.repositories.search_retry import SearchRetry
from services.common.db.session import Database
from services.common.db.states import JobKind, ReleaseKind, SearchState, WorkState
from services.common.errors import ConflictError
from services.common.status import job_status, search_status, shown_state
from tests.support import stores
from tests.support.stores import Rows, success


class ControlContract:
    @pytest.fixture
    def rows(self, database: Database) -> Rows:
        with database.write_session() as session:
            return stores.new_rows(session)

    @pytest.fixture
    def worker(self, database: Database) -> int:
        with database.write_session() as session:
            return stores.new_worker(session)

    def other(self, database: Database, rows: Rows, name: str) -> Rows:
        """Another search on the same data."""
        with database.write_session() as session:
            search_id = stores.new_search(session, rows.owner, rows.dataset_id, name)
            SearchRepository(session).set(
                search_id, dataset_version_id=rows.dataset_version_id, supernet_id=rows.supernet_id
            )
        return Rows(rows.owner, rows.dataset_id, rows.dataset_version_id, rows.supernet_id, search_id)

    def evaluations(self, database: Database, rows: Rows, lists: int, length: int = 1) -> list[int]:
        with database.write_session() as session:
            return [stores.new_evaluation(session, rows, length, first=n * length)[0] for n in range(lists)]

    def claim(self, database: Database, worker: int, device_class: str = "cpu") -> Job | None:
        with database.write_session() as session:
            return JobRepository(session).claim(worker, device_class, [])

    def finish(self, database: Database, job: Job, *, seconds: float = 0.0) -> None:
        """Land every result; `seconds` is how long the device was held, as the database's clock would say."""
        with database.write_session() as session:
            jobs = JobRepository(session)
            if seconds:
                session.execute(
                    update(JobAttempt)
                    .where(JobAttempt.job_id == job.id, JobAttempt.attempt == job.attempt)
                    .values(created_at=JobAttempt.created_at - seconds)
                )
            for trial in TrialRepository(session).open_of_job(job.id):
                jobs.land_result(job.id, job.attempt, trial.id, success(0.5))
            jobs.done(job.id, job.attempt, WorkState.SUCCEEDED, {})

    def share(self, session: Session, search_id: int) -> float:
        return session.get_one(SearchTally, search_id).share

    # -- a fair share -------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(("workers", "jobs"), [(1, 30), (2, 30), (3, 30), (5, 30)])
    def test_two_equal_searches_get_half_of_the_evaluations_each(
        self, database: Database, rows: Rows, workers: int, jobs: int
    ) -> None:
        other = self.other(database, rows, "other")
        self.evaluations(database, rows, jobs)
        self.evaluations(database, other, jobs)
        with database.write_session() as session:
            crew = [stores.new_worker(session, f"worker-{index}") for index in range(workers)]
        held: list[Job] = []
        got: Counter[int] = Counter()
        for _ in range(jobs):  # half of all there is
            if len(held) == workers:
                self.finish(database, held.pop(0), seconds=10.0)
            busy = {job.worker_id for job in held}
            job = self.claim(database, next(worker for worker in crew if worker not in busy))
            assert job is not None
            assert job.search_id is not None
            held.append(job)
            got[job.search_id] += 1
        assert 0.4 * jobs <= got[rows.search_id] <= 0.6 * jobs, got

    def test_short_jobs_catch_up_with_long_ones(self, database: Database, rows: Rows, worker: int) -> None:
        """Device time is shared, not the number of jobs."""
        other = self.other(database, rows, "other")
        self.evaluations(database, rows, 5)
        self.evaluations(database, other, 10)
        order = []
        for _ in range(6):
            job = self.claim(database, worker)
            assert job is not None
            order.append(job.search_id)
            self.finish(database, job, seconds=100.0 if job.search_id == rows.search_id else 30.0)
        assert Counter(order) == {rows.search_id: 2, other.search_id: 4}

    def test_who_joins_late_or_comes_back_is_not_owed_the_past(
        self, database: Database, rows: Rows, worker: int
    ) -> None:
        self.evaluations(database, rows, 2)
        job = self.claim(database, worker)
        assert job is not None
        self.finish(database, job, seconds=5000.0)
        late = self.other(database, rows, "late")
        with database.write_session() as session:
            assert self.share(session, late.search_id) == pytest.approx(self.share(session, rows.search_id))
            SearchRepository(session).pause(late.search_id)
        job = self.claim(database, worker)
        assert job is not None
        self.finish(database, job, seconds=5000.0)
        with database.write_session() as session:
            SearchRepository(session).resume(late.search_id)
        with database.read_session() as session:
            assert self.share(session, late.search_id) == pytest.approx(self.share(session, rows.search_id))

    def test_a_new_search_is_checked_while_another_still_evaluates(
        self, database: Database, rows: Rows, worker: int
    ) -> None:
        """The kinds of jobs have an order inside a search only."""
        self.evaluations(database, rows, 3)
        other = self.other(database, rows, "other")
        with database.write_session() as session:
            JobRepository(session).create(other.search_id, JobKind.TRAIN_DETECTOR, "final", {}, priority=30)
            session.execute(update(Job).where(Job.search_id == rows.search_id).values(priority=40))
            second = stores.new_worker(session, "second")
        claimed = [self.claim(database, worker), self.claim(database, second)]
        assert {job.search_id for job in claimed if job} == {rows.search_id, other.search_id}

    # -- priority -----------------------------------------------------------------------------------------------

    def test_a_higher_priority_gets_every_next_job(self, database: Database, rows: Rows, worker: int) -> None:
        self.evaluations(database, rows, 5)
        running = self.claim(database, worker)
        assert running is not None
        urgent = self.other(database, rows, "urgent")
        self.evaluations(database, urgent, 2)
        with database.write_session() as session:
            SearchRepository(session).set_priority(urgent.search_id, 10, PRIORITIES_OF_ONE_SEARCH)
        self.finish(database, running)
        order = []
        for _ in range(3):
            job = self.claim(database, worker)
            assert job is not None
            order.append(job.search_id)
            self.finish(database, job)
        assert order == [urgent.search_id, urgent.search_id, rows.search_id]

    def test_a_negative_priority_waits_for_everybody(self, database: Database, rows: Rows, worker: int) -> None:
        self.evaluations(database, rows, 2)
        other = self.other(database, rows, "other")
        self.evaluations(database, other, 2)
        with database.write_session() as session:
            session.execute(update(Job).values(priority=40))  # of their kind
            SearchRepository(session).set_priority(rows.search_id, -1, PRIORITIES_OF_ONE_SEARCH)
        for expected in (other, other, rows, rows):
            job = self.claim(database, worker)
            assert job is not None
            assert job.search_id == expected.search_id
            self.finish(database, job)

    def test_priorities_set_at_the_same_moment_are_not_added_up(self, database: Database, rows: Rows) -> None:
        job_id = self.evaluations(database, rows, 1)[0]

        def set_to(priority: int) -> None:
            with database.write_session() as session:
                SearchRepository(session).set_priority(rows.search_id, priority, PRIORITIES_OF_ONE_SEARCH)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(set_to, 8 * [10]))
            list(pool.map(set_to, 8 * [3]))
        with database.read_session() as session:
            assert session.get_one(Job, job_id).priority == 3 * PRIORITIES_OF_ONE_SEARCH

    def test_every_trial_of_a_cancelled_search_has_its_end_told(self, database: Database, rows: Rows) -> None:
        self.evaluations(database, rows, 1, length=2)
        with database.write_session() as session:
            stores.new_trials(session, rows, 2, first=2)  # no job has them yet
        with database.write_session() as session:
            JobRepository(session).cancel_search(rows.search_id)
        with database.read_session() as session:
            told = list(EventRepository(session).of_search(rows.search_id, limit=1000))
        assert sorted(event.data["number"] for event in told if event.kind == "trial.cancelled") == [0, 1, 2, 3]

    # -- budget -------------------------------------------------------------------------------------------------

    def test_a_spent_budget_hands_out_nothing_more_even_before_the_next_step(
        self, database: Database, rows: Rows, worker: int
    ) -> None:
        other = self.other(database, rows, "other")
        self.evaluations(database, rows, 3)
        with database.write_session() as session:
            SearchRepository(session).set(rows.search_id, spec={"budget": {"gpu_hours": 0.01}})
        for seconds in (30.0, 30.0):
            job = self.claim(database, worker)
            assert job is not None
            assert job.search_id == rows.search_id
            self.finish(database, job, seconds=seconds)
        assert self.claim(database, worker) is None
        self.evaluations(database, other, 1)
        job = self.claim(database, worker)
        assert job is not None
        assert job.search_id == other.search_id

    # -- pause --------------------------------------------------------------------------------------------------

    def test_a_paused_search_keeps_what_runs_and_hands_out_nothing(
        self, database: Database, rows: Rows, worker: int
    ) -> None:
        self.evaluations(database, rows, 3)
        running = self.claim(database, worker)
        assert running is not None
        with database.write_session() as session:
            search = SearchRepository(session).pause(rows.search_id)
            assert shown_state(search) == "paused"
            assert SearchRepository(session).pause(rows.search_id).reason == "paused on request"  # again: no error
            status = search_status(session, search)
            assert status.needs_somebody
            assert "1 running jobs go on" in status.waits_for
        self.finish(database, running)  # its result counts
        assert self.claim(database, worker) is None
        with database.write_session() as session:
            search = SearchRepository(session).resume(rows.search_id)
            assert (shown_state(search), search.reason) == ("running", None)
        job = self.claim(database, worker)
        assert job is not None
        with database.read_session() as session:
            kinds = [event.kind for event in EventRepository(session).of_search(rows.search_id)]
        assert kinds.count("search.paused") == kinds.count("search.resumed") == 1

    def test_a_supernet_that_another_search_waits_for_is_still_trained(
        self, database: Database, rows: Rows, worker: int
    ) -> None:
        with database.write_session() as session:
            jobs = JobRepository(session)
            jobs.create(rows.search_id, JobKind.TRAIN_SUPERNET, "supernet", {}, supernet_id=rows.supernet_id)
            SearchRepository(session).pause(rows.search_id)
        assert self.claim(database, worker) is None
        self.other(database, rows, "waits for the same supernet")
        job = self.claim(database, worker)
        assert job is not None
        assert job.kind is JobKind.TRAIN_SUPERNET

    def test_a_paused_search_can_be_cancelled_and_an_ended_one_cannot_be_paused(
        self, database: Database, rows: Rows
    ) -> None:
        with database.write_session() as session:
            SearchRepository(session).pause(rows.search_id)
            search = JobRepository(session).cancel_search(rows.search_id)
            assert shown_state(search) == "cancelled"
        for act in ("pause", "resume"):
            with pytest.raises(ConflictError, match="is cancelled"), database.write_session() as session:
                getattr(SearchRepository(session), act)(rows.search_id)

    # -- what is waited for -------------------------------------------------------------------------------------

    def test_every_state_says_what_it_waits_for(self, database: Database, rows: Rows) -> None:
        job_id = self.evaluations(database, rows, 1)[0]
        with database.write_session() as session:
            search = SearchRepository(session).get(rows.search_id)
            status = search_status(session, search)
            assert "none is there" in status.waits_for
            assert status.needs_somebody
            worker = stores.new_worker(session)
        with database.read_session() as session:
            job = session.get_one(Job, job_id)
            waiting = job_status(session, job)
            assert waiting is not None
            assert "1 active workers" in waiting.waits_for
            assert not waiting.needs_somebody
        claimed = self.claim(database, worker)
        assert claimed is not None
        with database.read_session() as session:
            running = job_status(session, session.get_one(Job, job_id))
            assert running is not None
            assert running.deadline_at == claimed.lease_expires_at
            assert "attempt 1 on worker-0" in running.waits_for
        self.finish(database, claimed)
        with database.read_session() as session:
            assert job_status(session, session.get_one(Job, job_id)) is None

    # -- retry --------------------------------------------------------------------------------------------------

    def retry(self, database: Database, rows: Rows, *, told: int = 0) -> None:
        with database.write_session() as session:
            spec = SearchRepository(session).get(rows.search_id).spec
            SearchRetry(session).retry(rows.search_id, told=told, spec=spec, wall_seconds=None)

    def states(self, database: Database, rows: Rows) -> list[WorkState]:
        with database.read_session() as session:
            return [trial.state for trial in TrialRepository(session).of_search(rows.search_id)]

    def test_a_cancelled_search_goes_on_with_what_was_not_done(
        self, database: Database, rows: Rows, worker: int
    ) -> None:
        self.evaluations(database, rows, 2, length=2)
        job = self.claim(database, worker)
        assert job is not None
        with database.write_session() as session:
            first = TrialRepository(session).open_of_job(job.id)[0]
            JobRepository(session).land_result(job.id, job.attempt, first.id, success(0.5))
            JobRepository(session).cancel_search(rows.search_id)
        with database.write_session() as session:
            JobRepository(session).release(job.id, job.attempt, ReleaseKind.GRACEFUL)
        assert self.states(database, rows) == [WorkState.SUCCEEDED, *3 * [WorkState.CANCELLED]]
        self.retry(database, rows)
        assert self.states(database, rows) == [WorkState.SUCCEEDED, *3 * [WorkState.QUEUED]]
        with database.read_session() as session:
            search = SearchRepository(session).get(rows.search_id)
            assert (search.state, search.retries, search.finished_at) == (SearchState.RUNNING, 1, None)
            assert len(TrialRepository(session).without_job(rows.search_id)) == 3
        with pytest.raises(ConflictError, match="only a failed or cancelled"):
            self.retry(database, rows)

    def test_a_job_that_was_still_running_may_go_on(self, database: Database, rows: Rows, worker: int) -> None:
        self.evaluations(database, rows, 1)
        job = self.claim(database, worker)
        assert job is not None
        with database.write_session() as session:
            JobRepository(session).cancel_search(rows.search_id)
        self.retry(database, rows)
        with database.write_session() as session:
            assert not JobRepository(session).heartbeat(job.id, job.attempt, {}, 1).cancel
        self.finish(database, job)
        assert self.states(database, rows) == [WorkState.SUCCEEDED]

    def test_failures_that_later_candidates_were_bred_from_stay(
        self, database: Database, rows: Rows, worker: int
    ) -> None:
        self.evaluations(database, rows, 3)
        failed: dict[str, object] = {
            "state": "failed",
            "reason": "broken",
            "value": None,
            "measurements": [],
            "seconds": {},
        }
        for _ in range(3):
            job = self.claim(database, worker)
            assert job is not None
            with database.write_session() as session:
                jobs = JobRepository(session)
                jobs.land_result(job.id, job.attempt, TrialRepository(session).open_of_job(job.id)[0].id, failed)
                jobs.done(job.id, job.attempt, WorkState.SUCCEEDED, {})
        with database.write_session() as session:
            JobRepository(session).end_search(rows.search_id, SearchState.FAILED, "nothing could be scored")
        self.retry(database, rows, told=2)
        assert self.states(database, rows) == [WorkState.FAILED, WorkState.FAILED, WorkState.QUEUED]

    def test_a_failed_training_is_queued_again_and_its_crashes_are_forgotten(
        self, database: Database, rows: Rows, worker: int
    ) -> None:
        with database.write_session() as session:
            jobs = JobRepository(session)
            jobs.create(rows.search_id, JobKind.TRAIN_SUPERNET, "supernet", {}, supernet_id=rows.supernet_id)
        job = self.claim(database, worker)
        assert job is not None
        with database.write_session() as session:
            JobRepository(session).done(job.id, job.attempt, WorkState.FAILED, {}, "diverged")
            JobRepository(session).end_search(rows.search_id, SearchState.FAILED, "the supernet failed")
        self.retry(database, rows)
        again = self.claim(database, worker)
        assert again is not None
        assert (again.id, again.attempt, again.reason, again.result_digest) == (job.id, 2, None, None)

    def test_a_late_result_of_before_the_retry_is_refused(self, database: Database, rows: Rows, worker: int) -> None:
        self.evaluations(database, rows, 1)
        job = self.claim(database, worker)
        assert job is not None
        with database.write_session() as session:
            trial = TrialRepository(session).open_of_job(job.id)[0]
            jobs = JobRepository(session)
            jobs.cancel_search(rows.search_id)
            jobs.release(job.id, job.attempt, ReleaseKind.GRACEFUL)
        self.retry(database, rows)
        with pytest.raises(ConflictError), database.write_session() as session:
            JobRepository(session).land_result(job.id, job.attempt, trial.id, success(0.9))
        with database.read_session() as session:
            assert session.get_one(Trial, trial.id).state is WorkState.QUEUED

"""Two writers at the same moment, each with connections of its own: one of them makes the row, both are served."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from services.common.db.models import Artifact, Event, Job, Measurement, Search, SearchTally, Supernet, Trial, Worker
from services.common.db.repositories import (
    ArtifactRepository,
    DatasetRepository,
    JobRepository,
    SearchRepository,
    SupernetRepository,
    TokenRepository,
    TrialRepository,
)
from services.common.db.repositories.searches import NewSearch
from services.common.db.session import Database
from services.common.db.states import JobKind, ReleaseKind, SearchState, WorkState
from services.common.errors import ConflictError, NotFoundError
from services.searcher.stages import _lock
from tests.support import stores
from tests.support.stores import Rows, Store, success

pytestmark = pytest.mark.integration

WRITERS = 4
SETTLED_SECONDS = 1.0  # by then a transaction has ended, or waits for another
ROUNDS = 8  # a race that is lost one time in two is seen at the latest by then
T = TypeVar("T")


@pytest.fixture
def databases(store: Store, tmp_path: Path) -> Iterator[list[Database]]:
    """The same database for each writer."""
    url = store.url(tmp_path)
    opened = [Database(url) for _ in range(WRITERS)]
    yield opened
    for database in opened:
        database.close()
    store.drop(url)


@pytest.fixture
def rows(databases: list[Database]) -> Rows:
    with databases[0].write_session() as session:
        return stores.new_rows(session)


def at_once(databases: list[Database], act: Callable[[Session, int], T]) -> list[T]:
    """What each writer gets that does `act` in a transaction of its own, all of them at the same moment."""
    barrier = threading.Barrier(len(databases))

    def write(index: int) -> T:
        barrier.wait()
        with databases[index].write_session() as session:
            return act(session, index)

    with ThreadPoolExecutor(len(databases)) as pool:
        return list(pool.map(write, range(len(databases))))


def count(database: Database, model: type[object]) -> int:
    with database.read_session() as session:
        return session.scalar(select(func.count()).select_from(model)) or 0


def claim(database: Database, worker: int) -> Job:
    with database.write_session() as session:
        job = JobRepository(session).claim(worker, "cpu", [])
    assert job is not None
    return job


class TestResults:
    def test_the_same_result_is_accepted_once_and_success_for_all(self, databases: list[Database], rows: Rows) -> None:
        with databases[0].write_session() as session:
            job_id, trials = stores.new_evaluation(session, rows, ROUNDS)
            worker = stores.new_worker(session)
        claim(databases[0], worker)
        for trial in trials:
            replies = at_once(
                databases,
                lambda session, _, trial=trial: JobRepository(session).land_result(job_id, 1, trial, success()),  # type: ignore[misc]
            )
            assert sorted(replies) == ["accepted", *["repeated"] * (WRITERS - 1)]
        with databases[0].read_session() as session:
            told = Counter(session.scalars(select(Event.trial_id).where(Event.kind == "trial.succeeded")))
        assert told == Counter(trials)
        assert count(databases[0], Measurement) == len(trials)

    def test_the_same_end_happens_once_and_is_success_for_all(self, databases: list[Database], rows: Rows) -> None:
        for number in range(ROUNDS):
            with databases[0].write_session() as session:
                job_id, trials = stores.new_evaluation(session, rows, 1, first=number)
                worker = stores.new_worker(session)
            claim(databases[0], worker)
            with databases[0].write_session() as session:
                JobRepository(session).land_result(job_id, 1, trials[0], success())
            states = at_once(
                databases,
                lambda session, _, job_id=job_id: JobRepository(session).done(job_id, 1, WorkState.SUCCEEDED, {}).state,  # type: ignore[misc]
            )
            assert states == [WorkState.SUCCEEDED] * WRITERS
        with databases[0].read_session() as session:
            ends = session.scalars(select(Event.job_id).where(Event.kind == "job.ended")).all()
        assert len(ends) == len(set(ends)) == ROUNDS

    def test_a_result_and_the_reaper_take_turns(self, databases: list[Database], rows: Rows) -> None:
        """The result counts, or the job was taken back before: never both."""
        with databases[0].write_session() as session:
            worker = stores.new_worker(session)
        for number in range(ROUNDS):
            with databases[0].write_session() as session:
                job_id, trials = stores.new_evaluation(session, rows, 1, first=number)
            claim(databases[0], worker)
            with databases[0].write_session() as session:
                stores.expire_lease(session, job_id)

            def act(session: Session, index: int, job_id: int = job_id, trial: int = trials[0]) -> str:
                jobs = JobRepository(session)
                if index:
                    return "reaped" if job_id in jobs.reap() else "left"
                return jobs.land_result(job_id, 1, trial, success())

            try:
                replies = at_once(databases, act)
            except ConflictError:
                replies = ["refused"]
            with databases[0].write_session() as session:
                jobs = JobRepository(session)
                job, trial = jobs.get(job_id), TrialRepository(session).get(trials[0])
                taken = job.state is WorkState.QUEUED
                assert (trial.state is WorkState.QUEUED) is taken, replies
                assert ("refused" in replies) is taken, replies
                if taken:
                    again = jobs.claim(worker, "cpu", [])
                    assert again is not None
                    jobs.land_result(job_id, again.attempt, trials[0], success())
                    jobs.done(job_id, again.attempt, WorkState.SUCCEEDED, {})
                else:
                    jobs.done(job_id, 1, WorkState.SUCCEEDED, {})


class TestRowsThatAreMadeOnce:
    def test_a_search_by_its_idempotency_key(self, databases: list[Database], rows: Rows) -> None:
        for number in range(ROUNDS):
            new = NewSearch(
                name="twice", spec={}, seed=0, dataset_id=rows.dataset_id, request_digest="d" * 64,
                idempotency_key=f"key-{number}",
            )  # fmt: skip

            def submit(session: Session, _: int, new: NewSearch = new) -> tuple[int, bool]:
                search, created = SearchRepository(session).create(rows.owner, new)
                return search.id, created

            replies = at_once(databases, submit)
            assert len({search for search, _ in replies}) == 1
            assert sum(created for _, created in replies) == 1
        assert count(databases[0], Search) == count(databases[0], SearchTally) == 1 + ROUNDS

    @pytest.mark.usefixtures("rows")
    def test_a_worker_by_its_name(self, databases: list[Database]) -> None:
        for number in range(ROUNDS):
            name = f"worker-{number}"
            ids = at_once(databases, lambda session, _, name=name: stores.new_worker(session, name))  # type: ignore[misc]
            assert len(set(ids)) == 1
        assert count(databases[0], Worker) == ROUNDS

    @pytest.mark.usefixtures("rows")
    def test_of_two_incarnations_of_a_worker_the_one_that_came_last_stays(self, databases: list[Database]) -> None:
        at_once(databases, lambda session, index: stores.new_worker(session, "worker-0", f"start {index}"))
        with databases[0].read_session() as session:
            (worker,) = session.scalars(select(Worker)).all()
            told = session.scalars(select(Event).where(Event.kind == "worker.registered").order_by(Event.id)).all()
        assert len(told) == WRITERS
        assert worker.incarnation in {event.data["incarnation"] for event in told}

    def test_a_supernet_by_its_key(self, databases: list[Database], rows: Rows) -> None:
        for number in range(ROUNDS):
            key = stores.digest_of(str(number))

            def make(session: Session, _: int, key: str = key) -> tuple[int, bool]:
                supernet, new = SupernetRepository(session).get_or_create(rows.owner, key, {}, rows.dataset_version_id)
                return supernet.id, new

            replies = at_once(databases, make)
            assert len({supernet for supernet, _ in replies}) == 1
            assert sum(new for _, new in replies) == 1
        assert count(databases[0], Supernet) == 1 + ROUNDS

    def test_an_artifact_by_its_hash(self, databases: list[Database], rows: Rows) -> None:
        before = count(databases[0], Artifact)
        for number in range(ROUNDS):
            digest = stores.digest_of(f"file {number}")

            def upload_and_take(session: Session, index: int, digest: str = digest) -> bool:
                artifacts = ArtifactRepository(session)
                new = artifacts.uploaded(digest, 7, rows.owner)
                artifacts.take(digest, rows.owner, f"job:{index}:weights")
                return new

            assert sum(at_once(databases, upload_and_take)) == 1
            with databases[0].read_session() as session:
                assert len(ArtifactRepository(session).references(digest)) == WRITERS
        assert count(databases[0], Artifact) == before + ROUNDS

    def test_a_project_an_account_and_a_dataset_by_their_names(self, databases: list[Database]) -> None:
        def make(session: Session, _: int) -> tuple[int, int, int]:
            owner = TokenRepository(session).ensure_owner("somebody")
            dataset, _new = DatasetRepository(session).get_or_create(owner, "cells")
            return owner.project_id, owner.account_id, dataset.id

        assert len(set(at_once(databases, make))) == 1


class TestClaims:
    def test_no_job_is_handed_out_twice_and_none_is_left(self, databases: list[Database], rows: Rows) -> None:
        jobs = 24
        with databases[0].write_session() as session:
            workers = [stores.new_worker(session, f"worker-{index}") for index in range(WRITERS)]
            for first in range(jobs):
                stores.new_evaluation(session, rows, 1, first=first)
        barrier = threading.Barrier(WRITERS)

        def work(index: int) -> list[int]:
            """Claim, land and end until nothing comes: a locked candidate may hide the others for a moment."""
            database, done, idle = databases[index], [], 0
            barrier.wait()
            while idle < 20:
                with database.write_session() as session:
                    repository = JobRepository(session)
                    job = repository.claim(workers[index], "cpu", [])
                    if job is None:
                        idle += 1
                        continue
                    for trial in TrialRepository(session).open_of_job(job.id):
                        repository.land_result(job.id, job.attempt, trial.id, success())
                    repository.done(job.id, job.attempt, WorkState.SUCCEEDED, {})
                    done.append(job.id)
            return done

        with ThreadPoolExecutor(WRITERS) as pool:
            done = [job for found in pool.map(work, range(WRITERS)) for job in found]
        assert len(done) == len(set(done)) == jobs
        with databases[0].read_session() as session:
            assert {job.attempt for job in session.scalars(select(Job))} == {1}

    def test_everybody_at_once_never_stands_in_each_others_way(self, databases: list[Database], rows: Rows) -> None:
        """Claims, results, releases, the reaper and a cancel of the same search: no deadlock, nothing left open."""
        with databases[0].write_session() as session:
            workers = [stores.new_worker(session, f"worker-{index}") for index in range(WRITERS - 1)]
            for first in range(0, 24, 3):
                stores.new_evaluation(session, rows, 3, first=first)
        barrier = threading.Barrier(WRITERS)
        ended = threading.Event()

        def work(index: int) -> None:
            barrier.wait()
            while not ended.is_set():
                with databases[index].write_session() as session:
                    job = JobRepository(session, max_crashes=99).claim(workers[index], "cpu", [])
                    trials = [] if job is None else TrialRepository(session).open_of_job(job.id)
                if job is None:
                    continue
                try:
                    with databases[index].write_session() as session:
                        repository = JobRepository(session, max_crashes=99)
                        repository.land_result(job.id, job.attempt, trials[0].id, success())
                        if job.id % 2:
                            stores.expire_lease(session, job.id)
                        else:
                            repository.release(job.id, job.attempt, ReleaseKind.CRASH)
                    with databases[index].write_session() as session:  # too late: audited while others claim the job
                        JobRepository(session).land_result(job.id, job.attempt, trials[-1].id, success(0.1))
                except (ConflictError, NotFoundError):
                    continue  # somebody took it away: another worker's claim, the reaper, the cancel

        def reap_and_cancel() -> None:
            """What a searcher does: it holds the search's row for a whole step, and reaps between two."""
            barrier.wait()
            for _ in range(30):
                with databases[-1].write_session() as session:
                    assert _lock(session, rows.search_id) is not None
                    SearchRepository(session).bump(rows.search_id)
                with databases[-1].write_session() as session:
                    JobRepository(session, max_crashes=99).reap()
            with databases[-1].write_session() as session:
                JobRepository(session).cancel_search(rows.search_id)

        with ThreadPoolExecutor(WRITERS) as pool:
            working = [pool.submit(work, index) for index in range(WRITERS - 1)]
            try:
                pool.submit(reap_and_cancel).result()
            finally:
                ended.set()
            for future in working:
                future.result()
        with databases[0].write_session() as session:
            jobs = JobRepository(session)
            for job in session.scalars(select(Job).where(Job.state == WorkState.RUNNING)).all():
                stores.expire_lease(session, job.id)
            jobs.reap()
            left = [(job.id, job.split_from, job.state) for job in session.scalars(select(Job)) if not job.state.ended]
            assert left == []
            assert {trial.state.ended for trial in session.scalars(select(Trial))} == {True}
            assert SearchRepository(session).get(rows.search_id).state is SearchState.CANCELLED
        with databases[0].read_session() as session:
            told = Counter(
                session.scalars(select(Event.trial_id).where(Event.kind.in_(("trial.succeeded", "trial.cancelled"))))
            )
        assert set(told.values()) == {1}
        assert len(told) == count(databases[0], Trial)

    def test_a_job_of_a_purpose_is_made_once(self, databases: list[Database], rows: Rows) -> None:
        """Two searchers take the same step: the search's row is what they take turns by."""

        def step(session: Session, _: int) -> int:
            session.scalars(select(Search).where(Search.id == rows.search_id).with_for_update(key_share=True)).one()
            return JobRepository(session).create(rows.search_id, JobKind.CHECK_DATASET, "check", {}).id

        assert len(set(at_once(databases, step))) == 1


class TestInTheMiddleOfAnother:
    """One transaction waits in its middle until another has come as far as it can."""

    def beside(self, databases: list[Database], act: Callable[[Session], object]) -> threading.Thread:
        """Do `act` in a transaction of its own; what it raises is lost, so look at what it left."""

        def write() -> None:
            with contextlib.suppress(ConflictError), databases[1].write_session() as session:
                act(session)

        thread = threading.Thread(target=write)
        thread.start()
        thread.join(SETTLED_SECONDS)
        return thread

    def test_a_list_that_is_halved_while_its_search_is_cancelled_leaves_nothing_open(
        self, databases: list[Database], rows: Rows
    ) -> None:
        with databases[0].write_session() as session:
            job_id, _ = stores.new_evaluation(session, rows, 4)
            worker = stores.new_worker(session)
        claim(databases[0], worker)
        with databases[0].write_session() as session:
            JobRepository(session).release(job_id, 1, ReleaseKind.CRASH)
            session.flush()
            cancel = self.beside(databases, lambda other: JobRepository(other).cancel_search(rows.search_id))
            assert cancel.is_alive()  # it waits for the job, or for the one writer
        cancel.join()
        with databases[0].read_session() as session:
            assert {job.state for job in session.scalars(select(Job))} == {WorkState.CANCELLED}
            assert {trial.state for trial in session.scalars(select(Trial))} == {WorkState.CANCELLED}

    # SQLite has one writer: there is no middle to be in.
    @pytest.mark.parametrize("store", ["postgres"], indirect=True)
    def test_a_claim_does_not_wait_for_a_step_of_the_search(self, databases: list[Database], rows: Rows) -> None:
        """It would hold the search's tally while it waits, which the step needs at its end: a deadlock."""
        with databases[0].write_session() as session:
            job_id, _ = stores.new_evaluation(session, rows, 1)
            worker = stores.new_worker(session)
        with databases[0].write_session() as session:
            assert _lock(session, rows.search_id) is not None
            SearchRepository(session).bump(rows.search_id)
            claims = self.beside(databases, lambda other: JobRepository(other).claim(worker, "cpu", []))
            assert not claims.is_alive()
        with databases[0].read_session() as session:
            assert JobRepository(session).get(job_id).attempt == 1

    @pytest.mark.parametrize("store", ["postgres"], indirect=True)
    def test_a_late_result_does_not_wait_for_a_claim_of_its_job(self, databases: list[Database], rows: Rows) -> None:
        with databases[0].write_session() as session:
            job_id, trials = stores.new_evaluation(session, rows, 1)
            worker = stores.new_worker(session)
        claim(databases[0], worker)
        with databases[0].write_session() as session:
            JobRepository(session).release(job_id, 1, ReleaseKind.GRACEFUL)
        with databases[0].write_session() as session:
            assert JobRepository(session).claim(worker, "cpu", []) is not None
            late = self.beside(
                databases, lambda other: JobRepository(other).land_result(job_id, 1, trials[0], success())
            )
            assert not late.is_alive()
        with databases[0].read_session() as session:
            assert session.scalars(select(Event.attempt).where(Event.kind == "result.refused")).all() == [1]

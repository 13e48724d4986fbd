"""Workers and doorbells in every database; a subclass supplies the `database` fixture."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from services.common.db.models import Event, Job, JobAttempt, Search, Worker
from services.common.db.repositories import JobRepository, WorkerRepository
from services.common.db.repositories.doorbells import Bell, DoorbellRepository
from services.common.db.session import Database
from services.common.db.states import WorkerMode, WorkState
from services.common.db.types import db_now
from services.common.errors import ConflictError, NotFoundError
from tests.support import stores
from tests.support.stores import Rows

RING_SECONDS = 10.0


def due(session: Session, **more: Any) -> list[int]:
    settings: dict[str, Any] = {"ring_seconds": RING_SECONDS, "live_seconds": 60.0, "limit": 100, **more}
    return [bell.job_id for bell in DoorbellRepository(session).due(**settings)]


def set_job(database: Database, job_id: int, **values: Any) -> None:
    with database.write_session() as session:
        session.execute(update(Job).where(Job.id == job_id).values(**values))


class WorkerContract:
    @pytest.fixture
    def rows(self, database: Database) -> Rows:
        with database.write_session() as session:
            return stores.new_rows(session)

    def workers(self, database: Database, count: int) -> list[int]:
        with database.write_session() as session:
            return [stores.new_worker(session, f"worker-{number}") for number in range(count)]

    def jobs(self, database: Database, rows: Rows, count: int) -> list[int]:
        with database.write_session() as session:
            return [stores.new_evaluation(session, rows, 1, first=number)[0] for number in range(count)]

    def ring(self, database: Database, **more: Any) -> list[int]:
        with database.write_session() as session:
            return due(session, **more)

    def events(self, database: Database, kind: str) -> int:
        with database.read_session() as session:
            return len(session.scalars(select(Event).where(Event.kind == kind)).all())

    # whom to ring for

    def test_no_more_bells_than_idle_workers_and_the_best_first(self, database: Database, rows: Rows) -> None:
        jobs = self.jobs(database, rows, 4)
        assert self.ring(database) == []  # nobody would hear it
        self.workers(database, 2)
        set_job(database, jobs[3], priority=70)
        assert self.ring(database) == [jobs[3], jobs[0]]
        assert self.ring(database) == []  # they are on their way

    def test_a_bell_that_led_to_nothing_is_sent_again(self, database: Database, rows: Rows) -> None:
        (job,) = self.jobs(database, rows, 1)
        self.workers(database, 1)
        assert self.ring(database) == [job]
        set_job(database, job, rung_at=db_now() - RING_SECONDS - 1)
        assert self.ring(database) == [job]

    def test_a_job_that_came_back_is_rung_for_at_once(self, database: Database, rows: Rows) -> None:
        (job,) = self.jobs(database, rows, 1)
        (worker,) = self.workers(database, 1)
        assert self.ring(database) == [job]
        with database.write_session() as session:
            assert JobRepository(session).claim(worker, "cpu", []) is not None
        assert self.ring(database) == []
        with database.write_session() as session:
            JobRepository(session).release_of_leaving(worker)
        assert self.ring(database) == [job]

    def test_busy_paused_gone_and_silent_workers_are_not_rung_for(self, database: Database, rows: Rows) -> None:
        self.jobs(database, rows, 5)
        busy, paused, gone, silent = self.workers(database, 4)
        with database.write_session() as session:
            assert JobRepository(session).claim(busy, "cpu", []) is not None
            workers = WorkerRepository(session)
            workers.set_mode(paused, rows.owner.project_id, WorkerMode.PAUSED)
            workers.goodbye(gone, rows.owner.project_id, "a", JobRepository(session))
            session.execute(update(Worker).where(Worker.id == silent).values(last_seen_at=db_now() - 61))
        assert self.ring(database) == []

    def test_only_for_what_may_be_handed_out(self, database: Database, rows: Rows) -> None:
        job, cuda, cancelled = self.jobs(database, rows, 3)
        self.workers(database, 3)
        set_job(database, cuda, device_class="cuda")
        set_job(database, cancelled, cancel_requested=True)
        with database.write_session() as session:
            session.execute(update(Search).where(Search.id == rows.search_id).values(paused_at=db_now()))
        assert self.ring(database) == []
        with database.write_session() as session:
            session.execute(update(Search).where(Search.id == rows.search_id).values(paused_at=None))
        assert self.ring(database) == [job]

    def test_each_class_of_devices_hears_its_own(self, database: Database, rows: Rows) -> None:
        first, second, anybody = self.jobs(database, rows, 3)
        self.workers(database, 3)
        with database.write_session() as session:
            session.execute(update(Worker).where(Worker.name == "worker-0").values(device_class="cuda"))
        for job in (first, second):
            set_job(database, job, device_class="cuda")
        with database.write_session() as session:
            bells = DoorbellRepository(session).due(ring_seconds=RING_SECONDS, live_seconds=60, limit=100)
        assert bells == [Bell(first, "cuda"), Bell(anybody, "any")]

    def test_two_that_look_at_once_ring_for_different_jobs(self, database: Database, rows: Rows) -> None:
        jobs = self.jobs(database, rows, 8)
        self.workers(database, 8)
        with ThreadPoolExecutor(4) as pool:
            rung = [job for found in pool.map(lambda _: self.ring(database), range(4)) for job in found]
        assert sorted(rung) == jobs

    # modes, goodbyes and those that are not heard of

    def test_a_goodbye_gives_back_uncharged_and_is_said_once(self, database: Database, rows: Rows) -> None:
        (job,) = self.jobs(database, rows, 1)
        (worker,) = self.workers(database, 1)
        project = rows.owner.project_id
        with database.write_session() as session:
            assert JobRepository(session).claim(worker, "cpu", []) is not None
        for _ in range(2):
            with database.write_session() as session:
                WorkerRepository(session).goodbye(worker, project, "a", JobRepository(session))
        with database.read_session() as session:
            held = session.get(Job, job)
            assert held is not None
            assert (held.state, held.charged, held.worker_id) == (WorkState.QUEUED, 0, None)
            assert session.scalars(select(JobAttempt.outcome)).all() == ["graceful"]
            assert list(WorkerRepository(session).page(project)) == []
        assert self.events(database, "worker.left") == 1

    def test_only_the_present_incarnation_may_say_it(self, database: Database, rows: Rows) -> None:
        (worker,) = self.workers(database, 1)
        with pytest.raises(ConflictError, match="started anew"), database.write_session() as session:
            WorkerRepository(session).goodbye(worker, rows.owner.project_id, "old", JobRepository(session))
        with database.read_session() as session:
            assert len(WorkerRepository(session).page(rows.owner.project_id)) == 1

    def test_who_is_forgotten_is_told_to_register_and_is_back_then(self, database: Database, rows: Rows) -> None:
        old, fresh = self.workers(database, 2)
        project = rows.owner.project_id
        with database.write_session() as session:
            session.execute(update(Worker).where(Worker.id == old).values(last_seen_at=db_now() - 100))
        for expected in (["worker-0"], []):
            with database.write_session() as session:
                assert WorkerRepository(session).forget(60) == expected
        assert self.events(database, "worker.forgotten") == 1
        with pytest.raises(NotFoundError, match="register"), database.write_session() as session:
            WorkerRepository(session).present(old, project, "a", [])
        with database.read_session() as session:
            assert [worker.id for worker in WorkerRepository(session).page(project)] == [fresh]
        with database.write_session() as session:
            assert stores.new_worker(session) == old  # the same incarnation
        with database.write_session() as session:
            assert WorkerRepository(session).present(old, project, "a", []).gone_at is None

    def test_a_mode_lasts_until_the_worker_is_started_anew(self, database: Database, rows: Rows) -> None:
        (worker,) = self.workers(database, 1)
        with database.write_session() as session:
            WorkerRepository(session).set_mode(worker, rows.owner.project_id, WorkerMode.DRAINING)
            stores.new_worker(session)
            assert WorkerRepository(session).mode(worker) is WorkerMode.DRAINING
        assert self.events(database, "worker.draining") == 1
        with database.write_session() as session:
            stores.new_worker(session, incarnation="b")
            assert WorkerRepository(session).mode(worker) is WorkerMode.ACTIVE

    def test_who_is_gone_cannot_be_told_anything(self, database: Database, rows: Rows) -> None:
        (worker,) = self.workers(database, 1)
        with database.write_session() as session:
            WorkerRepository(session).goodbye(worker, rows.owner.project_id, "a", JobRepository(session))
        with pytest.raises(NotFoundError, match="gone"), database.write_session() as session:
            WorkerRepository(session).set_mode(worker, rows.owner.project_id, WorkerMode.PAUSED)

"""Calls in any order: nothing is lost, nothing counts twice. Every database behind the store is driven by it.

Claim, heartbeat, results, done, release, reap, pause, resume and cancel, by workers that hold a job and by those that
lost it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select

from services.common.db.models import Event, Job, Measurement, Trial
from services.common.db.repositories import JobRepository, SearchRepository, TrialRepository
from services.common.db.session import Database
from services.common.db.states import OPEN_STATES, ReleaseKind, SearchState, WorkState
from services.common.errors import ConflictError
from tests.support import stores
from tests.support.stores import success

NewDatabase = Callable[[], AbstractContextManager[Database]]  # a migrated one without rows, for one run of the machine
WORKERS = 3


@dataclass(frozen=True)
class Ticket:
    """What a worker got from a claim, and may use long after the job was taken away from it."""

    job_id: int
    attempt: int
    trials: tuple[int, ...]


class StoreMachine(RuleBasedStateMachine):
    new_database: NewDatabase  # a subclass has it
    tickets: Bundle[Ticket] = Bundle("tickets")

    @initialize(lists=st.lists(st.integers(1, 4), min_size=1, max_size=3))
    def submit(self, lists: list[int]) -> None:
        self.opened = type(self).new_database()
        self.database = self.opened.__enter__()
        self.accepted: dict[int, float] = {}
        self.holder: dict[int, int] = {}  # job → the attempt that was handed out last and not taken back
        self.cancelled = False
        self.paused = False
        with self.database.write_session() as session:
            self.rows = stores.new_rows(session)
            self.trials: list[int] = []
            for count in lists:
                self.trials += stores.new_evaluation(session, self.rows, count, first=len(self.trials))[1]
            self.workers = [stores.new_worker(session, f"worker-{index}") for index in range(WORKERS)]

    def teardown(self) -> None:
        if hasattr(self, "database"):
            try:
                self.finish_everything()
            finally:
                self.opened.__exit__(None, None, None)

    def sync_holders(self) -> None:
        """Which attempts hold a job, read from the events alone: an independent account of the story."""
        self.holder = {}
        with self.database.read_session() as session:
            events = session.scalars(select(Event).order_by(Event.id)).all()
        for event in events:
            if event.job_id is None or event.attempt is None:
                continue
            if event.kind == "job.claimed":
                self.holder[event.job_id] = event.attempt
            elif event.kind in ("job.released", "job.ended"):
                self.holder.pop(event.job_id, None)

    def holds(self, ticket: Ticket) -> bool:
        return self.holder.get(ticket.job_id) == ticket.attempt

    @rule(target=tickets, worker=st.integers(0, WORKERS - 1))
    def claim(self, worker: int) -> Ticket:
        with self.database.write_session() as session:
            jobs = JobRepository(session, max_crashes=3)
            job = jobs.claim(self.workers[worker], "cpu", [])
            trials = () if job is None else tuple(t.id for t in TrialRepository(session).open_of_job(job.id))
        self.sync_holders()
        if job is None:
            return Ticket(1, 0, ())
        held = self.paused or self.cancelled
        assert not held, "a job of a search that is held was handed out"
        return Ticket(job.id, job.attempt, trials)

    @rule(ticket=tickets)
    def heartbeat(self, ticket: Ticket) -> None:
        held = self.holds(ticket)
        try:
            with self.database.write_session() as session:
                reply = JobRepository(session).heartbeat(ticket.job_id, ticket.attempt, {}, 1)
        except ConflictError:
            assert not held
        else:
            assert held
            assert reply.cancel is self.cancelled

    @rule(ticket=tickets, index=st.integers(0, 3), value=st.sampled_from([0.25, 0.75]))
    def result(self, ticket: Ticket, index: int, value: float) -> None:
        """A result of a present or a former holder, once or again, the same or another."""
        if index >= len(ticket.trials):
            return
        trial = ticket.trials[index]
        try:
            with self.database.write_session() as session:
                reply = JobRepository(session).land_result(ticket.job_id, ticket.attempt, trial, success(value))
        except ConflictError:
            return
        if reply == "repeated":
            assert self.accepted[trial] == value
            return
        assert self.holds(ticket), "a result of an attempt that no longer holds the job was accepted"
        assert trial not in self.accepted, "a second result was accepted"
        self.accepted[trial] = value

    @rule(ticket=tickets, outcome=st.sampled_from([WorkState.SUCCEEDED, WorkState.FAILED]))
    def done(self, ticket: Ticket, outcome: WorkState) -> None:
        held = self.holds(ticket)
        try:
            with self.database.write_session() as session:
                jobs = JobRepository(session)
                before = jobs.get(ticket.job_id)
                jobs.done(ticket.job_id, ticket.attempt, outcome, {}, None)
        except ConflictError:
            return
        self.sync_holders()
        assert held or before.attempt == ticket.attempt  # or the same end again

    @rule(ticket=tickets, kind=st.sampled_from(list(ReleaseKind)))
    def release(self, ticket: Ticket, kind: ReleaseKind) -> None:
        try:
            with self.database.write_session() as session:
                jobs = JobRepository(session, max_crashes=3)
                jobs.release(ticket.job_id, ticket.attempt, kind, "released")
        except ConflictError:
            assert not self.holds(ticket)
        self.sync_holders()

    @rule(ticket=consumes(tickets), reapers=st.integers(1, 2))
    def silence(self, ticket: Ticket, reapers: int) -> None:
        """The lease of a job runs out."""
        for _ in range(reapers):
            with self.database.write_session() as session:
                jobs = JobRepository(session, max_crashes=3)
                if self.holds(ticket):
                    stores.expire_lease(session, ticket.job_id)
                jobs.reap()
            self.sync_holders()

    @precondition(lambda self: not self.cancelled)
    @rule(sure=st.integers(0, 9))
    def cancel(self, sure: int) -> None:
        if sure:
            return  # seldom: little happens afterwards
        with self.database.write_session() as session:
            jobs = JobRepository(session)
            assert jobs.cancel_search(self.rows.search_id).state is SearchState.CANCELLED
        self.sync_holders()
        self.cancelled = True

    @precondition(lambda self: not self.cancelled)
    @rule(held=st.booleans())
    def pause_or_resume(self, held: bool) -> None:
        """Nothing is taken from whoever works; nothing more is handed out. Twice is once."""
        with self.database.write_session() as session:
            searches = SearchRepository(session)
            search = searches.pause(self.rows.search_id) if held else searches.resume(self.rows.search_id)
        assert (search.paused_at is not None) is held
        self.paused = held

    @invariant()
    def every_open_trial_is_held_by_one_open_job(self) -> None:
        with self.database.read_session() as session:
            jobs = {job.id: job for job in session.scalars(select(Job))}
            trials = session.scalars(select(Trial).order_by(Trial.id)).all()
        assert [trial.id for trial in trials] == self.trials, "a trial is gone"
        for trial in trials:
            assert trial.job_id is not None
            if trial.state in OPEN_STATES:
                assert jobs[trial.job_id].state is trial.state, "an open trial moves with the job that holds it"
            assert (trial.state is WorkState.SUCCEEDED) == (trial.id in self.accepted)

    @invariant()
    def what_was_accepted_stays_and_is_measured_once(self) -> None:
        with self.database.read_session() as session:
            values = {trial.id: trial.value for trial in session.scalars(select(Trial)) if trial.value is not None}
            measured = [(row.trial_id, row.value) for row in session.scalars(select(Measurement))]
        assert values == self.accepted
        assert sorted(measured) == sorted(self.accepted.items())

    def finish_everything(self) -> None:
        """From wherever it stopped, honest workers bring every trial to an end."""
        with self.database.write_session() as session:
            jobs = JobRepository(session, max_crashes=3)
            if not self.cancelled:
                SearchRepository(session).resume(self.rows.search_id)
            for running in session.scalars(select(Job.id).where(Job.state == WorkState.RUNNING)).all():
                stores.expire_lease(session, running)
            jobs.reap()
            while (job := jobs.claim(self.workers[0], "cpu", [])) is not None:
                for trial in TrialRepository(session).open_of_job(job.id):
                    assert jobs.land_result(job.id, job.attempt, trial.id, success(0.5)) == "accepted"
                jobs.done(job.id, job.attempt, WorkState.SUCCEEDED, {})
            states = {trial.state for trial in session.scalars(select(Trial))}
        assert not states & set(OPEN_STATES)
        if not self.cancelled:
            assert WorkState.CANCELLED not in states


def run_machine(new_database: NewDatabase, *, examples: int, steps: int, derandomize: bool) -> None:
    """Drive many databases through `steps` calls each."""
    machine = type("Machine", (StoreMachine,), {"new_database": staticmethod(new_database)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=derandomize,
            phases=[Phase.explicit, Phase.generate],  # shrinking takes minutes: ask for it when something fails
            suppress_health_check=list(HealthCheck),
        ),
    )

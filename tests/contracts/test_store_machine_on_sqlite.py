"""Claim, heartbeat, results, done, release, reap and cancel in any order: nothing is lost, nothing counts twice."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
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
from services.common.db.repositories import JobRepository, TrialRepository
from services.common.db.states import OPEN_STATES, ReleaseKind, SearchState, WorkState
from services.common.errors import ConflictError
from tests.support import stores
from tests.support.stores import success

TEMPLATE: dict[str, Path] = {}
WORKERS = 3


@dataclass(frozen=True)
class Ticket:
    """What a worker got from a claim, and may use long after the job was taken away from it."""

    job_id: int
    attempt: int
    trials: tuple[int, ...]


class StoreMachine(RuleBasedStateMachine):
    tickets: Bundle[Ticket] = Bundle("tickets")

    @initialize(lists=st.lists(st.integers(1, 4), min_size=1, max_size=3))
    def submit(self, lists: list[int]) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.database = stores.copied_database(TEMPLATE["path"], Path(self.folder.name) / "nasdet.db")
        self.accepted: dict[int, float] = {}
        self.holder: dict[int, int] = {}  # job → the attempt that was handed out last and not taken back
        self.cancelled = False
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
                self.database.close()
                self.folder.cleanup()

    def sync_holders(self, jobs: JobRepository) -> None:
        """Which attempts hold a job, read from the events alone: an independent account of the story."""
        self.holder = {}
        for event in jobs.session.scalars(select(Event).order_by(Event.id)):
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
            self.sync_holders(jobs)
            if job is None:
                return Ticket(1, 0, ())
            return Ticket(job.id, job.attempt, tuple(t.id for t in TrialRepository(session).open_of_job(job.id)))

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
                self.sync_holders(jobs)
        except ConflictError:
            return
        assert held or before.attempt == ticket.attempt  # or the same end again

    @rule(ticket=tickets, kind=st.sampled_from(list(ReleaseKind)))
    def release(self, ticket: Ticket, kind: ReleaseKind) -> None:
        try:
            with self.database.write_session() as session:
                jobs = JobRepository(session, max_crashes=3)
                jobs.release(ticket.job_id, ticket.attempt, kind, "released")
                self.sync_holders(jobs)
        except ConflictError:
            assert not self.holds(ticket)

    @rule(ticket=consumes(tickets), reapers=st.integers(1, 2))
    def silence(self, ticket: Ticket, reapers: int) -> None:
        """The lease of a job runs out."""
        for _ in range(reapers):
            with self.database.write_session() as session:
                jobs = JobRepository(session, max_crashes=3)
                if self.holds(ticket):
                    stores.expire_lease(session, ticket.job_id)
                jobs.reap()
                self.sync_holders(jobs)

    @precondition(lambda self: not self.cancelled)
    @rule(sure=st.integers(0, 9))
    def cancel(self, sure: int) -> None:
        if sure:
            return  # seldom: little happens afterwards
        with self.database.write_session() as session:
            jobs = JobRepository(session)
            assert jobs.cancel_search(self.rows.search_id).state is SearchState.CANCELLED
            self.sync_holders(jobs)
        self.cancelled = True

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


def run_machine(tmp_path: Path, *, examples: int, steps: int, derandomize: bool) -> None:
    TEMPLATE["path"] = stores.migrated_template(tmp_path)
    run_state_machine_as_test(
        StoreMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=derandomize,
            phases=[Phase.explicit, Phase.generate],  # shrinking takes minutes: ask for it when something fails
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_no_order_of_calls_loses_or_doubles_a_result(tmp_path: Path) -> None:
    run_machine(tmp_path, examples=12, steps=25, derandomize=True)  # the same orders in every run


@pytest.mark.slow
def test_no_order_of_calls_loses_or_doubles_a_result_at_length(tmp_path: Path) -> None:
    run_machine(tmp_path, examples=500, steps=60, derandomize=False)

"""Calls in any order: nothing is lost, nothing counts twice. Every database behind the store is driven by it.

Claim, heartbeat, results, done, release, reap, pause, resume and cancel, by workers that hold a job and by those that
lost it. What happened is counted over all runs of the machine, and a kind of call that hardly ever happened fails.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import event, func, select
from sqlalchemy.orm import ORMExecuteState, Session

from services.common.db.models import Event, Job, Measurement, Trial
from services.common.db.repositories import JobRepository, SearchRepository, TrialRepository
from services.common.db.session import Database
from services.common.db.states import OPEN_STATES, ReleaseKind, SearchState, WorkState
from services.common.errors import ConflictError, ResultConflictError, StaleAttemptError
from tests.support import stores
from tests.support.stores import success

NewDatabase = Callable[[], AbstractContextManager[Database]]  # a migrated one without rows, for one run of the machine
WORKERS = 3
MAX_CRASHES = 3
VALUES = (0.25, 0.75)
AT_LEAST = 3  # times that each of these happens over all runs
HAPPENS = (
    "accepted",
    "repeated",
    "another result refused",
    "a result of another job's trial refused",
    "a stale result refused",
    "a stale heartbeat refused",
    "a stale release refused",
    "a stale end refused",
    "heartbeat accepted",
    "released gracefully",
    "halved",
    "charged",
    "reaped",
    "spared by the reaper",
    "unacknowledged claim given back",
    "done",
)
WEIGHTS = {
    "claim": 4,
    "heartbeat": 2,
    "result": 6,
    "result_once_more": 3,
    "stale_result": 3,
    "stale_heartbeat_and_release": 2,
    "done": 2,
    "release": 4,
    "silence": 3,
    "pause_or_resume": 1,
    "cancel": 1,
}
picks = st.integers(0, 11)  # which of a list, modulo its length


@dataclass(frozen=True)
class Ticket:
    """What a worker got from a claim, and may use long after the job was taken away from it."""

    job_id: int
    attempt: int
    trials: tuple[int, ...]
    worker: int


@dataclass(frozen=True)
class Held:
    """A job and its open trials, as they are."""

    state: WorkState
    charged: int
    trials: tuple[int, ...]
    crashes: tuple[int, ...]
    splits: tuple[int, ...]  # the jobs that were split from it


class StoreMachine(RuleBasedStateMachine):
    new_database: NewDatabase  # a subclass has it
    happened: Counter[str]  # and this, for all its runs

    @initialize(lists=st.lists(st.integers(2, 5), min_size=2, max_size=4))
    def submit(self, lists: list[int]) -> None:
        self.opened = type(self).new_database()
        self.database = self.opened.__enter__()
        self.tickets: list[Ticket] = []
        self.accepted: dict[int, float] = {}
        self.landed_in: dict[int, int] = {}  # accepted trial → its job
        self.holder: dict[int, int] = {}  # job → the attempt that was handed out last and not taken back
        self.outcomes: dict[tuple[int, int], str] = {}  # (job, attempt) → how it was given back
        self.cancelled = False
        self.paused = False
        with self.database.write_session() as session:
            self.rows = stores.new_rows(session)
            self.trials: list[int] = []
            for count in lists:
                self.trials += stores.new_evaluation(session, self.rows, count, first=len(self.trials))[1]
            self.workers = [stores.new_worker(session, f"worker-{index}") for index in range(WORKERS)]
        for worker in range(WORKERS - 1):
            self.claim_for(worker)

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
            events = session.scalars(select(Event).where(Event.kind.startswith("job.")).order_by(Event.id)).all()
        for entry in events:
            if entry.job_id is None or entry.attempt is None:
                continue
            if entry.kind == "job.claimed":
                self.holder[entry.job_id] = entry.attempt
            elif entry.kind in ("job.released", "job.ended"):
                self.holder.pop(entry.job_id, None)
            if entry.kind == "job.released":
                self.outcomes[entry.job_id, entry.attempt] = entry.data["outcome"]

    def holds(self, ticket: Ticket) -> bool:
        return self.holder.get(ticket.job_id) == ticket.attempt

    def live(self) -> list[Ticket]:
        return [ticket for ticket in self.tickets if self.holds(ticket)]

    def stale(self) -> list[Ticket]:
        return [ticket for ticket in self.tickets if not self.holds(ticket)]

    def held(self, job_id: int) -> Held:
        with self.database.read_session() as session:
            job = session.get_one(Job, job_id)
            trials = session.scalars(
                select(Trial).where(Trial.job_id == job_id, Trial.state.in_(OPEN_STATES)).order_by(Trial.number)
            ).all()
            splits = session.scalars(select(Job.id).where(Job.split_from == job_id).order_by(Job.id)).all()
            return Held(
                job.state,
                job.charged,
                tuple(trial.id for trial in trials),
                tuple(trial.crashes for trial in trials),
                tuple(splits),
            )

    @contextmanager
    def refused(self, error: type[ConflictError], what: str) -> Iterator[None]:
        """The call is refused, and an event says so."""
        before = self.count_refusals()
        with pytest.raises(error):
            yield
        assert self.count_refusals() == before + 1, f"no event tells of {what}"
        self.happened[what] += 1

    def count_refusals(self) -> int:
        with self.database.read_session() as session:
            return session.scalar(select(func.count()).select_from(Event).where(Event.kind == "result.refused")) or 0

    def claim_for(self, worker: int) -> Ticket | None:
        """The worker asks for a job; what it holds by then goes back as it was."""
        unacknowledged = [(ticket, self.held(ticket.job_id)) for ticket in self.live() if ticket.worker == worker]
        with self.database.write_session() as session:
            job = JobRepository(session, max_crashes=MAX_CRASHES).claim(self.workers[worker], "cpu", [])
            trials = () if job is None else tuple(t.id for t in TrialRepository(session).open_of_job(job.id))
            queued = session.scalars(select(Job.id).where(Job.state == WorkState.QUEUED)).all()
        self.sync_holders()
        for ticket, before in unacknowledged:
            assert not self.holds(ticket), "a worker of one slot holds two jobs"
            self.check_given_back(ticket, before, ReleaseKind.GRACEFUL)
            self.happened["unacknowledged claim given back"] += 1
        if job is None:
            assert self.paused or self.cancelled or not queued, "a job waits, but was not handed out"
            return None
        assert not self.paused, "a job of a paused search was handed out"
        assert not self.cancelled, "a job of a cancelled search was handed out"
        assert trials, "a job without work was handed out"
        ticket = Ticket(job.id, job.attempt, trials, worker)
        assert self.holds(ticket)
        self.tickets.append(ticket)
        return ticket

    def some_live(self, pick: int) -> Ticket | None:
        """A ticket that holds its job, claimed now where there is none; None in a cancelled search."""
        live = self.live()
        if live:
            return live[pick % len(live)]
        if self.cancelled:
            return None
        if self.paused:
            assert self.claim_for(pick % WORKERS) is None
            self.set_paused(False)
        return self.claim_for(pick % WORKERS) or self.claim_new(pick % WORKERS)

    def claim_new(self, worker: int) -> Ticket | None:
        """All work is done: the next generation comes."""
        with self.database.write_session() as session:
            self.trials += stores.new_evaluation(session, self.rows, 4, first=len(self.trials))[1]
        return self.claim_for(worker)

    def some_stale(self, pick: int) -> Ticket | None:
        """The latest ones first: their trials are the likeliest to be open still."""
        stale = self.stale()[::-1]
        return stale[pick % len(stale)] if stale else None

    def land(self, ticket: Ticket, trial: int, value: float) -> str:
        with self.database.write_session() as session:
            return JobRepository(session).land_result(ticket.job_id, ticket.attempt, trial, success(value))

    def check_given_back(self, ticket: Ticket, before: Held, outcome: str) -> None:
        """The work of a job that was taken from its holder: free, halved or charged."""
        after = self.held(ticket.job_id)
        if self.cancelled:
            assert (after.state, after.trials, after.splits) == (WorkState.CANCELLED, (), before.splits)
        elif not before.trials:
            assert (after.state, after.trials, after.splits) == (WorkState.SUCCEEDED, (), before.splits)
        elif outcome == ReleaseKind.GRACEFUL:
            assert after.state in OPEN_STATES  # running where the same worker got it again
            assert after.charged == before.charged, "a graceful release was charged"
            assert after.crashes == before.crashes, "a graceful release was charged to a trial"
            assert (after.trials, after.splits) == (before.trials, before.splits)
        elif len(before.trials) > 1:
            kept = (len(before.trials) + 1) // 2
            (new,) = set(after.splits) - set(before.splits)
            second = self.held(new)
            assert (after.state, second.state) == (WorkState.QUEUED, WorkState.QUEUED)
            assert (after.trials, second.trials) == (before.trials[:kept], before.trials[kept:])
            assert after.crashes + second.crashes == before.crashes, "nobody knows which trial it was"
            assert (after.charged, second.charged) == (before.charged, 0)
            self.happened["halved"] += 1
        else:
            assert after.charged == before.charged + 1
            assert after.splits == before.splits
            if after.charged < MAX_CRASHES:
                assert (after.state, after.trials) == (WorkState.QUEUED, before.trials)
                assert after.crashes == (before.crashes[0] + 1,)
            else:
                assert (after.state.ended, after.trials) == (True, ())
            self.happened["charged"] += 1

    @rule(
        call=st.sampled_from([call for call, weight in WEIGHTS.items() for _ in range(weight)]),
        pick=picks,
        index=picks,
        value=st.sampled_from(VALUES),
        kind=st.sampled_from(list(ReleaseKind)),
        flag=st.booleans(),
    )
    def step(self, call: str, pick: int, index: int, value: float, kind: ReleaseKind, flag: bool) -> None:
        """One rule for all: of many rules, hypothesis leaves out most in each run, among them what the others need."""
        calls: dict[str, Callable[[], None]] = {
            "claim": lambda: self.claim(pick, index % 3 == 0),
            "heartbeat": lambda: self.heartbeat(pick, value, flag),
            "result": lambda: self.result(pick, value, ("next", "again", "other", "elsewhere")[index % 4]),
            "result_once_more": lambda: self.result_once_more(pick, flag),
            "stale_result": lambda: self.stale_result(pick, index, value),
            "stale_heartbeat_and_release": lambda: self.stale_heartbeat_and_release(pick, kind),
            "done": lambda: self.done(pick, index % 4),
            "release": lambda: self.release(pick, kind),
            "silence": lambda: self.silence(pick, 1 + index % 2, flag),
            "pause_or_resume": lambda: self.pause_or_resume(flag),
            "cancel": lambda: self.cancel(index),
        }
        calls[call]()

    def claim(self, pick: int, lost: bool) -> None:
        """By a worker that holds nothing, while there is one, or by one that lost the reply to its last claim."""
        if self.paused or self.cancelled:
            assert self.claim_for(pick % WORKERS) is None
            return
        busy = {ticket.worker for ticket in self.live()}
        able = [worker for worker in range(WORKERS) if (worker in busy) is lost] or list(range(WORKERS))
        self.claim_for(able[pick % len(able)])

    def heartbeat(self, pick: int, value: float, lands: bool) -> None:
        """Of a holder at work: often its next result follows."""
        if (ticket := self.some_live(pick)) is None:
            return
        with self.database.write_session() as session:
            reply = JobRepository(session).heartbeat(ticket.job_id, ticket.attempt, {}, 1)
        assert reply.cancel is self.cancelled
        self.happened["heartbeat accepted"] += 1
        missing = [trial for trial in ticket.trials if trial not in self.accepted]
        if lands and missing:
            self.accept(ticket, missing[0], value)

    def result(self, pick: int, value: float, then: str) -> None:
        """Of the holder, of a trial without one; then the same again, another, or one of a trial it does not hold."""
        if (ticket := self.some_live(pick)) is None:
            return
        missing = [trial for trial in ticket.trials if trial not in self.accepted]
        for trial in missing[: 1 + pick % 2]:
            self.accept(ticket, trial, value)
        landed = [trial for trial in ticket.trials if trial in self.accepted]
        trial = landed[pick % len(landed)]
        if then == "again":
            self.repeat(ticket, trial)
        elif then == "other":
            self.contradict(ticket, trial)
        elif then == "elsewhere":
            self.result_of_another_job(ticket, value)

    def result_once_more(self, pick: int, same: bool) -> None:
        """Of the holder, of a trial that has one: the same is known again, another is refused."""
        landed = [(ticket, t) for ticket in self.live() for t in ticket.trials if t in self.accepted]
        if not landed:
            self.result(pick, VALUES[same], "again" if same else "other")
            return
        (self.repeat if same else self.contradict)(*landed[pick % len(landed)])

    def accept(self, ticket: Ticket, trial: int, value: float) -> None:
        assert self.land(ticket, trial, value) == "accepted"
        self.accepted[trial] = value
        self.landed_in[trial] = ticket.job_id
        self.happened["accepted"] += 1

    def repeat(self, ticket: Ticket, trial: int) -> None:
        assert self.land(ticket, trial, self.accepted[trial]) == "repeated"
        self.happened["repeated"] += 1

    def contradict(self, ticket: Ticket, trial: int) -> None:
        (other,) = set(VALUES) - {self.accepted[trial]}
        with self.refused(ResultConflictError, "another result refused"):
            self.land(ticket, trial, other)

    def result_of_another_job(self, ticket: Ticket, value: float) -> None:
        """Of a holder, but of trials that others work on."""
        owners = [owner for owner in self.live() if owner != ticket]
        if not owners and (beside := self.claim_for((ticket.worker + 1) % WORKERS)) is not None:
            owners.append(beside)
        for trial in [trial for owner in owners for trial in owner.trials]:
            with pytest.raises(ConflictError):
                self.land(ticket, trial, value)
            self.happened["a result of another job's trial refused"] += 1

    def stale_result(self, pick: int, index: int, value: float) -> None:
        """Of a former holder: too late, unless it is known already."""
        if (ticket := self.some_stale(pick)) is None:
            return
        trial = ticket.trials[index % len(ticket.trials)]
        if self.accepted.get(trial) == value and self.landed_in[trial] == ticket.job_id:
            assert self.land(ticket, trial, value) == "repeated"
            return
        with self.refused(StaleAttemptError, "a stale result refused"):
            self.land(ticket, trial, value)

    def stale_heartbeat_and_release(self, pick: int, kind: ReleaseKind) -> None:
        if (ticket := self.some_stale(pick)) is None:
            return
        with self.refused(StaleAttemptError, "a stale heartbeat refused"), self.database.write_session() as session:
            JobRepository(session).heartbeat(ticket.job_id, ticket.attempt, {}, 1)
        before = self.held(ticket.job_id)
        if self.outcomes.get((ticket.job_id, ticket.attempt)) == kind:  # the same release again changes nothing
            with self.database.write_session() as session:
                JobRepository(session).release(ticket.job_id, ticket.attempt, kind, "released")
        else:
            with self.refused(StaleAttemptError, "a stale release refused"), self.database.write_session() as session:
                JobRepository(session).release(ticket.job_id, ticket.attempt, kind, "released")
        assert self.held(ticket.job_id) == before
        if (ticket.job_id, ticket.attempt) in self.outcomes:
            with self.refused(StaleAttemptError, "a stale end refused"), self.database.write_session() as session:
                JobRepository(session).done(ticket.job_id, ticket.attempt, WorkState.FAILED, {}, "late")
        assert self.held(ticket.job_id) == before

    def done(self, pick: int, fails: int) -> None:
        """With what is missing landed first, or seldom as a failure; the same end again is the same."""
        if (ticket := self.some_live(pick)) is None:
            return
        outcome = WorkState.SUCCEEDED if fails else WorkState.FAILED
        missing = [trial for trial in ticket.trials if trial not in self.accepted]
        if outcome is WorkState.SUCCEEDED and missing:
            with pytest.raises(ConflictError), self.database.write_session() as session:
                JobRepository(session).done(ticket.job_id, ticket.attempt, outcome, {}, None)
            if len(missing) > 1:
                return  # a long list stays for the others
            self.accept(ticket, missing[0], VALUES[0])
        for _ in range(2):
            with self.database.write_session() as session:
                job = JobRepository(session).done(ticket.job_id, ticket.attempt, outcome, {}, None)
                assert job.state is outcome
        self.sync_holders()
        assert not self.holds(ticket)
        self.happened["done"] += 1

    def release(self, pick: int, kind: ReleaseKind) -> None:
        if (ticket := self.some_live(pick)) is None:
            return
        before = self.held(ticket.job_id)
        with self.database.write_session() as session:
            JobRepository(session, max_crashes=MAX_CRASHES).release(ticket.job_id, ticket.attempt, kind, "released")
        self.sync_holders()
        assert not self.holds(ticket)
        self.check_given_back(ticket, before, kind)
        if kind is ReleaseKind.GRACEFUL:
            self.happened["released gracefully"] += 1

    def silence(self, pick: int, reapers: int, late: bool) -> None:
        """The lease of a job runs out; those of the others are alive. Or its heartbeat comes at the last moment."""
        if (ticket := self.some_live(pick)) is None:
            return
        before = self.held(ticket.job_id)
        others = [other for other in self.live() if other != ticket]
        with self.database.write_session() as session:
            stores.expire_lease(session, ticket.job_id)
        reaped: list[int] = []
        for _ in range(reapers):
            with self.database.write_session() as session:
                if late:
                    renew_before_first_update(session, ticket)
                reaped += JobRepository(session, max_crashes=MAX_CRASHES).reap()
        assert reaped == ([] if late else [ticket.job_id])
        self.sync_holders()
        assert all(self.holds(other) for other in others)
        assert self.holds(ticket) is late
        if late:
            assert self.held(ticket.job_id) == before
        else:
            self.check_given_back(ticket, before, "lease_expired")
        self.happened["spared by the reaper" if late else "reaped"] += 1

    def cancel(self, sure: int) -> None:
        if self.cancelled or sure > 2:
            return  # seldom: little happens afterwards
        with self.database.write_session() as session:
            jobs = JobRepository(session)
            assert jobs.cancel_search(self.rows.search_id).state is SearchState.CANCELLED
        self.sync_holders()
        self.cancelled = True

    def pause_or_resume(self, held: bool) -> None:
        """Nothing is taken from whoever works; nothing more is handed out. Twice is once."""
        if not self.cancelled:
            self.set_paused(held)

    def set_paused(self, held: bool) -> None:
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
        working = {trial.job_id for trial in trials if trial.state in OPEN_STATES}
        for job in jobs.values():
            assert job.state is not WorkState.QUEUED or job.id in working, "a job without work waits"
            assert (job.lease_expires_at is not None) == (job.state is WorkState.RUNNING), "a lease is of a running job"
        assert self.holder == {job.id: job.attempt for job in jobs.values() if job.state is WorkState.RUNNING}

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
            jobs = JobRepository(session, max_crashes=MAX_CRASHES)
            if not self.cancelled:
                SearchRepository(session).resume(self.rows.search_id)
            for running in session.scalars(select(Job.id).where(Job.state == WorkState.RUNNING)).all():
                stores.expire_lease(session, running)
            jobs.reap()
            for _ in range(1000):
                if (job := jobs.claim(self.workers[0], "cpu", [])) is None:
                    break
                for trial in TrialRepository(session).open_of_job(job.id):
                    assert jobs.land_result(job.id, job.attempt, trial.id, success(0.5)) == "accepted"
                jobs.done(job.id, job.attempt, WorkState.SUCCEEDED, {})
            states = {trial.state for trial in session.scalars(select(Trial))}
        assert not states & set(OPEN_STATES)
        if not self.cancelled:
            assert WorkState.CANCELLED not in states


def renew_before_first_update(session: Session, ticket: Ticket) -> None:
    """As if a heartbeat was committed by another between what the session reads and what it writes."""
    renewed = False

    @event.listens_for(session, "do_orm_execute")
    def renew(state: ORMExecuteState) -> None:
        nonlocal renewed
        if state.is_update and not renewed:  # the reaper has read, and takes back
            renewed = True
            JobRepository(session).heartbeat(ticket.job_id, ticket.attempt, {}, 1)


def run_machine(new_database: NewDatabase, *, examples: int, steps: int, derandomize: bool) -> None:
    """Drive many databases through `steps` calls each."""
    happened: Counter[str] = Counter()
    machine = type("Machine", (StoreMachine,), {"new_database": staticmethod(new_database), "happened": happened})
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
    seldom = {what: happened[what] for what in HAPPENS if happened[what] < AT_LEAST}
    assert not seldom, f"the machine hardly ever did this, so it proves little: {seldom} of {dict(happened)}"

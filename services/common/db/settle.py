"""What a write transaction does last: workers it heard of, revisions it raised, fronts, and its events.

These rows are shared by everybody who works on a search. Whoever locked them in the middle of a transaction and then
waited for a job would stand in the way of whoever holds that job and waits for them. So a transaction only notes
what it owes, and pays just before it commits, in one order: workers, then revisions, both by id. Nothing is waited
for after that, so no two transactions can wait for each other here.

While a search's revision is held nobody else commits a change of that search. Ids of its events, which are given out
then, grow in the order of the commits: a reader that asks for events after the last one it saw misses none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import update
from sqlalchemy.orm import Session

from services.common.db.models import Event, SearchTally, Worker
from services.common.db.standings import rank
from services.common.db.types import db_now

_KEY = "nasdet_owed"


@dataclass
class Owed:
    """What a transaction pays before it commits."""

    searches: set[int] = field(default_factory=set)
    seconds: Counter[int] = field(default_factory=Counter)  # search → device seconds that it has had
    workers: dict[int, list[str] | None] = field(default_factory=dict)  # id → what it holds in memory, if told
    events: list[Event] = field(default_factory=list)
    scored: list[tuple[int, int]] = field(default_factory=list)  # trials that succeeded, and pictures used


def owed(session: Session) -> Owed:
    """The debts of this session's transaction."""
    found: Owed = session.info.setdefault(_KEY, Owed())
    return found


def bump(session: Session, search_id: int | None) -> None:
    """Something that shows has changed in a search: its ETag will be another."""
    if search_id is not None:
        owed(session).searches.add(search_id)


def charge(session: Session, search_id: int | None, seconds: float) -> None:
    """A search had a device for so long."""
    if search_id is not None:
        bump(session, search_id)
        owed(session).seconds[search_id] += seconds  # type: ignore[assignment]  # a Counter may hold fractions


def seen(session: Session, worker_id: int, resident: Sequence[str] | None = None) -> None:
    """A worker was heard of; `resident` is what it says it holds in memory."""
    workers = owed(session).workers
    known = workers.get(worker_id)
    workers[worker_id] = known if resident is None else list(resident)


def settle(session: Session) -> Sequence[Event]:
    """Pay; returns the events that were written. Called by `Database.write_session` and by nobody else."""
    debts = owed(session)
    session.flush()
    for worker_id in sorted(debts.workers):
        resident = debts.workers[worker_id]
        held = {} if resident is None else {"resident": resident}
        _execute(session, update(Worker).where(Worker.id == worker_id).values(last_seen_at=db_now(), **held))
    for search_id in sorted(debts.searches):
        tally = update(SearchTally).where(SearchTally.search_id == search_id)
        used = SearchTally.share + debts.seconds[search_id]
        _execute(session, tally.values(revision=SearchTally.revision + 1, share=used))
    rank(session, debts.scored)
    session.add_all(debts.events)
    session.flush()
    forget(session)
    return debts.events


def forget(session: Session) -> None:
    """A transaction that is rolled back owes nothing."""
    session.info.pop(_KEY, None)


def _execute(session: Session, statement: object) -> None:
    session.execute(statement, execution_options={"synchronize_session": False})  # type: ignore[call-overload]

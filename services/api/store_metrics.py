"""Metrics that the store knows, counted by SQL at each scrape: every API process tells the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import structlog
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from services.api.probe import Probe
from services.common.db.models import Event, FrontMember, Job, JobAttempt, Search, Trial, Worker
from services.common.db.session import Database
from services.common.db.standings import chosen_protocol
from services.common.db.states import JobKind, SearchState, WorkState
from services.common.db.types import db_now

SCRAPE_SECONDS = 2.0  # a scrape never takes longer, whatever the database does
ALIVE_SECONDS = 60.0  # a worker that was heard of in the last minute lives; heartbeats come every lease / 3
HOUR = 3600.0
MOST_SEARCHES = 20  # with a series of their own: the ones that run and were submitted last

log = structlog.get_logger()


@dataclass
class StoreFigures:
    """What one scrape found."""

    searches: dict[str, int]
    trials: dict[str, int]
    jobs: dict[tuple[str, str], int]
    oldest_queued: float
    workers: dict[str, int]
    lease_expiries: int
    fenced: int
    candidates: int
    best: dict[int, float] = field(default_factory=dict)


def read_figures(session: Session) -> StoreFigures:
    """Every number of one scrape, from one snapshot."""
    oldest = session.scalar(select(func.max(db_now() - Job.created_at)).where(Job.state == WorkState.QUEUED))
    return StoreFigures(
        searches=dict(_counts(session, Search.state)),
        trials=dict(_counts(session, Trial.state)),
        jobs={
            (kind.value, state.value): count
            for kind, state, count in session.execute(
                select(Job.kind, Job.state, func.count()).group_by(Job.kind, Job.state)
            )
        },
        oldest_queued=float(oldest or 0.0),
        workers=_alive(session),
        lease_expiries=_count(session, JobAttempt, JobAttempt.outcome == "lease_expired"),
        fenced=_count(session, Event, Event.kind == "result.refused"),
        candidates=_count(session, Trial, Trial.finished_at > db_now() - HOUR),
        best=_best(session),
    )


def _alive(session: Session) -> dict[str, int]:
    alive = (Worker.gone_at.is_(None), Worker.last_seen_at > db_now() - ALIVE_SECONDS)
    rows = session.execute(select(Worker.device_class, func.count()).where(*alive).group_by(Worker.device_class))
    return {row[0]: row[1] for row in rows}


def _counts(session: Session, state: object) -> Iterator[tuple[str, int]]:
    for found, count in session.execute(select(state, func.count()).group_by(state)):  # type: ignore[call-overload]
        yield found.value, count


def _count(session: Session, table: type[object], condition: object) -> int:
    return session.scalar(select(func.count()).select_from(table).where(condition)) or 0  # type: ignore[arg-type]


def _best(session: Session) -> dict[int, float]:
    running = select(Search.id).where(Search.state == SearchState.RUNNING).order_by(Search.id.desc())
    best = {}
    for search_id in session.scalars(running.limit(MOST_SEARCHES)).all():
        protocol = chosen_protocol(session, search_id)
        own = (FrontMember.search_id == search_id, FrontMember.protocol == protocol)
        value = session.scalar(select(func.max(FrontMember.value)).where(*own))
        if value is not None:
            best[search_id] = value
    return best


class StoreCollector(Collector):
    """Asks the store at every scrape. While it is away: `nasdet_database_up 0`, and the process's own metrics."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._probe = Probe("metrics-figures", self._read)

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering this must not ask the store."""
        return []

    def collect(self) -> Iterator[Metric]:
        figures = self._figures()
        yield _gauge("nasdet_database_up", "Whether the database answered this scrape.", float(figures is not None))
        if figures is not None:
            yield from _families(figures)

    def _figures(self) -> StoreFigures | None:
        try:
            return self._probe.ask(SCRAPE_SECONDS)
        except Exception as error:  # whatever it is: a scrape says that the store is away, the log says why
            log.warning("metrics.store_away", error=str(error) or type(error).__name__)
            return None

    def _read(self) -> StoreFigures:
        with self._database.read_session() as session:
            return read_figures(session)


def _families(figures: StoreFigures) -> Iterator[Metric]:
    searches = GaugeMetricFamily("nasdet_searches", "Searches by state.", labels=["state"])
    for state in SearchState:
        searches.add_metric([state.value], figures.searches.get(state.value, 0))
    yield searches
    trials = GaugeMetricFamily("nasdet_trials", "Trials by state.", labels=["state"])
    jobs = GaugeMetricFamily("nasdet_jobs", "Jobs by kind and state.", labels=["kind", "state"])
    for work in WorkState:
        trials.add_metric([work.value], figures.trials.get(work.value, 0))
        for kind in JobKind:
            jobs.add_metric([kind.value, work.value], figures.jobs.get((kind.value, work.value), 0))
    yield trials
    yield jobs
    yield _gauge("nasdet_oldest_queued_seconds", "Age of the oldest job that waits; 0: none.", figures.oldest_queued)
    workers = GaugeMetricFamily("nasdet_workers", "Workers heard of in the last minute.", labels=["device_class"])
    for device_class, count in figures.workers.items():
        workers.add_metric([device_class], count)
    yield workers
    yield CounterMetricFamily("nasdet_lease_expiries", "Attempts whose lease ran out.", value=figures.lease_expiries)
    yield CounterMetricFamily("nasdet_fenced_results", "Results refused: late or other ones.", value=figures.fenced)
    yield _gauge("nasdet_candidates_last_hour", "Candidates that came to an end in the last hour.", figures.candidates)
    best = GaugeMetricFamily("nasdet_best_box_map", "Best AP (0..1) of searches that run.", labels=["search"])
    for search_id, value in figures.best.items():
        best.add_metric([str(search_id)], value)
    yield best


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)

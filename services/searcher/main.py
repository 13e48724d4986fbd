"""The searcher's loop: a step for every running search, then the reaper; again and again."""

from __future__ import annotations

import threading
import time
from collections import Counter

import structlog
from sqlalchemy.exc import OperationalError

from services.common.alive import SignOfLife
from services.common.db.repositories import EventRepository, JobRepository, Owner, SearchRepository, WorkerRepository
from services.common.db.session import Database
from services.common.db.states import SearchState
from services.common.settings import SearcherSettings
from services.searcher.doorbell import Doorbell
from services.searcher.reaper import reap
from services.searcher.stages import step

log = structlog.get_logger()

FORGET_EVERY_SECONDS = 5.0
STEP_FAILURES = 3  # one may be an accident of the moment; after so many in a row the search itself is the cause


class Searcher:
    """Keeps nothing that matters: another process may take over at any moment, or work beside it."""

    def __init__(self, database: Database, settings: SearcherSettings) -> None:
        self.database = database
        self.settings = settings
        self._forget_at = 0.0
        self._failures: Counter[int] = Counter()  # steps of a search that failed in a row

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set. A database that is away or full is waited for."""
        doorbell = self._doorbell()
        if doorbell is not None:
            doorbell.start()
        sign = SignOfLife(self.settings.home)
        while not stop.is_set():
            sign.beat()
            try:
                self.round()
            except OperationalError as error:
                log.error("searcher.database", error=str(error.orig))
            stop.wait(self.settings.poll_seconds)
        if doorbell is not None:
            doorbell.stop()

    def _doorbell(self) -> Doorbell | None:
        """Where there is a broker; Celery is imported then only."""
        url = self.settings.resolved_broker_url
        return None if url is None else Doorbell(self.database, self.settings, url)

    def round(self) -> None:
        """Every running search once."""
        with self.database.read_session() as session:
            running = [search.id for search in SearchRepository(session).running()]
        for search_id in running:
            with structlog.contextvars.bound_contextvars(search_id=search_id):
                self._step(search_id)
        with self.database.write_session() as session:
            reaped = reap(
                session,
                lease_seconds=self.settings.lease_seconds,
                max_crashes=self.settings.max_crashes,
            )
        if reaped:
            log.warning("jobs.reaped", jobs=list(reaped))
        self._forget_workers()

    def _forget_workers(self) -> None:
        """Now and then: who was not heard of for long is listed no more, and registers anew when it is back."""
        now = time.monotonic()
        if now < self._forget_at:
            return
        self._forget_at = now + FORGET_EVERY_SECONDS
        with self.database.write_session() as session:
            forgotten = WorkerRepository(session).forget(self.settings.forget_seconds)
        if forgotten:
            log.warning("workers.forgotten", workers=forgotten)

    def _step(self, search_id: int) -> None:
        try:
            with self.database.write_session() as session:
                step(session, search_id, lease_seconds=self.settings.lease_seconds)
        except OperationalError:
            raise  # the database's trouble, not the search's
        except Exception as error:
            log.exception("step.failed")
            self._failures[search_id] += 1
            self._report(search_id, error)
        else:
            self._failures.pop(search_id, None)

    def _report(self, search_id: int, error: Exception) -> None:
        """Tell the story, and end a search whose step fails again and again."""
        what = f"{type(error).__name__}: {error}"
        times = self._failures[search_id]
        with self.database.write_session() as session:
            search = SearchRepository(session).get(search_id)
            data = {"stage": search.stage.value, "error": what, "times": times}
            EventRepository(session).add("step.failed", Owner.of(search), search_id=search_id, data=data)
            if times >= STEP_FAILURES:
                reason = (
                    f"the searcher failed {times} times in a row at stage '{search.stage}' ({what}); "
                    "see the searcher's log"
                )
                JobRepository(session).end_search(search_id, SearchState.FAILED, reason)
                del self._failures[search_id]

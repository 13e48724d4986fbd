"""How often a worker shall send a heartbeat."""

from __future__ import annotations

import threading
import time

from sqlalchemy.orm import Session

from services.common.db.repositories import WorkerRepository

COUNT_SECONDS = 5.0  # the number of workers is counted this often only
FASTEST_SECONDS = 1.5  # whoever cancels something has the device back within 5 s
HEARTBEATS_PER_SECOND = 100  # of all workers together
LIVE_LEASES = 2  # a worker that was not seen for so many leases is not counted


class Pace:
    """Few workers are heard of often, many of them seldom; never so seldom that a lease is in danger."""

    def __init__(self, lease_seconds: float) -> None:
        self._lease = lease_seconds
        self._lock = threading.Lock()
        self._seconds = 0.0
        self._counted_at: float | None = None

    def seconds(self, session: Session) -> float:
        """Between two heartbeats of one worker."""
        now = time.monotonic()
        with self._lock:
            fresh = self._counted_at is not None and now - self._counted_at < COUNT_SECONDS
            if not fresh:
                self._counted_at = now  # the others go on with the old number meanwhile
        if not fresh:
            self._seconds = self.of(WorkerRepository(session).count_live(None, LIVE_LEASES * self._lease))
        return self._seconds or self.of(0)

    def of(self, workers: int) -> float:
        return min(self._lease / 3, max(FASTEST_SECONDS, workers / HEARTBEATS_PER_SECOND))

"""The thread that keeps a lease alive. It runs in the supervisor, where no computation can starve it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import structlog

from nasdet_core.errors import NasDetError
from services.worker.api_client import FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS, ApiClient, Json
from services.worker.errors import StaleAttemptError
from services.worker.log_ring import LogRing

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass
class HeldJob:
    """What the supervisor knows about the attempt it holds. Read by the heartbeat's thread."""

    id: int
    attempt: int
    heartbeat_seconds: float  # as the API said last
    lease_seconds: float
    started_at: float = field(default_factory=time.monotonic)
    counter: int = 0
    progress: dict[str, Any] = field(default_factory=dict)
    moved_at: float = field(default_factory=time.monotonic)

    @classmethod
    def claimed(cls, job: Json) -> HeldJob:
        return cls(
            id=job["id"],
            attempt=job["attempt"],
            heartbeat_seconds=job["heartbeat_seconds"],
            lease_seconds=job["lease_seconds"],
        )

    def note(self, counter: int, progress: dict[str, Any]) -> None:
        if counter != self.counter:
            self.moved_at = time.monotonic()
        self.progress = progress
        self.counter = counter

    def where(self) -> str:
        """Where it was when it was last heard of, for a reason that people read."""
        shown = {key: self.progress[key] for key in ("stage", "trial", "epoch", "step") if key in self.progress}
        words = (f"{key} {value:.1f}" if isinstance(value, float) else f"{key} {value}" for key, value in shown.items())
        return ", ".join(words) or "before its first sign of progress"


class Heartbeat:
    """Sends one as often as the API says, news or not: its reply is how a job hears that it should stop.

    A context manager around a job.
    """

    def __init__(self, client: ApiClient, held: HeldJob, log: LogRing) -> None:
        self._client = client
        self._held = held
        self._log = log
        self._ended = threading.Event()
        self._sent_log = 0
        self._context = structlog.contextvars.get_contextvars()
        self.cancelled = False
        self.release = False  # somebody wants this worker to leave now
        self.lost: StaleAttemptError | None = None
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """No heartbeat comes after this returns: the end of a job is the last thing the API hears of it."""
        self._ended.set()
        self._thread.join()

    def _beat(self) -> None:
        structlog.contextvars.bind_contextvars(**self._context)
        pause = self._held.heartbeat_seconds
        failures = 0
        while not self._ended.wait(pause):
            try:
                self._send()
            except StaleAttemptError as error:
                self.lost = error
                return
            except NasDetError as error:
                if failures == 0:
                    log.warning("heartbeat.lost", reason=str(error))
                pause = min(FIRST_WAIT_SECONDS * 2**failures, LONGEST_WAIT_SECONDS)
                failures = min(failures + 1, 8)
            else:
                pause, failures = self._held.heartbeat_seconds, 0

    def _send(self) -> None:
        written = self._log.written()
        body: dict[str, Any] = {
            "attempt": self._held.attempt,
            "counter": self._held.counter,
            "progress": self._held.progress,
        }
        if written != self._sent_log:
            body["log"] = self._log.text()
        # A connection that swallows everything may not cost the lease: there is time for two more tries.
        reply = self._client.heartbeat(self._held.id, body, seconds=self._held.lease_seconds / 3)
        self._sent_log = written
        self._held.heartbeat_seconds = float(reply["heartbeat_seconds"])
        self.release = self.release or bool(reply["release"])
        self.cancelled = self.cancelled or bool(reply["cancel"])

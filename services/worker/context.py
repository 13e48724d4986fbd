"""What a job function may do besides computing: report, land results, store and fetch artifacts. Imports no
torch."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from services.worker.artifact_cache import ArtifactCache, Held
from services.worker.errors import JobStoppedError, StaleAttemptError, WorkerError
from services.worker.resident import Resident
from services.worker.work import JobRequest, TrialOutcome, TrialRequest

REPORT_SECONDS = 0.2  # progress goes to the supervisor at most this often


class JobApi(Protocol):
    """The calls of ApiClient that jobs use."""

    def land_result(self, job_id: int, body: Mapping[str, Any]) -> None: ...
    def save_checkpoint(self, job_id: int, *, attempt: int, digest: str, step: int) -> None: ...
    def put_artifact(self, data: bytes) -> str: ...
    def get_artifact(self, digest: str) -> bytes: ...
    def download(
        self, digest: str, place: Path, room: Callable[[int], None], tick: Callable[[], object] = ...
    ) -> None: ...


@dataclass(frozen=True)
class ExecutorFacts:
    """What does not change while an executor lives."""

    home: Path
    device: str  # cpu or cuda
    threads: int
    checkpoint_seconds: float
    data_root: Path | None = None


class JobContext:
    """One attempt at one job, as its function sees the world."""

    def __init__(
        self,
        job: JobRequest,
        *,
        api: JobApi,
        facts: ExecutorFacts,
        resident: Resident,
        send_progress: Callable[[int, Mapping[str, Any]], None],
        cache: ArtifactCache | None = None,
    ) -> None:
        """Without a `cache`, artifacts are fetched anew each time, and archives cannot be unpacked."""
        self.job = job
        self.api = api
        self.facts = facts
        self.resident = resident
        self._send_progress = send_progress
        self._cache = cache
        self._shown: dict[str, Any] = {}
        self._counter = 0
        self._reported_at = 0.0
        self._stop = threading.Event()
        self._stale: StaleAttemptError | None = None
        self._lock = threading.Lock()

    def stop(self) -> None:
        """Asked for by the supervisor, from another thread: the job ends at its next sign of progress."""
        self._stop.set()

    def give_up(self, error: StaleAttemptError) -> None:
        """The uploader found out that the attempt is not ours any more."""
        self._stale = error

    def check(self) -> None:
        """Raise when there is no reason to go on."""
        if self._stale is not None:
            raise self._stale
        if self._stop.is_set():
            raise JobStoppedError

    def progress(self, **values: Any) -> None:
        """A sign of life, and what is shown to people; values that are not named stay as they were."""
        self.check()
        with self._lock:
            self._counter += 1
            # Where we are is told at once: should this process die now, the reason names it.
            moved = any(values.get(key, self._shown.get(key)) != self._shown.get(key) for key in ("stage", "trial"))
            self._shown.update({key: _finite(value) for key, value in values.items()})
            now = time.monotonic()
            if now - self._reported_at >= REPORT_SECONDS or moved:
                self._reported_at = now
                self._send_progress(self._counter, dict(self._shown))

    def tick(self, *_: object) -> None:
        """A sign of life without news."""
        self.progress()

    def log(self, sentence: str) -> None:
        """A line in the attempt's log."""
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {sentence}\n")
        sys.stderr.flush()

    def land_result(self, trial: TrialRequest, outcome: TrialOutcome) -> None:
        """Hand in one candidate's result; it counts from now on, whatever becomes of this job."""
        self.check()
        self.api.land_result(self.job.id, {"attempt": self.job.attempt, **outcome.to_json(trial)})

    def put_artifact(self, data: bytes) -> str:
        self.check()
        return self.api.put_artifact(data)

    def get_artifact(self, digest: str) -> bytes:
        """Something small, or something that is needed once."""
        self.check()
        return self.api.get_artifact(digest)

    def cached_artifact(self, digest: str) -> bytes:
        """Something that other jobs on this machine are likely to need, too."""
        self.check()
        if self._cache is None:
            return self.api.get_artifact(digest)
        return self._cache.read(digest, self._download, self.tick)

    def unpacked(self, digest: str, *, verify: bool = False) -> Held:
        """The folder of an uploaded archive; it stays as long as the returned object lives. See ArtifactCache.tree."""
        self.check()
        if self._cache is None:
            raise WorkerError(
                "an archive is needed, but this worker has no cache to unpack it in; set NASDET_CACHE_BYTES"
            )
        return self._cache.tree(digest, self._download, self.tick, verify=verify)

    def _download(self, digest: str, place: Path, room: Callable[[int], None]) -> None:
        self.api.download(digest, place, room, self.tick)


def _finite(value: Any) -> Any:
    """JSON knows no infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value

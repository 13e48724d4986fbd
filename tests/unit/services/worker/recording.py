"""A job without a server: what it wants to tell the API is kept in lists."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from services.worker.artifact_cache import ArtifactCache
from services.worker.context import ExecutorFacts, JobContext
from services.worker.resident import Resident
from services.worker.work import JobRequest, TrialRequest


class RecordingApi:
    """Keeps artifacts and everything that lands; `refuse` is raised for every result after it was noted."""

    def __init__(self, refuse: Exception | None = None) -> None:
        self.results: list[dict[str, Any]] = []
        self.checkpoints: list[tuple[int, str]] = []
        self.artifacts: dict[str, bytes] = {}
        self.downloads: list[str] = []
        self._refuse = refuse

    def land_result(self, _job_id: int, body: Mapping[str, Any]) -> None:
        self.results.append(dict(body))
        if self._refuse is not None:
            raise self._refuse

    def save_checkpoint(self, _job_id: int, *, attempt: int, digest: str, step: int) -> None:
        del attempt
        self.checkpoints.append((step, digest))
        if self._refuse is not None:
            raise self._refuse

    def put_artifact(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        self.artifacts[digest] = data
        return digest

    def get_artifact(self, digest: str) -> bytes:
        return self.artifacts[digest]

    def download(
        self,
        digest: str,
        place: Path,
        room: Callable[[int], None],
        tick: Callable[[], object] = lambda: None,
    ) -> None:
        tick()
        room(len(self.artifacts[digest]))
        place.write_bytes(self.artifacts[digest])
        self.downloads.append(digest)


class Reports(list[tuple[int, dict[str, Any]]]):
    def __call__(self, counter: int, shown: Mapping[str, Any]) -> None:
        self.append((counter, dict(shown)))


def make_job(kind: str = "evaluate", numbers: tuple[int, ...] = (), **payload: Any) -> JobRequest:
    trials = tuple(TrialRequest(id=100 + number, number=number, genotype=(number, 0)) for number in numbers)
    return JobRequest(id=1, kind=kind, attempt=1, payload=payload, trials=trials)


def make_context(
    job: JobRequest,
    api: RecordingApi,
    *,
    home: Path = Path("/nonexistent"),
    reports: Reports | None = None,
    resident: Resident | None = None,
    checkpoint_seconds: float = 15.0,
    cache: ArtifactCache | None = None,
) -> JobContext:
    return JobContext(
        job,
        api=api,
        facts=ExecutorFacts(home=home, device="cpu", threads=1, checkpoint_seconds=checkpoint_seconds),
        resident=Resident() if resident is None else resident,
        send_progress=Reports() if reports is None else reports,
        cache=cache,
    )

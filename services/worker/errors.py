"""Ways in which the API can refuse a worker."""

from __future__ import annotations

from nasdet_core.errors import NasDetError


class WorkerError(NasDetError):
    """Root of what ends a worker with one sentence."""


class ApiUnreachableError(WorkerError):
    """The API did not answer for as long as we were willing to wait."""


class ApiRefusedError(WorkerError):
    """The API understood the request and refused it; the message is the API's own sentence."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class ProtocolRefusedError(ApiRefusedError):
    """426: API and worker are of different versions."""


class StaleAttemptError(ApiRefusedError):
    """The attempt does not hold the job any more, or the job is gone. Abandon it quietly."""


class JobStoppedError(Exception):
    """Raised inside a job when the supervisor asked for its end; no error of the job."""

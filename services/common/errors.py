"""Errors of the services: expected outcomes with an HTTP status, rendered as problem+json by one handler.

Every message is one sentence: what was expected, what came, where, what to do. `slug` is the stable name a
client may test for (the `type` of the problem); two errors with one status differ in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from nasdet_core.errors import NasDetError


class ServiceError(NasDetError):
    """Root of what a service refuses on purpose."""

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    # Set by errors that are raised after an audit event was written: the transaction is kept.
    keeps_transaction: ClassVar[bool] = False

    def extra(self) -> dict[str, Any]:
        """Further members of the problem document."""
        return {}


class InvalidRequestError(ServiceError):
    """A malformed payload; `errors` names each field."""

    status = 422
    slug = "invalid-request"
    title = "The request is not valid"

    def __init__(self, detail: str, errors: Sequence[dict[str, Any]] = ()) -> None:
        super().__init__(detail)
        self.errors = list(errors)

    def extra(self) -> dict[str, Any]:
        return {"errors": self.errors} if self.errors else {}


class BadRequestError(ServiceError):
    status = 400
    slug = "bad-request"
    title = "The request cannot be served as it is"


class UnauthorizedError(ServiceError):
    status = 401
    slug = "unauthorized"
    title = "A valid token is needed"


class ForbiddenError(ServiceError):
    status = 403
    slug = "forbidden"
    title = "The token does not allow this"


class NotFoundError(ServiceError):
    status = 404
    slug = "not-found"
    title = "Not found"


class ConflictError(ServiceError):
    status = 409
    slug = "conflict"
    title = "The request does not fit the present state"


class StaleAttemptError(ConflictError):
    """Another attempt holds the job, or none does: whoever sent this must drop the job quietly."""

    slug = "stale-attempt"
    title = "This attempt no longer holds the job"
    keeps_transaction = True


class ResultConflictError(ConflictError):
    """A result is there already, and it is another one."""

    slug = "result-conflict"
    title = "Another result was accepted before"
    keeps_transaction = True


class IncompleteJobError(ConflictError):
    """A job was reported as succeeded while trials of it have no result."""

    slug = "incomplete-job"
    title = "Results are missing"


class RequestTimeoutError(ServiceError):
    status = 408
    slug = "timeout"
    title = "The rest of the request did not come"


class PayloadTooLargeError(ServiceError):
    status = 413
    slug = "too-large"
    title = "The body is too large"


class ProtocolMismatchError(ServiceError):
    status = 426
    slug = "protocol-mismatch"
    title = "Worker and API are of different versions"


class StorageFullError(ServiceError):
    status = 507
    slug = "storage-full"
    title = "The disk is full"


class UnavailableError(ServiceError):
    status = 503
    slug = "unavailable"
    title = "Not available at the moment"


class SchemaVersionError(ServiceError):
    """The database was made by another version than this program can read."""

    slug = "schema-version"
    title = "The database is of another version"


class HomeError(ServiceError):
    """The installation's folder or one of its files is not what it must be."""

    slug = "home"
    title = "The installation's folder cannot be used"


class SettingError(ServiceError):
    """A setting of a process, or a file that it names, is not what it must be."""

    slug = "setting"
    title = "A setting cannot be used"


class DatabaseAwayError(ServiceError):
    """The database server does not answer, or does not let this process in."""

    status = 503
    slug = "database-away"
    title = "The database is away"

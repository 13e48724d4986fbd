"""Errors as problem+json (RFC 9457). No stack trace ever reaches a client."""

from __future__ import annotations

import errno
import http
from collections.abc import Mapping
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from services.common.db.session import DATABASE_AWAY, is_storage_full
from services.common.errors import (
    InvalidRequestError,
    ServiceError,
    StorageFullError,
    UnauthorizedError,
    UnavailableError,
)
from services.common.specification import SpecificationError

log = structlog.get_logger()

FULL = "the disk of the platform is full, so nothing of this request was kept; make room and send it again"


class FieldProblem(BaseModel):
    loc: list[str | int]
    msg: str


class Problem(BaseModel):
    """The body of every refusal."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] | None = None


def problem(error: ServiceError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    body = {
        "type": f"urn:nasdet:problem:{error.slug}",
        "title": error.title,
        "status": error.status,
        "detail": str(error),
        **error.extra(),
    }
    if isinstance(error, UnauthorizedError):
        headers = {**(headers or {}), "WWW-Authenticate": "Bearer"}
    return JSONResponse(body, error.status, headers, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    """Every way in which a request can fail ends in `problem`."""
    app.add_exception_handler(ServiceError, _service_error)
    app.add_exception_handler(SpecificationError, _specification_error)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(SQLAlchemyError, _database_error)
    app.add_exception_handler(OSError, _system_error)
    app.add_exception_handler(Exception, _unexpected)


def _service_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ServiceError)  # the handler is registered for this class
    return problem(error)


def _specification_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, SpecificationError)  # the handler is registered for this class
    fields = [{"loc": field.loc.split(".") if field.loc else [], "msg": field.msg} for field in error.errors]
    return problem(InvalidRequestError(str(error), fields))


def _malformed(_request: Request, error: Exception) -> JSONResponse:
    """422 with the place and a sentence for each field; what was sent is not echoed."""
    assert isinstance(error, RequestValidationError)  # the handler is registered for this class
    fields = [
        {"loc": [part for part in entry["loc"] if part != "body"], "msg": str(entry["msg"])} for entry in error.errors()
    ]
    named = "; ".join(f"{'.'.join(map(str, field['loc'])) or 'body'}: {field['msg']}" for field in fields[:5])
    return problem(InvalidRequestError(named, fields))


class _HttpProblem(ServiceError):
    """What the framework refuses by itself: an unknown path, a method that does not exist."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status  # type: ignore[misc]  # one class for every status of the framework
        self.slug = "http"  # type: ignore[misc]  # the same
        self.title = http.HTTPStatus(status).phrase  # type: ignore[misc]  # the same


def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # the handler is registered for this class
    detail = str(error.detail)
    if error.status_code == http.HTTPStatus.NOT_FOUND:
        detail = f"this version has no route {request.method} {request.url.path}"
    elif error.status_code == http.HTTPStatus.METHOD_NOT_ALLOWED:
        detail = f"{request.url.path} does not take {request.method}"
    return problem(_HttpProblem(error.status_code, detail), error.headers)


def _database_error(request: Request, error: Exception) -> JSONResponse:
    if is_storage_full(error):
        log.error("storage.full", path=request.url.path)
        return problem(StorageFullError(FULL))
    if isinstance(error, DATABASE_AWAY):
        said = str(error.orig if isinstance(error, DBAPIError) else error)
        log.warning("database.away", path=request.url.path, error=said)
        return problem(UnavailableError("the database did not answer in time; send the request again"))
    log.error("database.error", path=request.url.path, exc_info=error)
    return problem(ServiceError("the platform failed to serve this request; its log says more"))


def _system_error(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        log.error("storage.full", path=request.url.path)
        return problem(StorageFullError(FULL))
    return _unexpected(request, error)


def _unexpected(request: Request, error: Exception) -> JSONResponse:
    log.error("request.failed", method=request.method, path=request.url.path, exc_info=error)
    return problem(ServiceError("the platform failed to serve this request; its log says more"))


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: which refusals its caller must expect, besides those every route has."""
    everywhere = (400, 401, 403, 408, 413, 422, 500, 503, 507)
    content = {"application/problem+json": {"schema": Problem.model_json_schema()}}
    return {
        status: {"description": http.HTTPStatus(status).phrase, "content": content}
        for status in sorted({*everywhere, *statuses})
    }

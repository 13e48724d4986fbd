"""What is known of a request while it is served: its number for people, who sent it, and where it went.

`ObserveMiddleware` stands outside of everything else, so that whatever is answered is counted, logged in one line, and
carries its number. Never in a log: headers, query strings, bodies.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.metrics import RequestMetrics

REQUEST_ID = "X-Request-ID"
NO_ROUTE = "none"
CLIENT_LEFT = 499  # nobody was there any more to be answered
_NUMBER = re.compile(r"[0-9]{1,19}\Z")
_GIVEN_ID = re.compile(r"[!-~]{1,64}\Z")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_KEY = "nasdet.request"
# What workers and dashboards send all the time.
_POLLED = frozenset({"/v1/jobs/claim", "/v1/jobs/{job_id}/heartbeat", "/v1/jobs/{job_id}/log"})

log = structlog.get_logger()


@dataclass
class RequestFacts:
    """Filled while a request is served."""

    id: str
    token: str | None = None  # the token's name, never the token
    account: int | None = None


def facts(scope: Scope | Any) -> RequestFacts:
    """Of the request with this ASGI scope."""
    known: RequestFacts = scope[_KEY]
    return known


class ObserveMiddleware:
    """Gives each request its number, then tells the log and the metrics how it ended."""

    def __init__(self, app: ASGIApp, metrics: RequestMetrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID, "")
        known = scope[_KEY] = RequestFacts(given if _GIVEN_ID.match(given) else secrets.token_hex(8))
        status = CLIENT_LEFT
        began = time.perf_counter()

        async def send_numbered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = known.id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=known.id):
            try:
                await self.app(scope, receive, send_numbered)
            except Exception:
                if status != 500:
                    raise
                # Answered and told already (problems.py); the framework raises it again for the server to tell twice.
            finally:
                self._tell(scope, known, status, time.perf_counter() - began)

    def _tell(self, scope: Scope, known: RequestFacts, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        route = str(getattr(scope.get("route"), "path", NO_ROUTE))
        self.metrics.count(method, route, status, seconds)
        quiet = status < 400 and (method in ("GET", "HEAD") or route in _POLLED)
        tell = log.debug if quiet else log.error if status >= 500 else log.info
        tell(
            "request",
            method=method,
            route=route,
            status=status,
            ms=round(seconds * 1000, 1),
            token=known.token,
            account=known.account,
            **_ids(scope.get("path_params", {})),
        )


def _ids(path: Mapping[str, object]) -> dict[str, int]:
    """Numbers that a path names: search_id, job_id, …; as text they may be anything."""
    ids = {key: str(text) for key, text in path.items() if key.endswith("_id")}
    return {key: int(text) for key, text in ids.items() if _NUMBER.match(text)}

"""What is refused before a route is looked for: foreign hosts and origins, bodies that are too large."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.problems import problem
from services.common.errors import (
    BadRequestError,
    ForbiddenError,
    PayloadTooLargeError,
    RequestTimeoutError,
    ServiceError,
    UnauthorizedError,
)

_UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})
# The endpoint counts these bytes itself, as they come.
_STREAMED = re.compile(r"PUT /v1/artifacts/[^/]+|PATCH /v1/uploads/[^/]+")
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]{2,45}\]|[a-z0-9_.-]{1,253})(:[0-9]{1,5})?\Z")
_SCHEME = re.compile(r"https?://")
_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


class GuardMiddleware:
    """Host allow-list (against DNS rebinding), Origin check on unsafe methods, security headers.

    `allowed_hosts` are names and addresses in small letters, IPv6 addresses without brackets.
    """

    def __init__(self, app: ASGIApp, allowed_hosts: frozenset[str]) -> None:
        self.app = app
        self.allowed_hosts = allowed_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope["method"], Headers(scope=scope))
        if refusal is not None:
            await problem(refusal)(scope, receive, send_guarded)
        else:
            await self.app(scope, receive, send_guarded)

    def _refusal(self, method: str, headers: Headers) -> ServiceError | None:
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        host = hosts[0].lower() if len(hosts) == 1 else ""
        found = _HOST.match(host)
        if found is None or found["name"].strip("[]") not in self.allowed_hosts:
            return BadRequestError(
                "the Host header must name this machine (127.0.0.1, localhost) or one of the allowed hosts; allow "
                "another name with `nasdet up --allow-host NAME` or in NASDET_ALLOWED_HOSTS"
            )
        if method in _UNSAFE and any(not _is_own(origin, host) for origin in origins):
            return ForbiddenError(
                "requests of pages from elsewhere are refused: the Origin header must name the same host and port as "
                "the Host header"
            )
        return None


def _is_own(origin: str, host: str) -> bool:
    """Scheme apart, which a proxy in front may change. `null`, which a page in a sandbox sends, is nobody's own."""
    scheme = _SCHEME.match(origin.lower())
    return scheme is not None and origin.lower()[scheme.end() :] == host


STRANGERS_BYTES = 64 << 10  # of a body that are read before its sender's token is looked at
SILENCE_SECONDS = 30.0
SILENCE = f"no more of the body came for {SILENCE_SECONDS:g} s; send the request again"
STRANGER = "a body of this size is read from senders with a valid token only; send it as 'Authorization: Bearer TOKEN'"


async def _refuse(error: ServiceError, scope: Scope, receive: Receive, send: Send) -> None:
    await problem(error, {"Connection": "close"})(scope, receive, send)


class BodyLimitMiddleware:
    """Reads a body up to the limit before anybody parses it; 413 beyond, however long the header says it is.

    More than a little is kept for nobody whose token is not known, and for nobody who falls silent in the middle.
    `is_known` is asked in a thread whether an Authorization header opens anything.
    """

    def __init__(self, app: ASGIApp, limit: int, is_known: Callable[[str], bool]) -> None:
        self.app = app
        self.limit = limit
        self.is_known = is_known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _STREAMED.fullmatch(f"{scope['method']} {scope['path']}"):
            await self.app(scope, receive, send)
            return
        received: list[Message] = []
        size, more, known = 0, True, False
        while more:
            try:
                async with asyncio.timeout(SILENCE_SECONDS):
                    message = await receive()
            except TimeoutError:
                await _refuse(RequestTimeoutError(SILENCE), scope, receive, send)
                return
            received.append(message)
            size += len(message.get("body", b""))
            more = message["type"] == "http.request" and message.get("more_body", False)
            if size > self.limit:
                await _refuse(PayloadTooLargeError(f"a body may have {self.limit} bytes at most"), scope, receive, send)
                return
            if size > STRANGERS_BYTES and not known:
                known = await run_in_threadpool(self.is_known, Headers(scope=scope).get("authorization", ""))
                if not known:
                    await _refuse(UnauthorizedError(STRANGER), scope, receive, send)
                    return
        received.reverse()

        async def replay() -> Message:
            return received.pop() if received else await receive()

        await self.app(scope, replay, send)

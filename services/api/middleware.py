"""What is refused before a route is looked for: foreign hosts and origins, bodies that are too large."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.problems import problem
from services.common.errors import BadRequestError, ForbiddenError, PayloadTooLargeError, ServiceError

ALLOWED_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
_UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_STREAMED = re.compile(r"^/v1/artifacts/[^/]+$")  # the endpoint counts these bytes itself, as they come
_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
}


class GuardMiddleware:
    """Host allow-list (against DNS rebinding), Origin check on unsafe methods, security headers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

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

        refusal = _refusal(scope["method"], Headers(scope=scope))
        if refusal is not None:
            await problem(refusal)(scope, receive, send_guarded)
        else:
            await self.app(scope, receive, send_guarded)


def _refusal(method: str, headers: Headers) -> ServiceError | None:
    if _host_name(f"//{headers.get('host', '')}") not in ALLOWED_HOSTS:
        return BadRequestError("the Host header must name this machine (127.0.0.1 or localhost)")
    origin = headers.get("origin")
    if method in _UNSAFE and origin is not None and _host_name(origin) not in ALLOWED_HOSTS:
        return ForbiddenError("requests of pages from elsewhere are refused (Origin header)")
    return None


def _host_name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


class BodyLimitMiddleware:
    """Reads a body up to the limit before anybody parses it; 413 beyond, however long the header says it is."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (scope["method"] == "PUT" and _STREAMED.match(scope["path"])):
            await self.app(scope, receive, send)
            return
        received: list[Message] = []
        size, more = 0, True
        while more:
            message = await receive()
            received.append(message)
            size += len(message.get("body", b""))
            more = message["type"] == "http.request" and message.get("more_body", False)
            if size > self.limit:
                error = PayloadTooLargeError(f"a body may have {self.limit} bytes at most")
                await problem(error, {"Connection": "close"})(scope, receive, send)
                return
        received.reverse()

        async def replay() -> Message:
            return received.pop() if received else await receive()

        await self.app(scope, replay, send)

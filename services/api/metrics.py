"""Metrics for Prometheus: what this process did, and what the store says at each scrape.

Served on a port of their own, so that whoever reaches the API does not reach them; where other machines reach that
port, a scraper needs a token of its own, which is not looked up in a database that may be away. A registry of our own
per application: one process serves one application, and nothing is shared between processes.
"""

from __future__ import annotations

import hmac
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    exposition,
)

from services.common.errors import SettingError

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
IDLE_SECONDS = 10.0  # a scraper that says nothing for so long is cut off
REFUSED = b"send the header 'Authorization: Bearer TOKEN' with the token of NASDET_METRICS_TOKEN_FILE\n"


class RequestMetrics:
    """Requests by route template: a raw path would make a new series for each id somebody thinks of."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self._requests = Counter(
            "nasdet_http_requests",
            "Requests served; route is the template, or none where there is no such route.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "nasdet_http_request_seconds",
            "How long requests took, from their first byte to the last of the answer.",
            ["method", "route"],
            buckets=BUCKETS,
            registry=self.registry,
        )

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)


@contextmanager
def serving_metrics(registry: CollectorRegistry, host: str, port: int, token: str | None = None) -> Iterator[int]:
    """Answer GET /metrics until the end of the block; gives the port, which matters where 0 was asked for.

    With a token, only to whoever sends it (`Authorization: Bearer TOKEN`).
    """
    try:
        server = _server_of(host)((host, port), _handler(registry, token))
    except OSError as error:
        raise SettingError(
            f"cannot serve metrics on {host} port {port}: {error.strerror or error}; choose another address in "
            "NASDET_METRICS_HOST and NASDET_METRICS_PORT"
        ) from error
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _server_of(host: str) -> type[ThreadingHTTPServer]:
    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        daemon_threads = True
        block_on_close = False  # a scrape that hangs holds up no end

        def server_bind(self) -> None:
            # The base class asks the name service who we are, which can take seconds and is never used.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.bind(self.server_address)
            self.server_address = self.socket.getsockname()
            self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    return Server


def _handler(registry: CollectorRegistry, token: str | None) -> type[BaseHTTPRequestHandler]:
    wanted = None if token is None else f"Bearer {token}".encode()

    class Handler(BaseHTTPRequestHandler):
        timeout = IDLE_SECONDS

        def do_GET(self) -> None:
            if urlsplit(self.path).path != "/metrics":
                self._answer(404, "text/plain; charset=utf-8", b"metrics are at /metrics\n")
                return
            given = self.headers.get("Authorization", "").encode(errors="replace")
            if wanted is not None and not hmac.compare_digest(given, wanted):
                self._answer(401, "text/plain; charset=utf-8", REFUSED)
                return
            encode, kind = exposition.choose_encoder(self.headers.get("Accept", ""))
            self._answer(200, kind, encode(registry))

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response_only(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Content-Type-Options", "nosniff")
            if status == 401:
                self.send_header("WWW-Authenticate", "Bearer")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Scrapes come every few seconds and are not told."""

    return Handler

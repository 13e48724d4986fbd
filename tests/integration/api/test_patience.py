"""Connections on which no header gets to its end, against the real server with a shorter limit."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from services.api import patience

LIMIT_SECONDS = 0.4
REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"

Connect = Callable[[], socket.socket]


async def _slow(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the body, then takes three times as long as a header may."""
    while (await receive()).get("more_body"):
        pass
    await asyncio.sleep(3 * LIMIT_SECONDS)
    await PlainTextResponse("served")(scope, receive, send)


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Iterator[Connect]:
    monkeypatch.setattr(patience, "HEADER_SECONDS", LIMIT_SECONDS)
    config = uvicorn.Config(_slow, http=patience.PatientProtocol, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        address = listener.getsockname()
        yield lambda: socket.create_connection(address, timeout=10)
        server.should_exit = True
        thread.join(10)


def closed_after(connection: socket.socket) -> float:
    """Seconds until the server ends the connection without a word."""
    began = time.monotonic()
    assert connection.recv(1000) == b""
    return time.monotonic() - began


def answered(connection: socket.socket) -> bool:
    text = b""
    while not text.endswith(b"served") and (part := connection.recv(1000)):
        text += part
    return text.startswith(b"HTTP/1.1 200")


def dribble(connection: socket.socket, header: bytes) -> None:
    for byte in header:
        connection.sendall(bytes([byte]))
        time.sleep(LIMIT_SECONDS / 10)


@pytest.mark.parametrize("start", [b"", b"G", b"GET / HTTP/1.1\r\nHost: he"])
def test_a_header_that_is_never_finished_ends_the_connection(connect: Connect, start: bytes) -> None:
    with connect() as connection:
        connection.sendall(start)
        assert LIMIT_SECONDS / 2 < closed_after(connection) < LIMIT_SECONDS + 5


def test_one_byte_now_and_then_buys_no_time(connect: Connect) -> None:
    with connect() as connection:
        began = time.monotonic()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            dribble(connection, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200)
        assert time.monotonic() - began < LIMIT_SECONDS + 5


def test_the_limit_is_not_one_for_bodies_or_answers(connect: Connect) -> None:
    with connect() as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 2\r\n\r\n")
        for byte in b"{}":
            time.sleep(1.5 * LIMIT_SECONDS)
            connection.sendall(bytes([byte]))
        assert answered(connection)


def test_a_second_header_has_as_long_as_the_first(connect: Connect) -> None:
    with connect() as connection:
        connection.sendall(REQUEST)
        assert answered(connection)
        connection.sendall(REQUEST[:10])
        assert closed_after(connection) < LIMIT_SECONDS + 5
    with connect() as connection:
        connection.sendall(REQUEST)
        assert answered(connection)
        connection.sendall(REQUEST)
        assert answered(connection)

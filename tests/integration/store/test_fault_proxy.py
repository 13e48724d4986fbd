"""The network faults are what they are called, and nothing else happens to a connection."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from tests.support.fault_proxy import CALM, FaultProxy, Weather


class Counting(BaseHTTPRequestHandler):
    """Answers with the number of requests it has had."""

    protocol_version = "HTTP/1.1"
    had = 0

    def do_POST(self) -> None:
        type(self).had += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        body = str(self.had).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def backend() -> Iterator[ThreadingHTTPServer]:
    Counting.had = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Counting) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(backend: ThreadingHTTPServer) -> Iterator[FaultProxy]:
    with FaultProxy([backend.server_port]) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=proxy.url, trust_env=False, timeout=5) as client:
        yield client


def test_in_calm_weather_everything_comes_through(proxy: FaultProxy, client: httpx.Client) -> None:
    assert [client.post("/", content=b"x").text for _ in range(3)] == ["1", "2", "3"]
    assert sum(proxy.requests.values()) >= 3  # a request may come in pieces, and each is counted
    assert not proxy.faults


def test_a_reset_request_never_arrives(proxy: FaultProxy, client: httpx.Client) -> None:
    proxy.set(Weather(reset=1))
    with pytest.raises(httpx.TransportError):
        client.post("/", content=b"x")
    proxy.set(CALM)
    assert client.post("/", content=b"x").text == "1"


def test_a_lost_reply_is_one_of_a_request_that_was_done(proxy: FaultProxy, client: httpx.Client) -> None:
    proxy.set(Weather(lose_reply=1))
    with pytest.raises(httpx.TransportError):
        client.post("/", content=b"x")
    proxy.set(CALM)
    assert client.post("/", content=b"x").text == "2"


def test_a_half_open_connection_says_nothing_until_the_weather_changes(proxy: FaultProxy, client: httpx.Client) -> None:
    proxy.set(Weather(half_open=1))
    with pytest.raises(httpx.ReadTimeout):
        client.post("/", content=b"x", timeout=0.3)
    threading.Timer(0.3, proxy.set, [CALM]).start()
    with pytest.raises(httpx.TransportError) as caught:
        client.post("/", content=b"x")
    assert not isinstance(caught.value, httpx.TimeoutException)
    assert client.post("/", content=b"x").text == "1"


def test_who_is_down_is_passed_over(backend: ThreadingHTTPServer) -> None:
    nobody = 1  # no server of a user listens there
    with FaultProxy([nobody, backend.server_port]) as proxy:
        for number in ("1", "2"):
            assert httpx.post(proxy.url, content=b"x", trust_env=False).text == number
        assert set(proxy.requests) == {backend.server_port}

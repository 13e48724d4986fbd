"""Answers that are not the API's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from nasdet_client.sdk import ApiError, ForeignAnswerError, NasdetClient

Serve = Callable[[int, bytes], NasdetClient]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A client of a web server that answers everything with a status and a body."""
    with ExitStack() as stack:

        def start(status: int, body: bytes) -> NasdetClient:
            class Handler(BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

                def log_message(self, *_arguments: object) -> None:
                    pass

            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return stack.enter_context(NasdetClient(f"http://127.0.0.1:{server.server_port}", "secret"))

        yield start


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html>\n  <body>\n hello</body>\n</html>\n"),
        (200, b"[]"),
        (200, b"{}"),
        (301, b""),
        (404, b"<html>\n<p>not\nhere</p>" + b" words" * 200),
        (404, b'{"detail": "Not Found"}'),
    ],
)
def test_it_is_one_line_about_the_address(serve: Serve, status: int, body: bytes) -> None:
    with pytest.raises(ForeignAnswerError, match="does not look like a nasdet API") as refused:
        serve(status, body).searches()

    assert refused.value.about_input
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


def test_a_proxy_before_an_api_that_is_down_is_failed_work(serve: Serve) -> None:
    with pytest.raises(ForeignAnswerError, match="HTTP 502 Bad gateway") as refused:
        serve(502, b"Bad\n gateway").searches()

    assert not refused.value.about_input


def test_a_problem_of_the_api_is_told_as_it_is(serve: Serve) -> None:
    with pytest.raises(ApiError, match=r"^no search 7$") as refused:
        serve(404, b'{"title": "Not found", "detail": "no search 7", "errors": null}').search(7)

    assert not isinstance(refused.value, ForeignAnswerError)

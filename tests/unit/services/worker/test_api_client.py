"""The worker's client: what it repeats, what it gives up, and what it raises."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from services.worker import api_client
from services.worker.api_client import ApiClient, read_token
from services.worker.errors import (
    ApiRefusedError,
    ApiUnreachableError,
    JobStoppedError,
    ProtocolRefusedError,
    StaleAttemptError,
)

Handler = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_client, "FIRST_WAIT_SECONDS", 0.001)
    monkeypatch.setattr(api_client, "LONGEST_WAIT_SECONDS", 0.004)


def client(handler: Handler, patience: float = 5.0, on_wait: Callable[[], None] | None = None) -> ApiClient:
    return ApiClient(
        "http://api", "secret", patience_seconds=patience, on_wait=on_wait, transport=httpx.MockTransport(handler)
    )


def problem(status: int, slug: str, detail: str) -> httpx.Response:
    return httpx.Response(status, json={"type": f"urn:nasdet:problem:{slug}", "status": status, "detail": detail})


class TestApiThatIsAway:
    def test_a_result_is_repeated_until_it_lands(self) -> None:
        bodies: list[bytes] = []

        def handler(request: httpx.Request) -> httpx.Response:
            bodies.append(request.content)
            if len(bodies) == 1:
                raise httpx.ConnectError("refused")
            if len(bodies) == 2:
                raise httpx.ReadError("the API was killed before it answered")
            return httpx.Response(503 if len(bodies) < 5 else 200, json={"status": "accepted"})

        client(handler).land_result(3, {"attempt": 1, "trial": 7})
        assert len(bodies) == 5
        assert len(set(bodies)) == 1

    def test_patience_ends_with_a_sentence_that_names_the_address(self) -> None:
        def handler(_request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("refused")

        with pytest.raises(ApiUnreachableError, match=r"http://api.*ConnectError: refused.*is it running"):
            client(handler, patience=0.02).claim({})

    def test_waiting_can_be_given_up(self) -> None:
        def stop() -> None:
            raise JobStoppedError

        with pytest.raises(JobStoppedError):
            client(lambda _request: httpx.Response(503), on_wait=stop).done(1, {})

    def test_waits_grow_to_their_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        waits: list[float] = []
        monkeypatch.setattr("services.worker.api_client.time.sleep", waits.append)
        answers = iter([503] * 5 + [200])
        client(lambda _request: httpx.Response(next(answers), json={})).done(1, {})
        assert waits == [0.001, 0.002, 0.004, 0.004, 0.004]


class TestRefusal:
    def test_a_stale_attempt_is_not_repeated(self) -> None:
        calls: list[httpx.Request] = []

        def handler(request: httpx.Request) -> httpx.Response:
            calls.append(request)
            return problem(409, "stale-attempt", "attempt 1 does not hold job 3 any more")

        with pytest.raises(StaleAttemptError, match="attempt 1 does not hold job 3"):
            client(handler).heartbeat(3, {"attempt": 1}, seconds=5)
        assert len(calls) == 1

    def test_another_conflict_is_no_stale_attempt(self) -> None:
        with pytest.raises(ApiRefusedError, match="another result") as caught:
            client(lambda _request: problem(409, "result-conflict", "another result")).land_result(3, {})
        assert not isinstance(caught.value, StaleAttemptError)

    def test_a_job_that_is_gone_is_stale(self) -> None:
        with pytest.raises(StaleAttemptError):
            client(lambda _request: problem(404, "not-found", "no job 3")).done(3, {})

    def test_an_artifact_that_is_gone_is_not(self) -> None:
        with pytest.raises(ApiRefusedError, match="no artifact") as caught:
            client(lambda _request: problem(404, "not-found", "no artifact")).get_artifact("00")
        assert not isinstance(caught.value, StaleAttemptError)

    def test_another_protocol_says_so(self) -> None:
        with pytest.raises(ProtocolRefusedError, match="speaks protocol 2"):
            client(lambda _request: problem(426, "protocol-mismatch", "the API speaks protocol 2")).register({})

    def test_a_full_disk_is_a_sentence_not_a_wait(self) -> None:
        with pytest.raises(ApiRefusedError, match="the disk is full"):
            client(lambda _request: problem(507, "storage-full", "the disk is full")).put_artifact(b"weights")


class TestArtifacts:
    def test_bytes_are_stored_under_their_digest(self) -> None:
        requests: list[httpx.Request] = []

        def handler(request: httpx.Request) -> httpx.Response:
            requests.append(request)
            return httpx.Response(201)

        digest = client(handler).put_artifact(b"weights")
        assert digest == hashlib.sha256(b"weights").hexdigest()
        (request,) = requests
        assert (request.method, request.url.path, request.content) == ("PUT", f"/v1/artifacts/{digest}", b"weights")

    def test_damaged_bytes_are_refused(self) -> None:
        digest = hashlib.sha256(b"weights").hexdigest()
        with pytest.raises(ApiRefusedError, match="its file is damaged"):
            client(lambda _request: httpx.Response(200, content=b"weighty")).get_artifact(digest)


def test_a_missing_token_file_says_where_it_was_expected(tmp_path: Path) -> None:
    with pytest.raises(ApiUnreachableError, match="worker-token"):
        read_token(tmp_path / "worker-token")

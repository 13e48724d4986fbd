"""An object store that hangs: artifacts wait for it, and nobody else does."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from services.common.settings import PROTOCOL, PROTOCOL_HEADER
from tests.support.api_process import ApiProcess, started_api
from tests.support.s3_server import S3Server, started_s3

CONTENT = b"weights" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
WAITERS = 60  # more than the API has threads for its requests
PATIENCE_SECONDS = 10.0  # a lease lasts 30


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    with started_s3() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def api(s3: S3Server, postgres_url: str, tmp_path: Path) -> Iterator[ApiProcess]:
    with started_api(tmp_path / "home", database_url=postgres_url, artifacts_url=s3.url("hangs")) as process:
        yield process


def _wait_for_it(api: ApiProcess, headers: dict[str, str]) -> None:
    try:
        httpx.get(f"{api.url}/v1/artifacts/{DIGEST}", headers=headers, timeout=PATIENCE_SECONDS, trust_env=False)
    except httpx.TransportError:
        return  # it had no answer, as was to be expected


def test_workers_and_health_do_not_wait_for_a_store_that_hangs(api: ApiProcess, s3: S3Server) -> None:
    token = (api.home / "worker-token").read_text().strip()
    headers = {"Authorization": f"Bearer {token}", PROTOCOL_HEADER: str(PROTOCOL)}
    with httpx.Client(base_url=api.url, headers=headers, timeout=PATIENCE_SECONDS, trust_env=False) as worker:
        assert worker.put(f"/v1/artifacts/{DIGEST}", content=CONTENT).status_code == 201
        os.kill(s3.pid, signal.SIGSTOP)
        try:
            with ThreadPoolExecutor(WAITERS) as pool:
                waiting = [pool.submit(_wait_for_it, api, headers) for _ in range(WAITERS)]
                body = {
                    "name": "worker-0", "incarnation": "a", "protocol": PROTOCOL, "device_class": "cpu",
                    "device_name": "test",
                }  # fmt: skip
                registered = worker.post("/v1/workers", json=body)
                assert registered.status_code == 200
                claim = {
                    "worker": registered.json()["id"], "incarnation": "a", "device_class": "cpu", "protocol": PROTOCOL
                }  # fmt: skip
                assert worker.post("/v1/jobs/claim", json=claim).status_code == 200
                assert worker.get("/readyz").status_code == 200
                assert not all(request.done() for request in waiting), "nothing hung, so nothing was shown"
        finally:
            os.kill(s3.pid, signal.SIGCONT)
        assert worker.get(f"/v1/artifacts/{DIGEST}").content == CONTENT

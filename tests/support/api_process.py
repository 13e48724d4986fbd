"""The API as a process of its own, as server mode runs it: on a socket of 127.0.0.1, its log in a file."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.support.servers import free_port

START_SECONDS = 60.0


@dataclass
class ApiProcess:
    home: Path
    url: str
    metrics_url: str
    log_file: Path
    process: subprocess.Popen[bytes]

    def client(self, token: str | None = None, **options: Any) -> httpx.Client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False, **options)

    @property
    def operator_token(self) -> str:
        return (self.home / "token").read_text().strip()

    @property
    def worker_token(self) -> str:
        return (self.home / "worker-token").read_text().strip()

    def log(self) -> list[dict[str, Any]]:
        """Every line so far; each must be JSON."""
        return [json.loads(line) for line in self.log_file.read_text().splitlines()]

    def metrics(self) -> str:
        return httpx.get(self.metrics_url, timeout=30, trust_env=False).text


@contextmanager
def started_api(home: Path, **settings: object) -> Iterator[ApiProcess]:
    """Settings become NASDET_* variables. Returns when it answers; killed at the end."""
    home.mkdir(parents=True, exist_ok=True)
    log_file, metrics_port = home / "api.log", free_port()
    given = {"home": home, "metrics_port": metrics_port, "log_format": "json", "log_level": "debug", **settings}
    variables = {f"NASDET_{name.upper()}": str(value) for name, value in given.items()}
    with socket.create_server(("127.0.0.1", 0)) as listener, log_file.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.api", "--fd", str(listener.fileno())],
            pass_fds=[listener.fileno()],
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    api = ApiProcess(home, url, f"http://127.0.0.1:{metrics_port}/metrics", log_file, process)
    try:
        _wait_until_it_answers(api)
        yield api
    finally:
        process.kill()
        process.wait()


def _wait_until_it_answers(api: ApiProcess) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert api.process.poll() is None, api.log_file.read_text()
        try:
            with api.client() as client:
                client.get("/healthz")
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(f"the API did not answer within {START_SECONDS:g} s; its log:\n{api.log_file.read_text()}")

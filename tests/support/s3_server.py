"""A local S3 server (moto) in a process of its own, spoken to over HTTP."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.support.servers import Guardian, free_port

START_SECONDS = 60.0
BUCKET = "nasdet-artifacts"


@dataclass(frozen=True)
class S3Server:
    """`environment` is what a process needs to reach it, as it would be set for any S3 server that is not Amazon's."""

    endpoint: str
    pid: int

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "tester",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def url(self, prefix: str) -> str:
        return f"s3://{BUCKET}/{prefix}"


@contextmanager
def started_s3() -> Iterator[S3Server]:
    """A server with one bucket."""
    guardian = Guardian()
    folder = Path(tempfile.mkdtemp(prefix="nasdet-s3-"))
    guardian.tell("folder", folder)
    port = free_port()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=log,
            stderr=log,
            env={**os.environ, "MOTO_S3_DEFAULT_KEY_BUFFER_SIZE": str(1 << 20)},
        )
    guardian.tell("pid", process.pid)
    server = S3Server(f"http://127.0.0.1:{port}", process.pid)
    try:
        _wait(server, folder / "log")
        yield server
    finally:
        process.kill()
        process.wait()
        guardian.tell("forget", process.pid)
        guardian.end()


def _wait(server: S3Server, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            if httpx.put(f"{server.endpoint}/{BUCKET}", timeout=5, trust_env=False).is_success:
                return
        except httpx.TransportError:
            pass  # it is still starting
        if time.monotonic() > deadline:
            raise TimeoutError(f"the S3 server did not start; its log:\n{log.read_text(errors='replace')}")
        time.sleep(0.1)

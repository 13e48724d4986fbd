"""The sign of life that the worker's health check looks at."""

from __future__ import annotations

import pytest

from tests.support.worker_platform import WorkerPlatform, wait_until

# One kind of database: what the store makes of it is in tests/contracts, on each.
pytestmark = [pytest.mark.integration, pytest.mark.parametrize("store", ["sqlite"], indirect=True)]


def test_a_worker_whose_api_is_away_is_alive(platform: WorkerPlatform) -> None:
    worker = platform.start_worker()
    wait_until("registration", lambda: "worker.registered" in worker.log)
    platform.api.kill()
    platform.api.wait()
    file = platform.home / "alive"
    try:
        file.unlink()
        wait_until("sign of life", file.exists)
    finally:
        platform.start_api()  # other tests share it

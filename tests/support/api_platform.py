"""An API on a home of its own, and what a worker would send to it. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from services.api.state import ApiState
from services.common.settings import PROTOCOL
from tests.support import stores


@dataclass
class Platform:
    """The two clients that an embedded installation has."""

    home: Path
    api: ApiState
    user: httpx.Client
    worker: httpx.Client
    anonymous: httpx.Client


def register(platform: Platform, name: str = "worker-0", incarnation: str = "a") -> int:
    body = {
        "name": name,
        "incarnation": incarnation,
        "protocol": PROTOCOL,
        "device_class": "cpu",
        "device_name": "test",
    }
    response = platform.worker.post("/v1/workers", json=body)
    assert response.status_code == 200, response.text
    worker_id: int = response.json()["id"]
    return worker_id


def claim(platform: Platform, worker_id: int, incarnation: str = "a") -> dict[str, Any] | None:
    body = {
        "worker": worker_id,
        "incarnation": incarnation,
        "device_class": "cpu",
        "protocol": PROTOCOL,
        "resident": [],
    }
    response = platform.worker.post("/v1/jobs/claim", json=body)
    assert response.status_code == 200, response.text
    job: dict[str, Any] | None = response.json()["job"]
    return job


def evaluation(platform: Platform, count: int) -> tuple[stores.Rows, int, list[int]]:
    """A search with a queued list, as the searcher would have made it."""
    with platform.api.database.write_session() as session:
        rows = stores.new_rows(session)
        job_id, trials = stores.new_evaluation(session, rows, count)
    return rows, job_id, trials


SPECIFICATION: dict[str, Any] = {
    "schema": 1,
    "name": "cells",
    "dataset": "cells",
    "detector": {
        "backbone": {"space": "detnas-300m", "width": 0.5},
        "neck": {"model": "fpn", "channels": 64},
        "head": {"model": "fcos"},
    },
    "supernet": {"epochs": 2, "image_size": [96, 128], "batch_size": 4},
    "search": {"algorithm": "detnas", "population": 4, "generations": 2},
    "seed": 0,
}

"""One API on a fresh home, with its real database file; requests go through the whole application."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from services.api.main import create_app
from services.common.logging import configure_logging
from services.common.settings import ApiSettings
from tests.support import stores
from tests.support.api_platform import Platform, register


@pytest.fixture(scope="session", autouse=True)
def _logging() -> None:
    configure_logging("api", log_format="json")


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stores.migrated_template(tmp_path_factory.mktemp("schema"))


@pytest.fixture
def start(template: Path, tmp_path: Path) -> Iterator[Callable[..., Platform]]:
    """Start an API with settings of one's own."""
    clients: list[TestClient] = []

    def _start(**settings: Any) -> Platform:
        home = tmp_path / "home"
        (home / "datasets").mkdir(parents=True)
        (home / "datasets" / "cells.json").write_text(json.dumps({"path": "/nowhere"}))
        shutil.copyfile(template, home / "nasdet.db")
        app = create_app(ApiSettings(home=home, **settings))
        anonymous = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
        anonymous.__enter__()
        clients.append(anonymous)

        def client(file: str) -> TestClient:
            headers = {"Authorization": f"Bearer {(home / file).read_text().strip()}"}
            return TestClient(app, base_url="http://127.0.0.1", headers=headers, raise_server_exceptions=False)

        return Platform(home, app.state.api, client("token"), client("worker-token"), anonymous)

    yield _start
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def platform(start: Callable[..., Platform]) -> Platform:
    return start()


@pytest.fixture
def worker_id(platform: Platform) -> int:
    return register(platform)

"""One API on a fresh home, once on each kind of database; requests go through the whole application."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from services.api.main import create_app
from services.common.logging import configure_logging
from services.common.settings import PROTOCOL, PROTOCOL_HEADER, ApiSettings
from tests.support import stores
from tests.support.api_platform import Platform, register
from tests.support.stores import Store


@pytest.fixture(scope="session", autouse=True)
def _logging() -> None:
    configure_logging("api", log_format="json")


@contextmanager
def running(home: Path, store: Store, **settings: Any) -> Iterator[Platform]:
    """An API on a new home that knows the dataset `cells`."""
    (home / "datasets").mkdir(parents=True)
    (home / "datasets" / "cells.json").write_text(json.dumps({"path": "/nowhere"}))
    url = store.url(home)
    app = create_app(ApiSettings(home=home, **{"database_url": url, **settings}))

    def client(file: str | None) -> TestClient:
        headers = {"Authorization": f"Bearer {(home / file).read_text().strip()}"} if file else {}
        if file == "worker-token":
            headers[PROTOCOL_HEADER] = str(PROTOCOL)
        return TestClient(app, base_url="http://127.0.0.1", headers=headers, raise_server_exceptions=False)

    with client(None) as anonymous:
        yield Platform(home, app.state.api, client("token"), client("worker-token"), anonymous)
    store.drop(url)


@pytest.fixture
def start(store: Store, tmp_path: Path) -> Iterator[Callable[..., Platform]]:
    """Start an API with settings of one's own."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(running(tmp_path / "home", store, **settings))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """One API for tests that change nothing: on SQLite alone, since hardly any of their requests reach a row."""
    sqlite = Store(stores.migrated_template(tmp_path_factory.mktemp("schema")))
    with running(tmp_path_factory.mktemp("shared") / "home", sqlite) as platform:
        yield platform


@pytest.fixture
def platform(start: Callable[..., Platform]) -> Platform:
    return start()


@pytest.fixture
def worker_id(platform: Platform) -> int:
    return register(platform)

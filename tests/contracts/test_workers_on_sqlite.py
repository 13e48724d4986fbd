"""Workers and doorbells on SQLite files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.common.db.session import Database
from tests.contracts.worker_contract import WorkerContract
from tests.support import stores


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stores.migrated_template(tmp_path_factory.mktemp("schema"))


class TestWorkersOnSqlite(WorkerContract):
    @pytest.fixture
    def database(self, template: Path, tmp_path: Path) -> Iterator[Database]:
        database = stores.copied_database(template, tmp_path / "nasdet.db")
        yield database
        database.close()

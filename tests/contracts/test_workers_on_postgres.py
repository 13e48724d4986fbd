"""Workers and doorbells on a real Postgres."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.common.db.session import Database
from tests.contracts.worker_contract import WorkerContract

pytestmark = pytest.mark.integration


class TestWorkersOnPostgres(WorkerContract):
    @pytest.fixture
    def database(self, postgres_url: str) -> Iterator[Database]:
        database = Database(postgres_url)
        yield database
        database.close()

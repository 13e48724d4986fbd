"""Steering and sharing on a real Postgres."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.common.db.session import Database
from tests.contracts.control_contract import ControlContract


class TestControlOnPostgres(ControlContract):
    @pytest.fixture
    def database(self, postgres_url: str) -> Iterator[Database]:
        database = Database(postgres_url)
        yield database
        database.close()

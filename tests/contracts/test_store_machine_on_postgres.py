"""Calls in any order, on a real Postgres."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from services.common.db.session import Database
from tests.contracts.store_machine import NewDatabase, run_machine
from tests.support.servers import PostgresServer

pytestmark = pytest.mark.integration


@pytest.fixture
def new_database(postgres_server: PostgresServer) -> NewDatabase:
    @contextmanager
    def new() -> Iterator[Database]:
        url = postgres_server.create()
        database = Database(url)
        yield database
        database.close()
        postgres_server.drop(url)

    return new


def test_no_order_of_calls_loses_or_doubles_a_result(new_database: NewDatabase) -> None:
    run_machine(new_database, examples=14, steps=25, derandomize=True)  # the same orders in every run


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_order_of_calls_loses_or_doubles_a_result_at_length(new_database: NewDatabase) -> None:
    run_machine(new_database, examples=500, steps=60, derandomize=False)

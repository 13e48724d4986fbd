"""Calls in any order, on SQLite files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.common.db.session import Database
from tests.contracts.store_machine import NewDatabase, run_machine
from tests.support import stores


@pytest.fixture
def new_database(tmp_path: Path) -> NewDatabase:
    template = stores.migrated_template(tmp_path)

    @contextmanager
    def new() -> Iterator[Database]:
        with tempfile.TemporaryDirectory() as folder:
            database = stores.copied_database(template, Path(folder) / "nasdet.db")
            yield database
            database.close()

    return new


def test_no_order_of_calls_loses_or_doubles_a_result(new_database: NewDatabase) -> None:
    run_machine(new_database, examples=26, steps=25, derandomize=True)  # the same orders in every run


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_order_of_calls_loses_or_doubles_a_result_at_length(new_database: NewDatabase) -> None:
    run_machine(new_database, examples=500, steps=60, derandomize=False)

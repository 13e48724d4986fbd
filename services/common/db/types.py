"""Column types and SQL functions that mean the same on SQLite and Postgres."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Double, Integer
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

# SQLite only autoincrements a column declared INTEGER; everywhere else ids are 64 bits wide.
Identifier = BigInteger().with_variant(Integer, "sqlite")
Seconds: Double[float] = Double()  # seconds since 1970-01-01 UTC, by the database's clock


class db_now(FunctionElement[float]):
    """The database's clock in seconds since 1970-01-01 UTC.

    Leases are compared with this clock alone: clocks of workers, API and searcher may differ.
    On Postgres it is the wall clock (not the transaction's start), so that a long transaction cannot
    see a lease as alive that has run out meanwhile.
    """

    type = Seconds
    inherit_cache = True
    name = "db_now"


@compiles(db_now, "sqlite")
def _sqlite_now(_element: db_now, _compiler: SQLCompiler, **_kw: Any) -> str:
    # julianday has about 40 microseconds of resolution; unixepoch('subsec') needs SQLite 3.42.
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(db_now, "postgresql")
def _postgres_now(_element: db_now, _compiler: SQLCompiler, **_kw: Any) -> str:
    return "extract(epoch from clock_timestamp())::double precision"

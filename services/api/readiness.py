"""What must answer before this process can serve: database, schema and, in server mode, the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog
from sqlalchemy import text

from services.api.probe import Probe
from services.common.db.migrations import current_revision, head_revision
from services.common.db.session import Database
from services.common.errors import UnavailableError
from services.common.settings import ApiSettings

CHECK_SECONDS = 2.0
OK = "ok"

log = structlog.get_logger()


class NotReadyError(UnavailableError):
    """Something that this process needs does not answer; `checks` says what."""

    slug = "not-ready"
    title = "Not ready"

    def __init__(self, checks: dict[str, str]) -> None:
        wrong = [f"{name}: {found}" for name, found in checks.items() if found != OK]
        super().__init__(f"the platform is not ready ({'; '.join(wrong)})")
        self.checks = checks

    def extra(self) -> dict[str, dict[str, str]]:
        return {"checks": self.checks}


class ReadyChecks:
    """The checks behind /readyz: each in a thread of its own, so that none holds up another or the requests."""

    def __init__(self, settings: ApiSettings, database: Database) -> None:
        checks: dict[str, Callable[[], None]] = {
            "database": lambda: _check_database(database),
            "schema": lambda: _check_schema(database),
        }
        broker = settings.resolved_broker_url
        if broker is not None:
            checks["broker"] = lambda: _check_broker(broker)
        self._probes = {name: Probe(f"ready-{name}", check) for name, check in checks.items()}

    async def results(self) -> dict[str, str]:
        """What each check found: `ok`, or a few words."""
        answers = {name: asyncio.wrap_future(probe.start()) for name, probe in self._probes.items()}
        for answer in answers.values():
            answer.add_done_callback(_read)  # also those that come when nobody waits any more
        await asyncio.wait(answers.values(), timeout=CHECK_SECONDS)
        return {name: _found(name, answer) for name, answer in answers.items()}


def _read(answer: asyncio.Future[None]) -> None:
    if not answer.cancelled():
        answer.exception()


def _found(name: str, answer: asyncio.Future[None]) -> str:
    if not answer.done():
        return f"no answer within {CHECK_SECONDS:g} s"
    error = answer.exception()
    if error is None:
        return OK
    log.warning("check.failed", check=name, error=str(error))
    if isinstance(error, UnavailableError):
        return str(error)
    return f"no answer ({type(error).__name__})"  # addresses and users are for the log


def _check_database(database: Database) -> None:
    with database.read_session() as session:
        session.execute(text("SELECT 1"))


def _check_schema(database: Database) -> None:
    found, expected = current_revision(database.engine), head_revision()
    if found != expected:
        raise UnavailableError(f"the database is at schema revision {found}, this version needs {expected}")


def _check_broker(url: str) -> None:
    from kombu import Connection  # an extra of server mode

    limits = {"socket_timeout": CHECK_SECONDS, "socket_connect_timeout": CHECK_SECONDS}
    options = limits if url.startswith(("redis", "valkey")) else {}
    address: Any = Connection(url, connect_timeout=CHECK_SECONDS, transport_options=options)
    with address as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=CHECK_SECONDS)

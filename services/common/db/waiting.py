"""The start of a process: is the database's address one, and is its server there yet?"""

from __future__ import annotations

import time

import structlog
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from services.common.db.session import DATABASE_AWAY, Database
from services.common.errors import DatabaseAwayError, SettingError

PAUSE_SECONDS = 1.0

log = structlog.get_logger()


def check_database_url(url: str) -> None:
    """Raises SettingError, without the password, for what is no address of a database we can use."""
    try:
        parsed = make_url(url)
        parsed.get_dialect()
    except ValueError:
        reason = "its port is no number"
    except (ArgumentError, ImportError) as error:
        reason = " ".join(str(error).split())
    else:
        if "@" not in (parsed.host or ""):
            return
        # What stands there is the end of a password: it is in no sentence of ours.
        reason = "there is an @ in its password, which has to be written %40, or the password put into a file"
    raise SettingError(
        "expected an address such as postgresql+psycopg://nasdet@127.0.0.1:5432/nasdet in NASDET_DATABASE_URL, "
        f"but what it holds cannot be used: {reason}"
    )


def wait_for_database(database: Database, seconds: float) -> None:
    """Return when the server answers; raises DatabaseAwayError when it does not within `seconds`.

    A file (SQLite) is there or not: nothing is waited for.
    """
    if database.engine.dialect.name == "sqlite":
        return
    deadline = time.monotonic() + seconds
    while True:
        try:
            with database.engine.connect():
                return
        except DATABASE_AWAY as error:
            said = " ".join(str(error.orig if isinstance(error, DBAPIError) else error).split())
            left = deadline - time.monotonic()
            if left <= 0:
                address = database.engine.url
                raise DatabaseAwayError(
                    f"expected a database at {address.host}:{address.port or 5432}, but it did not let us in within "
                    f"{seconds:g} s ({said}); start it, or check NASDET_DATABASE_URL and its password file"
                ) from error
            log.warning("database.away", error=said, seconds_left=round(left))
            time.sleep(min(PAUSE_SECONDS, left))

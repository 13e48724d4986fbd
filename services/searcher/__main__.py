"""`python -m services.searcher [--home DIR]`; everything else from NASDET_* variables."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path

import pydantic
import structlog

from nasdet_core.errors import NasDetError
from services.common.db.migrations import upgrade
from services.common.db.session import Database
from services.common.db.waiting import check_database_url, wait_for_database
from services.common.logging import configure_logging
from services.common.parent_watch import watch_parent
from services.common.settings import SearcherSettings
from services.searcher.main import Searcher

BAD_USAGE = 2

log = structlog.get_logger()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m services.searcher", description=__doc__)
    parser.add_argument("--home", type=Path, help="the installation's folder")
    given = {key: value for key, value in vars(parser.parse_args()).items() if value is not None}
    try:
        settings = SearcherSettings(**given)
        check_database_url(settings.resolved_database_url)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        sys.stderr.write(f"setting {place} (argument or NASDET_{place.upper()}): {first['msg']}\n")
        return BAD_USAGE
    except NasDetError as error:
        sys.stderr.write(f"{error}\n")
        return BAD_USAGE
    configure_logging("searcher", log_format=settings.log_format, level=settings.log_level)
    watch_parent(settings.parent_pipe)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    database = Database(settings.resolved_database_url)
    try:
        wait_for_database(database, settings.database_wait_seconds)
        upgrade(database.write_engine)  # whichever process of a new home is first
    except NasDetError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    log.info("searcher.started", home=str(settings.home))
    Searcher(database, settings).run(stop)
    database.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m services.searcher --home DIR`"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path

import structlog

from services.common.db.migrations import upgrade
from services.common.db.session import Database
from services.common.logging import configure_logging
from services.common.parent_watch import watch_parent
from services.common.settings import SearcherSettings
from services.searcher.main import Searcher

log = structlog.get_logger()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m services.searcher", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the installation's folder")
    settings = SearcherSettings(home=parser.parse_args().home)
    configure_logging("searcher", log_format=settings.log_format, level=settings.log_level)
    watch_parent(settings.parent_pipe)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    database = Database(settings.resolved_database_url)
    upgrade(database.write_engine)  # whichever process of a new home is first
    log.info("searcher.started", home=str(settings.home))
    Searcher(database, settings).run(stop)
    database.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())

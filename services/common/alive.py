"""A file that a process touches as long as its loop turns: what a container's health check looks at.

It says that the process works, not that the database, the broker or the API do: a searcher that waits for its
database is well.
"""

from __future__ import annotations

import time
from pathlib import Path

import structlog

FILE_NAME = "alive"
EVERY_SECONDS = 5.0

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class SignOfLife:
    """Touches HOME/alive, at most every few seconds, so that a loop may call `beat` in every round."""

    def __init__(self, home: Path) -> None:
        self._path = home / FILE_NAME
        self._next = 0.0

    def beat(self) -> None:
        """A home that cannot be written to is told in the log and stops nothing."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + EVERY_SECONDS
        try:
            self._path.touch()
        except OSError as error:
            log.warning("alive.not_written", file=str(self._path), reason=error.strerror)

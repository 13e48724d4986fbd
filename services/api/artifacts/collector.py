"""Frees the files that nothing refers to: replaced checkpoints, uploads that nobody used.

Rows go first, in one transaction; files after it, in a second one that looks again whether the row is still
absent. An upload publishes its file inside its own transaction, so the two can never cross: a row always
has its file.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import islice

import structlog
from sqlalchemy.exc import SQLAlchemyError

from services.api.artifacts.store import ArtifactStore
from services.common.db.repositories import ArtifactRepository
from services.common.db.session import Database

log = structlog.get_logger()

BATCH = 100


class Collector:
    """A thread that looks now and then, and when it is woken."""

    def __init__(
        self, database: Database, store: ArtifactStore, *, upload_seconds: float, every_seconds: float
    ) -> None:
        self.database = database
        self.store = store
        self.upload_seconds = upload_seconds
        self.every_seconds = every_seconds
        self._woken = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="artifact-collector", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """A reference was dropped: look soon."""
        self._woken.set()

    def stop(self) -> None:
        self._stopped = True
        self._woken.set()
        self._thread.join()

    def _run(self) -> None:
        self._try(self.remove_orphans)
        while not self._stopped:
            self._try(self.collect)
            self._woken.wait(self.every_seconds)
            self._woken.clear()

    def _try(self, work: Callable[[], object]) -> None:
        try:
            work()
        except (SQLAlchemyError, OSError) as error:  # a full disk or a busy database: the next look may succeed
            log.warning("artifacts.not_collected", error=str(error))

    def collect(self) -> list[str]:
        """One look; returns the digests whose files were removed."""
        removed: list[str] = []
        while True:
            with self.database.write_session() as session:
                artifacts = ArtifactRepository(session)
                artifacts.drop_old_uploads(self.upload_seconds)
                forgotten = artifacts.forget_unreferenced(BATCH)
            removed += self._remove_absent(forgotten)
            if len(forgotten) < BATCH:
                return removed

    def remove_orphans(self) -> list[str]:
        """Files without a row: left by a kill between the two transactions, or by an upload that was not committed."""
        removed: list[str] = []
        digests = self.store.digests()
        while batch := list(islice(digests, BATCH)):
            removed += self._remove_absent(batch)
        return removed

    def _remove_absent(self, digests: Sequence[str]) -> list[str]:
        if not digests:
            return []
        with self.database.write_session() as session:
            absent = ArtifactRepository(session).absent(digests)
            for digest in absent:
                self.store.remove(digest)
        for digest in absent:
            log.info("artifact.removed", digest=digest)
        return absent

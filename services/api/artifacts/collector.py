"""Frees the files that nothing refers to: replaced checkpoints, uploads that nobody used.

Rows go first, in one transaction; the file after it, in a second one that looks again whether the row is still
absent. Both, and whoever uploads or uses an artifact, take turns by its digest: a row always has its file. Several API
processes may collect at once.
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
from services.common.errors import ServiceError

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
        except (SQLAlchemyError, OSError, ServiceError) as error:  # a full disk, a database or a store that is away
            log.warning("artifacts.not_collected", error=str(error))

    def collect(self) -> list[str]:
        """One look; returns the digests whose files were removed."""
        removed: list[str] = []
        with self.database.write_session() as session:
            ArtifactRepository(session).drop_old_uploads(self.upload_seconds)
        while not self._stopped:
            with self.database.read_session() as session:
                candidates = ArtifactRepository(session).unreferenced(BATCH)
            for digest in candidates:
                with self.database.write_session() as session:
                    forgotten = ArtifactRepository(session).forget(digest)
                if forgotten:
                    removed += self._remove_absent([digest])
            if len(candidates) < BATCH:
                break
        return removed

    def remove_orphans(self) -> list[str]:
        """Files without a row: left by a kill between the two transactions, or by an upload that was not committed."""
        removed: list[str] = []
        digests = self.store.digests()
        while not self._stopped and (batch := list(islice(digests, BATCH))):
            with self.database.read_session() as session:
                absent = ArtifactRepository(session).absent(batch)
            removed += self._remove_absent(absent)
        return removed

    def _remove_absent(self, digests: Sequence[str]) -> list[str]:
        """Remove the files of those that still have no row, each in a transaction of its own."""
        removed: list[str] = []
        for digest in digests:
            with self.database.write_session() as session:
                artifacts = ArtifactRepository(session)
                artifacts.take_turns(digest)
                if not artifacts.absent([digest]):
                    continue
                self.store.remove(digest)
            log.info("artifact.removed", digest=digest)
            removed.append(digest)
        return removed

"""Ends uploads: checks the hash of those that are whole, makes them artifacts, and clears what nobody goes on with.

Every API process has one; a file is held by one of them at a time. Killed anywhere, the next look begins anew.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from services.api.artifacts.keeping import keep_file
from services.api.artifacts.store import ArtifactStore
from services.api.datasets.drafts import ArchiveDraft, DraftBusyError, draft_names
from services.common.db.models import Upload
from services.common.db.repositories import DatasetRepository, Owner, UploadRepository
from services.common.db.session import Database
from services.common.errors import ServiceError

log = structlog.get_logger()


class UploadFinisher:
    """A thread that looks now and then, and when it is woken."""

    def __init__(
        self,
        database: Database,
        store: ArtifactStore,
        folder: Path,
        *,
        unfinished_seconds: float,
        every_seconds: float,
        freed: Callable[[], None],
    ) -> None:
        """`freed` is called when archives were let go of."""
        self.database = database
        self.store = store
        self.folder = folder
        self.unfinished_seconds = unfinished_seconds
        self.every_seconds = every_seconds
        self._freed = freed
        self._woken = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="upload-finisher", daemon=True)

    def prepare(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """An upload is whole: look soon."""
        self._woken.set()

    def stop(self) -> None:
        """A check that takes long is left to its end with the process."""
        self._stopped = True
        self._woken.set()
        self._thread.join(timeout=2.0)

    def _run(self) -> None:
        while not self._stopped:
            self._try(self.finish_all)
            self._try(self.tidy)
            self._woken.wait(self.every_seconds)
            self._woken.clear()

    def _try(self, work: Callable[[], object]) -> None:
        try:
            work()
        except (SQLAlchemyError, OSError, ServiceError) as error:  # a database, a disk or a store that is away
            log.warning("uploads.not_finished", error=str(error))

    def finish_all(self) -> None:
        """End every upload whose bytes are all there."""
        with self.database.read_session() as session:
            waiting = UploadRepository(session).complete()
        for upload in waiting:
            try:
                with ArchiveDraft(self.folder, upload.draft, create=False) as draft:
                    self._finish(upload, draft)
            except DraftBusyError:
                continue  # another process is at it
            except FileNotFoundError:
                self._ask_again(upload, 0)

    def _finish(self, upload: Upload, draft: ArchiveDraft) -> None:
        if draft.size < upload.size:
            self._ask_again(upload, draft.size)
            return
        found = draft.sha256()
        if found == upload.digest:
            owner = Owner.of(upload)

            def record(session: Session) -> None:
                if UploadRepository(session).finish(upload.id, accepted=True):
                    DatasetRepository(session).set_archive(owner, upload.name, upload.digest, upload.size)

            keep_file(self.database, self.store, draft.path, upload.size, upload.digest, record)
        else:
            with self.database.write_session() as session:
                UploadRepository(session).finish(upload.id, accepted=False)
        draft.remove()
        log.info("upload.ended", upload=upload.id, dataset=upload.name, digest=upload.digest, found=found)

    def _ask_again(self, upload: Upload, there: int) -> None:
        """The disk has fewer bytes than were counted: the client sends the rest again."""
        log.warning("upload.bytes_lost", upload=upload.id, counted=upload.received, there=there)
        with self.database.write_session() as session:
            UploadRepository(session).advance(upload.id, upload.received, there)

    def tidy(self) -> None:
        """Uploads that take too long, files without an upload, archives that were replaced."""
        names = list(draft_names(self.folder))  # before the rows: an upload that begins now has its row first
        with self.database.write_session() as session:
            UploadRepository(session).drop_old(self.unfinished_seconds)
            freed = DatasetRepository(session).drop_replaced_archives()
            needed = UploadRepository(session).drafts()
        for name in names:
            if name not in needed:
                self._remove(name)
        if freed:
            self._freed()

    def _remove(self, name: str) -> None:
        try:
            with ArchiveDraft(self.folder, name, create=False) as draft:
                draft.remove()
        except (DraftBusyError, FileNotFoundError):
            return  # somebody is writing to it or was quicker: the next look tells

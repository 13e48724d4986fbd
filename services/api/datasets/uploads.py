"""Rules of uploads: an archive comes in pieces, whoever was cut off goes on, and the whole is checked by its hash."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path
from typing import Any

from services.api.access import Caller
from services.api.audit.change import change
from services.api.datasets.drafts import ArchiveDraft, DraftBusyError, draft_size
from services.api.datasets.schemas import UploadCreate, UploadRead, UploadState
from services.api.state import ApiState
from services.common.dataset_sources import DatasetFolderError, has_folder
from services.common.db.models import Upload
from services.common.db.repositories import ArtifactRepository, DatasetRepository, UploadRepository
from services.common.errors import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    PayloadTooLargeError,
    StorageFullError,
)


class UploadOffsetError(ConflictError):
    """The piece does not begin where the last one ended; the answer says where that is."""

    slug = "upload-offset"
    title = "The upload goes on elsewhere"

    def __init__(self, detail: str, offset: int) -> None:
        super().__init__(detail)
        self.offset = offset

    def extra(self) -> dict[str, Any]:
        return {"offset": self.offset}


def upload_folder(drafts: Path) -> Path:
    """Beside the drafts of other artifacts, on the same disk."""
    return drafts.parent / "uploads"


def begin(api: ApiState, caller: Caller, name: str, body: UploadCreate) -> tuple[UploadRead, bool]:
    """The upload to go on with, and whether it is new. An archive that the project has already is not sent again."""
    if body.size > api.settings.max_archive:
        raise PayloadTooLargeError(
            f"an archive may have {api.settings.max_archive} bytes at most here (NASDET_MAX_ARCHIVE), but this one has "
            f"{body.size}; leave out what no search needs, or put the folder where the workers see it"
        )
    _check_name(api, name)
    with change(api, caller, "dataset.upload", f"dataset {name}") as made:
        artifacts, uploads = ArtifactRepository(made.session), UploadRepository(made.session)
        artifacts.take_turns(body.sha256)
        if artifacts.has(body.sha256, body.size, caller.project_id):
            upload, new = uploads.known(caller.owner, name, body.sha256, body.size), False
            changed = DatasetRepository(made.session).set_archive(caller.owner, name, body.sha256, body.size)
        else:
            upload, new = uploads.begin(caller.owner, name, body.sha256, body.size, secrets.token_hex(16))
            changed = new
        made.data = {"upload": upload.id, "archive": body.sha256, "size": body.size}
        if not changed:
            made.nothing_changed()
        reply = read(api, upload)
        _check_room(api, reply.size - reply.offset)
        return reply, new


def _check_room(api: ApiState, missing: int) -> None:
    if missing > shutil.disk_usage(api.store.drafts).free:
        raise StorageFullError(
            f"the disk of the platform has no room for the {missing} bytes that are still to come; make room and try "
            "again"
        )


def _check_name(api: ApiState, name: str) -> None:
    try:
        taken = has_folder(api.settings, name)
    except DatasetFolderError as error:
        raise ConflictError(str(error)) from error
    if taken:
        raise ConflictError(f"the name '{name}' is that of a folder of this installation; choose another name")


def get(api: ApiState, caller: Caller, upload_id: int) -> UploadRead:
    with api.database.read_session() as session:
        upload = UploadRepository(session).get(upload_id, caller.project_id)
    found = read(api, upload)
    if found.offset == upload.received:
        return found
    with api.database.read_session() as session:  # fewer bytes than were counted: lost, or finished since we looked
        return read(api, UploadRepository(session).get(upload_id, caller.project_id))


def read(api: ApiState, upload: Upload) -> UploadRead:
    offset, reason = upload.received, None
    state: UploadState
    if upload.finished_at is None:
        # What the disk lost is asked for again.
        offset = min(offset, draft_size(upload_folder(api.store.drafts), upload.draft))
        state = "checking" if offset == upload.size else "receiving"
    elif upload.received == upload.size:
        state = "finished"
    else:
        state = "refused"
        reason = (
            f"the {upload.size} bytes that came do not hash to {upload.digest}; the archive has changed while it was "
            "sent, so send it anew"
        )
    return UploadRead(
        id=upload.id,
        name=upload.name,
        size=upload.size,
        sha256=upload.digest,
        offset=offset,
        state=state,
        reason=reason,
    )


class Receiving:
    """One piece on its way to the disk. Close it; what was written is counted by `count`."""

    def __init__(self, api: ApiState, caller: Caller, upload_id: int, offset: int) -> None:
        """Raises UploadOffsetError when the piece does not fit or somebody else is sending one."""
        self._api = api
        self._id = upload_id
        with api.database.read_session() as session:
            upload = UploadRepository(session).get(upload_id, caller.project_id)
        known = read(api, upload)
        if known.state in ("finished", "refused"):
            raise UploadOffsetError(known.reason or f"upload {upload_id} is finished; nothing follows", known.offset)
        try:
            self._draft = ArchiveDraft(upload_folder(api.store.drafts), upload.draft, create=True)
        except DraftBusyError as error:
            raise UploadOffsetError(
                f"another request is writing to upload {upload_id} or checking it; ask for its offset and go on there",
                known.offset,
            ) from error
        try:
            self._start(caller, offset)
        except BaseException:
            self._draft.close()
            raise

    def _start(self, caller: Caller, offset: int) -> None:
        """Look again, now that nobody else can move on."""
        with self._api.database.read_session() as session:
            upload = UploadRepository(session).get(self._id, caller.project_id)
        if upload.finished_at is not None:
            raise UploadOffsetError(f"upload {self._id} has ended; ask for its state", upload.received)
        self._counted, self._whole = upload.received, upload.size
        there = min(upload.received, self._draft.size)
        if offset != there:
            raise UploadOffsetError(
                f"upload {self._id} goes on with byte {there}, but this piece begins with byte {offset}; send the "
                f"bytes from {there} on",
                there,
            )
        self._offset = offset
        self._draft.go_on_at(offset)

    def write(self, chunk: bytes, received: int) -> None:
        """`received` bytes of this request have come with this chunk."""
        if received > self._api.settings.max_chunk:
            raise PayloadTooLargeError(
                f"one request may bring {self._api.settings.max_chunk} bytes of an archive at most; send it in pieces"
            )
        if self._offset + received > self._whole:
            raise InvalidRequestError(
                f"upload {self._id} has {self._whole} bytes, but this piece goes on after them; nothing of it was kept"
            )
        self._draft.write(chunk)

    def count(self) -> None:
        """What was written is on the disk and counts."""
        position = self._draft.sync()
        if position == self._counted:
            return
        with self._api.database.write_session() as session:
            if not UploadRepository(session).advance(self._id, self._counted, position):
                raise NotFoundError(f"upload {self._id} has ended meanwhile; begin it anew")
        self._counted = position

    def close(self) -> None:
        """Let go of the file; where it is whole, it is checked now."""
        self._draft.close()
        if self._counted == self._whole:
            self._api.finisher.wake()

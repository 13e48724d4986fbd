"""Uploads: archives on their way to becoming a dataset's. The bytes lie in a file of the API (`draft`).

`finished_at` with all bytes received means that the archive is the dataset's; with none received that it was refused,
because its hash was another one.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from services.common.db.models import Upload
from services.common.db.repositories.owner import Owner
from services.common.db.session import take_turns
from services.common.db.types import db_now
from services.common.errors import NotFoundError


class UploadRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def get(self, upload_id: int, project_id: int) -> Upload:
        found = self.find(upload_id)
        if found is None or found.project_id != project_id:
            raise NotFoundError(
                f"there is no upload {upload_id} (uploads that nobody goes on with are removed); begin it anew with "
                "POST /v1/datasets/NAME/uploads"
            )
        return found

    def find(self, upload_id: int) -> Upload | None:
        return self.session.get(Upload, upload_id, populate_existing=True)

    def begin(self, owner: Owner, name: str, digest: str, size: int, draft: str) -> tuple[Upload, bool]:
        """The open upload of this archive under this name, and whether it is new (`draft` is used then)."""
        take_turns(self.session, "upload", owner.project_id, name)
        found = self.session.scalars(
            select(Upload)
            .where(
                Upload.project_id == owner.project_id,
                Upload.name == name,
                Upload.digest == digest,
                Upload.size == size,
                Upload.finished_at.is_(None),
            )
            .order_by(Upload.id)
            .limit(1)
        ).one_or_none()
        if found is not None:
            return found, False
        upload = Upload(**owner.columns(), name=name, digest=digest, size=size, received=0, draft=draft)
        self.session.add(upload)
        self.session.flush()
        return upload, True

    def known(self, owner: Owner, name: str, digest: str, size: int) -> Upload:
        """The upload of an archive that is there already: ended before anything was sent."""
        take_turns(self.session, "upload", owner.project_id, name)
        ended = (Upload.received == Upload.size) & Upload.finished_at.is_not(None)
        mine = (Upload.project_id == owner.project_id) & (Upload.name == name) & (Upload.digest == digest)
        found = self.session.scalars(select(Upload).where(mine, ended).order_by(Upload.id).limit(1)).one_or_none()
        if found is None:
            found = Upload(**owner.columns(), name=name, digest=digest, size=size, received=size, draft="")
            self.session.add(found)
            self.session.flush()
            self.finish(found.id, accepted=True)
            self.session.refresh(found)
        return found

    def advance(self, upload_id: int, before: int, after: int) -> bool:
        """So many bytes are on the disk now; False when somebody else was quicker."""
        return self._change(
            update(Upload)
            .where(Upload.id == upload_id, Upload.received == before, Upload.finished_at.is_(None))
            .values(received=after)
        )

    def finish(self, upload_id: int, *, accepted: bool) -> bool:
        """The whole has been checked; False when somebody else had said so before."""
        values = {"finished_at": db_now()} if accepted else {"finished_at": db_now(), "received": 0}
        return self._change(update(Upload).where(Upload.id == upload_id, Upload.finished_at.is_(None)).values(**values))

    def complete(self) -> Sequence[Upload]:
        """Those with all their bytes, still to be checked."""
        return self.session.scalars(
            select(Upload).where(Upload.finished_at.is_(None), Upload.received == Upload.size).order_by(Upload.id)
        ).all()

    def drop_old(self, seconds: float) -> int:
        """Forget uploads that were begun so long ago, whatever became of them; returns how many."""
        gone = self.session.execute(delete(Upload).where(Upload.created_at < db_now() - seconds).returning(Upload.id))
        return len(gone.all())

    def drafts(self) -> set[str]:
        """Names of the files that are still needed."""
        return set(self.session.scalars(select(Upload.draft).where(Upload.finished_at.is_(None))))

    def _change(self, statement: object) -> bool:
        changed = self.session.execute(
            statement.returning(Upload.id),  # type: ignore[attr-defined]  # an UPDATE of uploads
            execution_options={"synchronize_session": False},
        )
        return changed.first() is not None

"""Artifacts: rows about files. A file without a row, or a row without a reference, may be collected."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, exists, select
from sqlalchemy.orm import Session

from services.common.db.models import Artifact, ArtifactReference
from services.common.db.repositories.owner import Owner
from services.common.db.types import db_now
from services.common.errors import ConflictError, NotFoundError


def upload_owner(account_id: int) -> str:
    """The reference that a freshly uploaded artifact lives by until something takes it over."""
    return f"upload:{account_id}"


class ArtifactRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def uploaded(self, digest: str, size: int, owner: Owner) -> bool:
        """A file has arrived and been checked. Returns whether its row is new."""
        new = self.session.get(Artifact, digest) is None
        if new:
            self.session.add(Artifact(digest=digest, size=size))
            self.session.flush()
        # Anew each time: its age counts from the last upload.
        self._drop(digest, owner.project_id, upload_owner(owner.account_id))
        self._refer(digest, owner, upload_owner(owner.account_id))
        return new

    def get(self, digest: str, project_id: int) -> Artifact:
        """The artifact, where this project refers to it: the hash alone grants nothing."""
        found = self.session.scalars(
            select(Artifact).where(
                Artifact.digest == digest,
                exists().where(ArtifactReference.digest == digest, ArtifactReference.project_id == project_id),
            )
        ).one_or_none()
        if found is None:
            raise NotFoundError(f"there is no artifact {digest} in this project")
        return found

    def take(self, digest: str, owner: Owner, name: str) -> None:
        """Refer to an artifact as `name`, e.g. "job:12:checkpoint"; that ends its life as an upload."""
        known = self.session.scalars(
            select(ArtifactReference.owner).where(
                ArtifactReference.digest == digest, ArtifactReference.project_id == owner.project_id
            )
        ).all()
        if not known:
            raise ConflictError(
                f"artifact {digest} is not there (never uploaded, or collected because nothing used it); "
                f"send it with PUT /v1/artifacts/{digest} first"
            )
        if name not in known:
            self._refer(digest, owner, name)
        self.session.execute(
            delete(ArtifactReference).where(
                ArtifactReference.digest == digest,
                ArtifactReference.project_id == owner.project_id,
                ArtifactReference.owner.like("upload:%"),
            )
        )

    def drop(self, owner_name: str, *, keep: str | None = None) -> None:
        """`owner_name` needs its artifacts no longer, `keep` excepted."""
        statement = delete(ArtifactReference).where(ArtifactReference.owner == owner_name)
        if keep is not None:
            statement = statement.where(ArtifactReference.digest != keep)
        self.session.execute(statement)

    def references(self, digest: str) -> Sequence[str]:
        return self.session.scalars(
            select(ArtifactReference.owner).where(ArtifactReference.digest == digest).order_by(ArtifactReference.owner)
        ).all()

    def drop_old_uploads(self, seconds: float) -> int:
        """Forget uploads that nothing took over within `seconds`; returns how many."""
        gone = self.session.execute(
            delete(ArtifactReference)
            .where(ArtifactReference.owner.like("upload:%"), ArtifactReference.created_at < db_now() - seconds)
            .returning(ArtifactReference.id)
        )
        return len(gone.all())

    def forget_unreferenced(self, limit: int = 100) -> Sequence[str]:
        """Delete rows that nothing refers to; their files may go once this is committed (see `absent`)."""
        candidates = self.session.scalars(
            select(Artifact.digest)
            .where(~exists().where(ArtifactReference.digest == Artifact.digest))
            .order_by(Artifact.digest)
            .limit(limit)
        ).all()
        if candidates:
            self.session.execute(delete(Artifact).where(Artifact.digest.in_(candidates)))
        return candidates

    def absent(self, digests: Sequence[str]) -> list[str]:
        """Those of `digests` that have no row. In a write transaction the answer stays true until its end."""
        present = set(self.session.scalars(select(Artifact.digest).where(Artifact.digest.in_(digests))))
        return [digest for digest in digests if digest not in present]

    def _refer(self, digest: str, owner: Owner, name: str) -> None:
        self.session.add(ArtifactReference(**owner.columns(), digest=digest, owner=name))
        self.session.flush()

    def _drop(self, digest: str, project_id: int, name: str) -> None:
        self.session.execute(
            delete(ArtifactReference).where(
                ArtifactReference.digest == digest,
                ArtifactReference.project_id == project_id,
                ArtifactReference.owner == name,
            )
        )

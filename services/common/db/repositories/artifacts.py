"""Artifacts: rows about files. A file without a row, or a row without a reference, may be collected.

Whoever makes, takes or forgets an artifact takes turns with all others by its digest until the transaction ends:
between a look at its references and what follows from it nobody else changes them. Whoever holds that turn waits for no
search, job or trial. Only the end of a check takes two in one transaction: the archive's, then the manifest's.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, exists, select
from sqlalchemy.orm import Session

from services.common.db.models import Artifact, ArtifactReference
from services.common.db.repositories.owner import Owner
from services.common.db.session import take_turns
from services.common.db.types import db_now
from services.common.errors import ConflictError, NotFoundError


def upload_owner(account_id: int) -> str:
    """The reference that a freshly uploaded artifact lives by until something takes it over."""
    return f"upload:{account_id}"


class ArtifactRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def take_turns(self, digest: str) -> None:
        """From here to the end of the transaction nobody else makes, takes or forgets this artifact."""
        take_turns(self.session, "artifact", digest)

    def uploaded(self, digest: str, size: int, owner: Owner) -> bool:
        """A file has arrived and been checked. Returns whether its row is new."""
        new = self.arrived(digest, size)
        # Anew each time: its age counts from the last upload.
        self._drop(digest, owner.project_id, upload_owner(owner.account_id))
        self._refer(digest, owner, upload_owner(owner.account_id))
        return new

    def arrived(self, digest: str, size: int) -> bool:
        """The row of a file that has arrived; the caller refers to it. Returns whether it is new."""
        self.take_turns(digest)
        new = self.session.get(Artifact, digest) is None
        if new:
            self.session.add(Artifact(digest=digest, size=size))
            self.session.flush()
        return new

    def refer(self, digest: str, owner: Owner, name: str) -> None:
        """Refer to an artifact that is there as `name`; harmless when that is known."""
        self.take_turns(digest)
        if name not in self._names(digest, owner.project_id):
            self._refer(digest, owner, name)

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

    def has(self, digest: str, size: int, project_id: int) -> bool:
        """Whether this project refers to an artifact of this size."""
        found = self.session.get(Artifact, digest)
        return found is not None and found.size == size and bool(self._names(digest, project_id))

    def take(self, digest: str, owner: Owner, name: str) -> None:
        """Refer to an artifact as `name`, e.g. "job:12:checkpoint"; that ends its life as an upload."""
        self.take_turns(digest)
        known = self._names(digest, owner.project_id)
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

    def unreferenced(self, limit: int = 100) -> Sequence[str]:
        """Artifacts that nothing refers to at the moment."""
        return self.session.scalars(
            select(Artifact.digest)
            .where(~exists().where(ArtifactReference.digest == Artifact.digest))
            .order_by(Artifact.digest)
            .limit(limit)
        ).all()

    def forget(self, digest: str) -> bool:
        """Delete the row if nothing refers to it; its file may go once this is committed (see `absent`)."""
        self.take_turns(digest)
        gone = self.session.execute(
            delete(Artifact)
            .where(Artifact.digest == digest, ~exists().where(ArtifactReference.digest == digest))
            .returning(Artifact.digest)
        )
        return gone.first() is not None

    def absent(self, digests: Sequence[str]) -> list[str]:
        """Those of `digests` that have no row. Whoever has the turn of a digest keeps that true until the end."""
        present = set(self.session.scalars(select(Artifact.digest).where(Artifact.digest.in_(digests))))
        return [digest for digest in digests if digest not in present]

    def _names(self, digest: str, project_id: int) -> Sequence[str]:
        return self.session.scalars(
            select(ArtifactReference.owner).where(
                ArtifactReference.digest == digest, ArtifactReference.project_id == project_id
            )
        ).all()

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

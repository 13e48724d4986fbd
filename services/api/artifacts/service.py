"""Rules of artifacts: what is kept hashes to its name, and who asks belongs to a project that refers to it."""

from __future__ import annotations

from sqlalchemy.orm import Session

from services.api.access import Caller
from services.api.artifacts.draft import Draft
from services.api.artifacts.keeping import keep_file
from services.api.artifacts.schemas import ArtifactRead
from services.api.state import ApiState
from services.common.db.repositories import ArtifactRepository
from services.common.errors import InvalidRequestError


def keep(api: ApiState, caller: Caller, draft: Draft, digest: str) -> bool:
    """Check a received file and make it an artifact; True when it is new."""
    found = draft.finish()
    if found != digest:
        raise InvalidRequestError(
            f"the {draft.size} bytes that came hash to {found}, not to {digest}; nothing was kept, send them again"
        )

    def record(session: Session) -> bool:
        return ArtifactRepository(session).uploaded(digest, draft.size, caller.owner)

    return keep_file(api.database, api.store, draft.path, draft.size, digest, record)


def find(api: ApiState, caller: Caller, digest: str) -> ArtifactRead:
    with api.database.read_session() as session:
        artifact = ArtifactRepository(session).get(digest, caller.project_id)
        return ArtifactRead(digest=artifact.digest, size=artifact.size)


def look_up(api: ApiState, caller: Caller, digest: str) -> ArtifactRead:
    """Like `find`; a worker that asks is about to use it instead of sending it again."""
    if "worker" not in caller.scopes:
        return find(api, caller, digest)
    with api.database.write_session() as session:
        artifacts = ArtifactRepository(session)
        artifacts.take_turns(digest)
        artifact = artifacts.get(digest, caller.project_id)
        artifacts.uploaded(digest, artifact.size, caller.owner)
        return ArtifactRead(digest=artifact.digest, size=artifact.size)

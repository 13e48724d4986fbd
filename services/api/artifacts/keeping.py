"""From a finished file to an artifact: the file gets its place, and the row is made, without a gap between them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy.orm import Session

from services.api.artifacts.store import ArtifactStore
from services.common.db.repositories import ArtifactRepository
from services.common.db.session import Database
from services.common.errors import UnavailableError

TRANSFERS = 5  # a file is sent so often at most when collectors keep being quicker

T = TypeVar("T")


def keep_file(
    database: Database,
    store: ArtifactStore,
    file: Path,
    size: int,
    digest: str,
    record: Callable[[Session], T],
) -> T:
    """Give a file its place and make its row (`record`) in one transaction, in which no collector can remove it."""
    for _ in range(TRANSFERS):
        store.transfer(file, size, digest)
        with database.write_session() as session:
            ArtifactRepository(session).take_turns(digest)
            if store.publish(file, size, digest):
                return record(session)
    raise UnavailableError(f"artifact {digest} was removed {TRANSFERS} times while it was stored; send it again")

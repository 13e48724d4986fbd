"""Where the files of artifacts are kept: what a store must do, whatever it is made of.

A file is known by the SHA-256 of its bytes and has that name only when all its bytes are there. Rows say which files
count (services/common/db/repositories/artifacts.py); a file without a row may be removed at any time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from services.api.artifacts.draft import Draft
from services.api.fields import DIGEST_PATTERN
from services.common.errors import InvalidRequestError

DIGEST = re.compile(DIGEST_PATTERN.replace("$", r"\Z"))
FOLDER = re.compile(r"[0-9a-f]{2}\Z")


class ArtifactStore(Protocol):
    """Files by their hash. Every method may be called from several threads and processes at once."""

    @property
    def drafts(self) -> Path:
        """The folder of this machine in which files are received."""

    def prepare(self) -> None:
        """Make what is needed; raises ServiceError with a sentence where that is not possible."""

    def draft(self) -> Draft:
        """A new file to be received."""

    def transfer(self, file: Path, size: int, digest: str) -> None:
        """The slow half of giving a finished file its name; no transaction is open meanwhile."""

    def publish(self, file: Path, size: int, digest: str) -> bool:
        """The quick half, inside the transaction that makes the row.

        False when what `transfer` brought is not there any more (a collector was quicker): transfer it again.
        """

    def open(self, digest: str, offset: int = 0) -> BinaryIO:
        """Open for reading from a byte on; raises NotFoundError when the file is not there."""

    def remove(self, digest: str) -> None:
        """Harmless when it is not there."""

    def digests(self) -> Iterator[str]:
        """Every file that has a digest's name and place."""


def checked(digest: str) -> str:
    """The digest; names are checked here once more, whatever a route let through."""
    if not DIGEST.match(digest):
        raise InvalidRequestError("an artifact is named by 64 hexadecimal digits in lower case")
    return digest

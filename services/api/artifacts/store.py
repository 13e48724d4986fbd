"""Files by the SHA-256 of their bytes, below HOME/artifacts: drafts in tmp/, kept ones in <first two digits>/.

A file has its final name only when all its bytes are on the disk and hash to that name. Names are checked
here once more, whatever a route let through; links are never followed.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from services.api.fields import DIGEST_PATTERN
from services.common.errors import InvalidRequestError, NotFoundError

_DIGEST = re.compile(DIGEST_PATTERN.replace("$", r"\Z"))
_FOLDER = re.compile(r"[0-9a-f]{2}\Z")
OLD_DRAFT_SECONDS = 3600.0
CHUNK = 1 << 20


class Draft:
    """A file that is being received."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._hash = hashlib.sha256()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file: BinaryIO = open(os.open(path, flags, 0o600), "wb", buffering=0)  # noqa: SIM115 - closed by finish or abandon

    def write(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        while view:
            view = view[self._file.write(view) :]
        self._hash.update(chunk)
        self.size += len(chunk)

    def finish(self) -> str:
        """All bytes are on the disk; returns their hash."""
        os.fsync(self._file.fileno())
        self._file.close()
        return self._hash.hexdigest()

    def abandon(self) -> None:
        """Leave nothing behind; harmless after the file was published."""
        self._file.close()
        self.path.unlink(missing_ok=True)


class ArtifactStore:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.drafts = root / "tmp"

    def prepare(self) -> None:
        """Make the folders and clear drafts that nobody finishes any more."""
        self.drafts.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self.drafts.iterdir():
            if path.lstat().st_mtime < time.time() - OLD_DRAFT_SECONDS:
                path.unlink(missing_ok=True)

    def draft(self) -> Draft:
        return Draft(self.drafts / secrets.token_hex(16))

    def path(self, digest: str) -> Path:
        if not _DIGEST.match(digest):
            raise InvalidRequestError("an artifact is named by 64 hexadecimal digits in lower case")
        return self.root / digest[:2] / digest

    def publish(self, draft: Draft, digest: str) -> None:
        """Give a finished draft its name. Called inside the transaction that makes its row."""
        target = self.path(digest)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        os.rename(draft.path, target)
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def open(self, digest: str) -> BinaryIO:
        """Open for reading: an ordinary file in an ordinary folder, or nothing."""
        target = self.path(digest)
        try:
            folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                descriptor = os.open(target.name, flags, dir_fd=folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise NotFoundError(f"the file of artifact {digest} is not in its place ({error.strerror})") from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise NotFoundError(f"the file of artifact {digest} is not an ordinary file")
        return open(descriptor, "rb")

    def remove(self, digest: str) -> None:
        self.path(digest).unlink(missing_ok=True)

    def digests(self) -> Iterator[str]:
        """Every file that has a digest's name and place."""
        for folder in sorted(self.root.iterdir()):
            if _FOLDER.match(folder.name) and folder.is_dir() and not folder.is_symlink():
                yield from sorted(
                    path.name for path in folder.iterdir() if _DIGEST.match(path.name) and path.name[:2] == folder.name
                )

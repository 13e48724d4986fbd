"""Artifacts in a folder of this machine, below HOME/artifacts: drafts in tmp/, kept ones in <first two digits>/.

A file has its final name only when all its bytes are on the disk and hash to that name. Links are never followed.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from services.api.artifacts.draft import Draft, DraftFolder
from services.api.artifacts.store import DIGEST, FOLDER, checked
from services.common.errors import NotFoundError

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS)  # of file systems without them
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class LocalStore:
    def __init__(self, root: Path) -> None:
        self.root = root
        self._drafts = DraftFolder(root / "tmp")

    @property
    def drafts(self) -> Path:
        return self._drafts.path

    def prepare(self) -> None:
        self._drafts.prepare()

    def draft(self) -> Draft:
        return self._drafts.new()

    def path(self, digest: str) -> Path:
        return self.root / checked(digest)[:2] / digest

    def transfer(self, file: Path, size: int, digest: str) -> None:
        """Nothing: drafts lie on the same disk."""
        del file, size
        checked(digest)

    def publish(self, file: Path, size: int, digest: str) -> bool:
        """Name the file; it keeps its first name as well, so that a transaction that fails can be tried again."""
        del size
        target = self.path(digest)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        beside = self.drafts / f"{secrets.token_hex(16)}.link"
        try:
            os.link(file, beside, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            beside = file
        os.rename(beside, target)
        if beside != file:
            beside.unlink(missing_ok=True)  # it stays where both names are of the same file already
        folder = os.open(target.parent, _FOLDER_FLAGS)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return True

    def open(self, digest: str, offset: int = 0) -> BinaryIO:
        """Open for reading: an ordinary file in an ordinary folder, or nothing."""
        target = self.path(digest)
        try:
            folder = os.open(target.parent, _FOLDER_FLAGS)
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
        file = open(descriptor, "rb")  # noqa: SIM115 - handed to the caller
        file.seek(offset)
        return file

    def remove(self, digest: str) -> None:
        self.path(digest).unlink(missing_ok=True)

    def digests(self) -> Iterator[str]:
        for folder in sorted(self.root.iterdir()):
            if FOLDER.match(folder.name) and folder.is_dir() and not folder.is_symlink():
                yield from sorted(
                    path.name for path in folder.iterdir() if DIGEST.match(path.name) and path.name[:2] == folder.name
                )

"""Drafts: files that are being received, on the local disk of the API."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from pathlib import Path
from typing import BinaryIO

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


class DraftFolder:
    """Where drafts lie until they are whole. Several API processes may share it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(self) -> None:
        """Make the folder and clear drafts that nobody finishes any more."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self.path.iterdir():
            try:
                if path.lstat().st_mtime < time.time() - OLD_DRAFT_SECONDS:
                    path.unlink(missing_ok=True)
            except FileNotFoundError:
                continue  # finished by another process in this moment

    def new(self) -> Draft:
        return Draft(self.path / secrets.token_hex(16))

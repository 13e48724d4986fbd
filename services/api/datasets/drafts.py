"""The growing file of an upload. Several API processes share the folder; one at a time holds a file."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

_NAME = re.compile(r"[0-9a-f]{32}\Z")
_BLOCK = 1 << 20


class DraftBusyError(Exception):
    """Somebody else writes to the file or checks it."""


class ArchiveDraft:
    """The file, held until `close`. Raises DraftBusyError, and FileNotFoundError where it must be there already."""

    def __init__(self, folder: Path, name: str, *, create: bool) -> None:
        self.path = _place(folder, name)
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        self._descriptor = os.open(self.path, flags, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._descriptor)
            raise DraftBusyError from error
        self._position = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @property
    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def go_on_at(self, offset: int) -> None:
        """Forget what lies behind: bytes of a request that was cut off before they were counted."""
        os.ftruncate(self._descriptor, offset)
        self._position = offset

    def write(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        while view:
            written = os.pwrite(self._descriptor, view, self._position)
            self._position += written
            view = view[written:]

    def sync(self) -> int:
        """Everything written is on the disk; returns how much that is."""
        os.fsync(self._descriptor)
        return self._position

    def sha256(self) -> str:
        found = hashlib.sha256()
        position = 0
        while block := os.pread(self._descriptor, _BLOCK, position):
            found.update(block)
            position += len(block)
        return found.hexdigest()

    def remove(self) -> None:
        """While we hold it: nobody else can be writing to it."""
        self.path.unlink(missing_ok=True)


def draft_size(folder: Path, name: str) -> int:
    """How many bytes the file has; 0 where there is none."""
    try:
        return _place(folder, name).lstat().st_size
    except FileNotFoundError:
        return 0


def draft_names(folder: Path) -> Iterator[str]:
    for path in folder.iterdir():
        if _NAME.match(path.name):
            yield path.name


def _place(folder: Path, name: str) -> Path:
    if not _NAME.match(name):
        raise ValueError(f"expected the name of a draft, 32 hexadecimal digits, but got {name!r}")
    return folder / name

"""A dataset as one archive: a folder laid out as a tar file that is never written down, or a file that is one already.

The same folder gives the same bytes wherever and whenever it is packed: names in order, no times, no owners. So an
upload that was cut off goes on, in another process too, and the platform knows by the hash what it has.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nasdet_client.errors import CommandError

BLOCK = 512
CHUNK = 1 << 20
END = 2 * BLOCK  # of zeros
SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")

Progress = Callable[[int], None]


class Archive(Protocol):
    """Bytes that can be read from any place."""

    size: int

    def read(self, offset: int, count: int) -> bytes:
        """So many bytes from there on, fewer at the end."""


def open_archive(path: Path) -> Archive:
    """A folder, or an archive. Raises CommandError when it is neither."""
    if path.is_dir():
        return FolderArchive(path)
    if not path.is_file():
        raise CommandError(f"expected a dataset folder or an archive of one, but {path} does not exist; check the path")
    if not path.name.lower().endswith(SUFFIXES):
        raise CommandError(
            f"expected a folder or an archive ({', '.join(SUFFIXES)}), but {path} is another file; give "
            "the folder itself"
        )
    return FileArchive(path)


def sha256_of(archive: Archive, progress: Progress) -> str:
    """Of the whole. `progress` is told how many bytes were read."""
    found, offset = hashlib.sha256(), 0
    while offset < archive.size:
        chunk = archive.read(offset, CHUNK)
        found.update(chunk)
        offset += len(chunk)
        progress(offset)
    return found.hexdigest()


class FileArchive:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.size = path.stat().st_size
        if not self.size:
            raise CommandError(f"the archive {path} is empty; pack the dataset again")

    def read(self, offset: int, count: int) -> bytes:
        with self._path.open("rb") as file:
            file.seek(offset)
            data = file.read(count)
        if not data and offset < self.size:
            raise CommandError(f"{self._path} became shorter while it was sent; send it again")
        return data


@dataclass(frozen=True)
class _Member:
    path: Path
    header: bytes
    size: int

    @property
    def length(self) -> int:
        """In the archive."""
        return len(self.header) + -(-self.size // BLOCK) * BLOCK

    def read(self, offset: int, count: int) -> bytes:
        """From the header, the file and its padding, as one of them."""
        if offset < len(self.header):
            return self.header[offset : offset + count]
        start = offset - len(self.header)
        if start >= self.size:
            return bytes(min(count, self.length - offset))
        with self.path.open("rb") as file:
            file.seek(start)
            data = file.read(min(count, self.size - start))
        if not data:
            raise CommandError(f"{self.path} became shorter while it was sent; send the dataset again")
        return data


class FolderArchive:
    """The folder's files as a tar file; hidden ones (.git, .DS_Store) are left out, links to files are followed."""

    def __init__(self, folder: Path) -> None:
        self._members = [_member(path, name) for name, path in _files(folder)]
        if not self._members:
            raise CommandError(f"expected a dataset in {folder}, but it has no files; check the path")
        self._starts: list[int] = []
        position = 0
        for member in self._members:
            self._starts.append(position)
            position += member.length
        self._end = position
        self.files = len(self._members)
        self.size = position + END

    def read(self, offset: int, count: int) -> bytes:
        parts: list[bytes] = []
        while count and offset < self.size:
            if offset >= self._end:
                data = bytes(min(count, self.size - offset))
            else:
                index = bisect_right(self._starts, offset) - 1
                data = self._members[index].read(offset - self._starts[index], count)
            parts.append(data)
            offset += len(data)
            count -= len(data)
        return b"".join(parts)


def _files(folder: Path) -> list[tuple[str, Path]]:
    """(name in the archive, file), in the order of the names' bytes."""
    found: list[tuple[str, Path]] = []
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            raise CommandError(f"{place} leads back to a folder that is packed already; take that link out")
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.startswith("."):
                continue
            path = Path(place, name)
            if not path.is_file():
                raise CommandError(
                    f"{path} is no ordinary file or a link that leads nowhere; take it out of the folder"
                )
            found.append((path.relative_to(folder).as_posix(), path))
    try:
        return sorted(found, key=lambda item: item[0].encode())
    except UnicodeEncodeError as error:
        raise CommandError(
            f"a file in {folder} has a name that is no UTF-8 text, {error.object!r}; rename it"
        ) from error


def _member(path: Path, name: str) -> _Member:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}; check who may read it") from error
    entry = tarfile.TarInfo(name)
    entry.size = size
    entry.mode = 0o644
    return _Member(path, entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict"), size)

"""What an archive may write: names that stay below one new folder, each once, and so many bytes at most.

Nothing here believes what an archive says of itself: names are checked part by part, bytes are counted as they come.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from nasdet_core.errors import NasDetError

CHUNK = 1 << 20
MOST_ROOM = 64 << 20  # the disk is asked for room in steps of so many bytes at most, fewer for a small archive
BLOCK = 4096  # what a file takes of a disk is a multiple of this
DEEPEST = 32
LONGEST_PART = 255  # bytes

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class UnpackError(NasDetError):
    """The archive holds something that is not unpacked; the message names it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much an archive may become."""

    members: int = 4_000_000
    bytes: int = 1 << 40
    ratio: float = 200.0  # bytes for each byte of the archive
    free_bytes: int = 64 << 20  # below this the ratio is not looked at


class TreeWriter:
    """Fills a new folder. `room` is told how many bytes of disk are taken or about to be; it may raise."""

    def __init__(
        self,
        folder: Path,
        listing: TextIO,
        *,
        archive_bytes: int,
        limits: Limits,
        room: Callable[[int], None],
        tick: Callable[[], object],
    ) -> None:
        """`listing` gets a line "SHA-256 size path" for each file."""
        self._folder = folder
        self._listing = listing
        self._limits = limits
        self._most = min(limits.bytes, max(limits.free_bytes, int(limits.ratio * archive_bytes)))
        self._archive_bytes = archive_bytes
        self._step = max(BLOCK, min(MOST_ROOM, archive_bytes // 16))
        self._room = room
        self._tick = tick
        self._members = 0
        self._written = 0
        self._promised = 0
        self._folders: set[tuple[str, ...]] = {()}
        self._files: set[tuple[str, ...]] = set()
        self.disk_bytes = 0

    def make_folder(self, name: str) -> None:
        """A folder of the archive; it may be named more than once."""
        self._count_member()
        parts = safe_parts(name)
        if parts in self._files:
            raise UnpackError(f"the archive has {name!r} twice, as a file and as a folder; pack it anew")
        self._ensure(parts)

    def write_file(self, name: str, chunks: Iterable[bytes]) -> None:
        """An ordinary file, which nothing else in the archive may name again."""
        self._count_member()
        parts = safe_parts(name)
        if name.endswith("/"):
            raise UnpackError(f"the archive has {name!r}, a file that is named as a folder is; pack it anew")
        if not parts or parts in self._files or parts in self._folders:
            raise UnpackError(f"the archive has {name!r} twice; pack it anew")
        self._ensure(parts[:-1])
        self._files.add(parts)
        place = self._folder.joinpath(*parts)
        digest, size = hashlib.sha256(), 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(place, flags, 0o600), "wb") as file:
            for chunk in chunks:
                size += len(chunk)
                self._count_bytes(len(chunk))
                self._need(_on_disk(size))
                file.write(chunk)
                digest.update(chunk)
        self.disk_bytes += _on_disk(size)
        self._listing.write(f"{digest.hexdigest()} {size} {'/'.join(parts)}\n")

    def _ensure(self, parts: tuple[str, ...]) -> None:
        for depth in range(1, len(parts) + 1):
            folder = parts[:depth]
            if folder in self._folders:
                continue
            if folder in self._files:
                raise UnpackError(f"the archive has {'/'.join(folder)!r} as a file and as a folder; pack it anew")
            self._need(BLOCK)
            self._folder.joinpath(*folder).mkdir(mode=0o700)
            self._folders.add(folder)
            self.disk_bytes += BLOCK

    def _count_member(self) -> None:
        self._members += 1
        if self._members > self._limits.members:
            raise UnpackError(
                f"the archive has more than {self._limits.members} files and folders, more than is unpacked here; "
                "divide the dataset"
            )
        self._tick()

    def _count_bytes(self, count: int) -> None:
        self._written += count
        if self._written > self._most:
            raise UnpackError(
                f"the archive of {self._archive_bytes} bytes becomes more than {self._most} bytes, more than is "
                f"unpacked here (at most {self._limits.bytes} bytes, and {self._limits.ratio:g} for each of its own); "
                "pack it without so much air, or divide the dataset"
            )

    def _need(self, more: int) -> None:
        """So many bytes of disk beside what is taken."""
        needed = self.disk_bytes + more
        if needed > self._promised:
            self._promised = needed + self._step
            self._room(self._promised)
            self._tick()


def _on_disk(size: int) -> int:
    """What a file of this size takes of a disk, its entry included."""
    return -(-size // BLOCK) * BLOCK + BLOCK


def safe_parts(name: str) -> tuple[str, ...]:
    """The parts of a relative path that stays where it begins; raises UnpackError for every other spelling."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise UnpackError(f"the archive has a name that is no UTF-8 text, {name!r}; pack it anew") from None
    if _CONTROL.search(name):
        raise UnpackError(f"the archive has a name with control characters, {name!r}; pack it anew")
    if "\\" in name or name.startswith("/") or name[1:2] == ":":
        raise UnpackError(f"the archive has {name!r}, which is no path below a folder; pack it with relative names")
    parts = name.split("/")
    if parts[0] == "." and len(parts) > 1:
        parts = parts[1:]
    if parts[-1] == "":
        parts = parts[:-1]
    if parts == ["."]:
        return ()
    if any(part in ("", ".", "..") for part in parts):
        raise UnpackError(f"the archive has {name!r}, which leads elsewhere; pack it with plain relative names")
    if len(parts) > DEEPEST or any(len(part.encode()) > LONGEST_PART for part in parts):
        raise UnpackError(
            f"the archive has a name of {len(name)} characters in {len(parts)} parts, {name[:80]!r}…, more than a disk "
            "takes; use shorter names"
        )
    return tuple(parts)

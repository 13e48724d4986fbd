"""Artifacts on this machine's disk by their hash, with a limit: weights as files, archives as unpacked folders.

Several executors and supervisors share one folder (HOME/cache), each in a process of its own:

    files/DIGEST            an artifact's bytes
    folders/DIGEST/data     an unpacked archive; beside it `listing` (hashes of its files) and `bytes` (disk it takes)
    locks/DIGEST            held shared by who uses an entry, alone by who makes or removes it; its time is the last use
    parts/RANDOM            what is being made, with the room that was promised to it; held by its maker

What was used longest ago goes first, what is in use never. Files have their name only when they are whole.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from services.worker.errors import WorkerError
from services.worker.file_locks import ALONE, LOOK_SECONDS, SHARED, NamedLocks, Tick, held, is_taken, open_lock
from services.worker.unpack.unpack import unpack
from services.worker.unpack.writer import Limits

REPAIRS = 2  # of one damaged entry, before its disk is to blame

Room = Callable[[int], None]
Download = Callable[[str, Path, Room], None]
"""Write the artifact of a digest to a path; tell its size before anything is written."""


class CacheFullError(WorkerError):
    """What is needed does not fit beside what is in use."""


class Held:
    """An entry in use: it stays as long as this object lives, or until it is closed."""

    def __init__(self, path: Path, lock: BinaryIO) -> None:
        self.path = path
        self.lock = lock  # closed, and by that let go of, with us

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Idempotent."""
        self.lock.close()


class ArtifactCache:
    """One process's view of the folder. Not for several threads at once."""

    def __init__(self, folder: Path, limit: int) -> None:
        """`limit`: bytes of disk."""
        self.folder = folder
        self.limit = limit
        self._files, self._trees, self._locks, self._parts = (
            folder / name for name in ("files", "folders", "locks", "parts")
        )
        for path in (self._files, self._trees, self._locks, self._parts):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._entry_locks = NamedLocks(self._locks)

    def read(self, digest: str, download: Download, tick: Tick) -> bytes:
        """The bytes of an artifact. A file that is damaged here is noticed by its hash and fetched again."""
        with self._use(digest, self._files / digest, self._download, download, tick) as using:
            for _ in range(REPAIRS + 1):
                data = using.path.read_bytes()
                if hashlib.sha256(data).hexdigest() == digest:
                    return data
                self._repair(digest, using.path, self._download, download, tick)
        raise self._failing(digest)

    def tree(self, digest: str, download: Download, tick: Tick, *, verify: bool = False) -> Held:
        """The folder that an archive becomes; read only. `verify` looks at the hash of each of its files.

        Raises UnpackError for an archive that is not unpacked, CacheFullError where there is no room.
        """
        using = self._use(digest, self._trees / digest, self._unpack, download, tick)
        try:
            for _ in range(REPAIRS + 1):
                if not verify or _is_whole(using.path, tick):
                    return Held(using.path / "data", using.lock)
                self._repair(digest, using.path, self._unpack, download, tick)
        except BaseException:
            using.close()
            raise
        using.close()
        raise self._failing(digest)

    # making entries

    def _use(
        self,
        digest: str,
        place: Path,
        make: Callable[[str, Path, Download, Tick], None],
        download: Download,
        tick: Tick,
    ) -> Held:
        """The entry, made now if it is not there; one process makes it, the others wait."""
        while True:
            lock = self._entry_locks.take(digest, SHARED, tick)
            if place.exists():
                os.utime(lock.fileno())
                return Held(place, lock)
            lock.close()
            with held(self._entry_locks.take(digest, ALONE, tick)):
                if not place.exists():
                    make(digest, place, download, tick)

    def _repair(
        self,
        digest: str,
        place: Path,
        make: Callable[[str, Path, Download, Tick], None],
        download: Download,
        tick: Tick,
    ) -> None:
        """Put a new copy in the place of a damaged one that others may be using: they find the same names again."""
        with held(self._entry_locks.take(f"{digest}.repair", ALONE, tick)):
            if place.is_file() or not _is_whole(place, tick):  # nobody was quicker
                make(digest, place, download, tick)

    def _failing(self, digest: str) -> WorkerError:
        return WorkerError(
            f"artifact {digest} was fetched {REPAIRS} times into {self.folder} and is damaged there each time; look at "
            "that disk"
        )

    def _replace(self, made: Path, place: Path) -> None:
        """Name what was made."""
        gone = self._parts / secrets.token_hex(16)
        if place.is_dir():
            os.rename(place, gone)
        os.rename(made, place)
        shutil.rmtree(gone, ignore_errors=True)

    def _download(self, digest: str, place: Path, download: Download, tick: Tick) -> None:
        with self._part(tick) as part:
            download(digest, part / "file", lambda size: self._reserve(part, size, tick))
            self._replace(part / "file", place)

    def _unpack(self, digest: str, place: Path, download: Download, tick: Tick) -> None:
        with self._part(tick) as part:
            archive, tree = part / "archive", part / "tree"
            download(digest, archive, lambda size: self._reserve(part, size, tick))
            packed = archive.stat().st_size
            tree.mkdir(mode=0o700)
            taken = unpack(
                archive,
                tree / "data",
                tree / "listing",
                limits=Limits(bytes=self.limit),
                room=lambda size: self._reserve(part, packed + size, tick),
                tick=tick,
            )
            (tree / "bytes").write_text(str(taken))
            self._replace(tree, place)

    @contextmanager
    def _part(self, tick: Tick) -> Iterator[Path]:
        """A folder in which something is made, held by a lock: one whose maker was killed is cleared by others."""
        with self._counting(tick):  # nobody looks for stale parts before ours is locked
            part = self._parts / secrets.token_hex(16)
            part.mkdir(mode=0o700)
            lock = open_lock(part / "lock")
            if not is_taken(lock, ALONE):
                raise RuntimeError(f"somebody else holds {part}, which we have just made")
        try:
            yield part
        finally:
            shutil.rmtree(part, ignore_errors=True)  # others may be at it, too, once the lock's file is gone
            lock.close()

    # room

    def _reserve(self, part: Path, size: int, tick: Tick) -> None:
        """Promise `size` bytes in all to a part; others make way for it. Raises CacheFullError."""
        with self._counting(tick):
            self._clear_stale_parts()
            promised = sum(_number(other / "promised") for other in self._parts.iterdir() if other != part)
            entries = self._entries()
            total = promised + size + sum(taken for _, _, taken in entries)
            for _, digest, taken in entries:
                if total <= self.limit:
                    break
                lock = self._entry_locks.try_take(digest, ALONE)
                if lock is not None:
                    with held(lock):
                        self._remove(digest)
                    total -= taken
            if total > self.limit:
                raise CacheFullError(
                    f"the worker's cache in {self.folder} may hold {self.limit} bytes, but {size} are needed beside "
                    f"{total - size} that are in use; raise NASDET_CACHE_BYTES"
                )
            (part / "promised").write_text(str(size))

    def _entries(self) -> list[tuple[float, str, int]]:
        """(last use, digest, bytes), the one used longest ago first."""
        found: list[tuple[float, str, int]] = []
        for digest in sorted({path.name for folder in (self._files, self._trees) for path in folder.iterdir()}):
            try:
                used = (self._locks / digest).stat().st_mtime
            except FileNotFoundError:
                used = 0.0
            taken = _size(self._files / digest) + _number(self._trees / digest / "bytes")
            found.append((used, digest, taken))
        return sorted(found)

    def _remove(self, digest: str) -> None:
        """While its lock is ours alone."""
        (self._files / digest).unlink(missing_ok=True)
        tree = self._trees / digest
        if tree.exists():
            gone = self._parts / secrets.token_hex(16)  # without a lock in it: whoever comes by clears what we do not
            os.rename(tree, gone)
            shutil.rmtree(gone, ignore_errors=True)
        (self._locks / digest).unlink(missing_ok=True)

    def _clear_stale_parts(self) -> None:
        for part in self._parts.iterdir():
            try:
                lock = open(part / "lock", "r+b")  # noqa: SIM115 - closed below
            except FileNotFoundError:
                shutil.rmtree(part, ignore_errors=True)
                continue
            with lock:
                if not is_taken(lock, ALONE):
                    continue
                shutil.rmtree(part, ignore_errors=True)

    @contextmanager
    def _counting(self, tick: Tick) -> Iterator[None]:
        """One process counts and makes room at a time."""
        with open_lock(self.folder / "counting") as lock:
            while not is_taken(lock, ALONE):
                time.sleep(LOOK_SECONDS)
                tick()
            yield


def _number(path: Path) -> int:
    try:
        return int(path.read_text() or "0")
    except FileNotFoundError:
        return 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _is_whole(tree: Path, tick: Tick) -> bool:
    """Whether each file of an unpacked archive is what it was."""
    with (tree / "listing").open(encoding="utf-8") as lines:
        for line in lines:
            digest, _, name = line.rstrip("\n").split(" ", 2)
            try:
                with (tree / "data" / name).open("rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError:
                return False
            if found != digest:
                return False
            tick()
    return True

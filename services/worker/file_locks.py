"""Locks between processes of one machine: a file each, let go of by the kernel when its holder dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

LOOK_SECONDS = 0.1  # between looks for a lock that another process has

Tick = Callable[[], object]
SHARED, ALONE = fcntl.LOCK_SH, fcntl.LOCK_EX


class NamedLocks:
    """A folder of locks by name. A lock's file may be removed by whoever holds it alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, name: str, kind: int, tick: Tick) -> BinaryIO:
        """Wait for it; close what is returned to let go."""
        while True:
            lock = self.try_take(name, kind)
            if lock is not None:
                return lock
            time.sleep(LOOK_SECONDS)
            tick()

    def try_take(self, name: str, kind: int) -> BinaryIO | None:
        """None when somebody else has it, or took its file away in this moment."""
        path = self._folder / name
        lock = open_lock(path)
        if is_taken(lock, kind):
            try:
                if os.path.samestat(os.fstat(lock.fileno()), os.stat(path)):
                    return lock
            except FileNotFoundError:
                pass  # it was removed between our opening and locking
        lock.close()
        return None


def open_lock(path: Path) -> BinaryIO:
    return open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "r+b", buffering=0)


def is_taken(lock: BinaryIO, kind: int) -> bool:
    """Whether it is ours now; does not wait."""
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def held(lock: BinaryIO) -> Iterator[None]:
    """Let go of it at the end of the block."""
    try:
        yield
    finally:
        lock.close()

"""Reading a file that a stranger made: where it ends, how much of it is taken at once, and why it is refused."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from nasdet_core.errors import CheckpointError

MAX_FILE_BYTES = 2 * 2**30  # the largest published checkpoint, with its optimizer, takes less than 0.5 GiB
MAX_PIECE_BYTES = 18 * 2**20  # of what is read at once; decoding text takes up to six times as much
MAX_LINE_BYTES = 4096


class Refused(Exception):
    """Why a file is not read, as the end of a sentence that begins with "it", e.g. "holds no tensors"."""


class BoundedStream:
    """A file as its readers see it: no read goes past the end, allocates more than is there, or takes too much at once.

    It has no `fileno`, so that torch's reader does not take it for a file on disk, where it would look for the tar
    archives of its first versions.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self.size = size

    def read(self, size: int = -1, /) -> bytes:
        left = max(0, self.size - self._file.tell())
        wanted = left if size < 0 else min(size, left)
        if wanted > MAX_PIECE_BYTES:
            raise Refused(
                f"holds a piece of {wanted:,} bytes within a pickle, where {MAX_PIECE_BYTES:,} are accepted; "
                "a file of torch.save or safetensors has no such limit"
            )
        return self._file.read(wanted)

    def readline(self) -> bytes:
        return self._file.readline(MAX_LINE_BYTES)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


@contextmanager
def open_foreign_file(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """A regular file and its size in bytes; pipes, devices and folders are refused without waiting for them."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Refused("is no regular file")
        if status.st_size == 0:
            raise Refused("is empty")
        if status.st_size > MAX_FILE_BYTES:
            raise Refused(f"has {status.st_size:,} bytes, where at most {MAX_FILE_BYTES:,} are accepted")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file, status.st_size
    finally:
        os.close(descriptor)


@contextmanager
def refusals_as_sentences(path: Path) -> Iterator[None]:
    """What is wrong with a file becomes a CheckpointError that names it."""
    try:
        yield
    except Refused as refusal:
        raise CheckpointError(
            f"{path.name}: a file of named weights was expected, but it {refusal}; nothing was loaded"
        ) from None

"""From an archive to a folder: what kind it is, and one pass over it."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path

from services.worker.unpack.tarball import unpack_tar
from services.worker.unpack.writer import Limits, TreeWriter, UnpackError
from services.worker.unpack.zipped import unpack_zip

_GZIP, _ZIP, _USTAR_AT, _USTAR = b"\x1f\x8b", b"PK", 257, b"ustar"


def unpack(
    archive: Path,
    folder: Path,
    listing: Path,
    *,
    limits: Limits,
    room: Callable[[int], None] = lambda _bytes: None,
    tick: Callable[[], object] = lambda: None,
) -> int:
    """Unpack into a new folder (mode 0700) and write its `listing`; returns the bytes of disk it takes.

    `room` is told how many bytes it will have, before they are written. Raises UnpackError; the folder may be half
    filled then, and is the caller's to remove.
    """
    folder.mkdir(mode=0o700)
    with archive.open("rb") as file, listing.open("x", encoding="utf-8") as lines:
        head = file.read(_USTAR_AT + len(_USTAR))
        size = file.seek(0, 2)
        file.seek(0)
        writer = TreeWriter(folder, lines, archive_bytes=size, limits=limits, room=room, tick=tick)
        if head[:2] == _ZIP:
            unpack_zip(file, writer, limits)
        elif head[:2] == _GZIP:
            _unpack_gzip(archive, writer)
        elif head[_USTAR_AT:] == _USTAR:
            unpack_tar(file, writer)
        else:
            raise UnpackError("the archive is none that is read here; pack the folder as tar, tar.gz or zip")
    return writer.disk_bytes


def _unpack_gzip(archive: Path, writer: TreeWriter) -> None:
    try:
        with gzip.open(archive, "rb") as stream:
            unpack_tar(stream, writer)  # type: ignore[arg-type]  # it reads as a binary file does
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UnpackError(f"the archive is damaged: it cannot be decompressed ({error}); pack and send it anew") from (
            error
        )

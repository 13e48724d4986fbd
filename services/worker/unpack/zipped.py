"""zip: ordinary files, stored or deflated. What its directory says is checked before that is read as a whole."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from collections.abc import Iterator
from typing import BinaryIO

from services.worker.unpack.writer import CHUNK, Limits, TreeWriter, UnpackError

LARGEST_DIRECTORY = 512 << 20  # bytes; it is read into memory
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_END = b"PK\x05\x06"
_END_64 = b"PK\x06\x06"
_END_64_AT = b"PK\x06\x07"


def unpack_zip(file: BinaryIO, writer: TreeWriter, limits: Limits) -> None:
    """Raises UnpackError at the first thing that is no ordinary file or folder."""
    entries, directory_bytes = _directory(file)
    if entries > limits.members or directory_bytes > LARGEST_DIRECTORY:
        raise UnpackError(
            f"the archive lists {entries} files in {directory_bytes} bytes, more than is unpacked here "
            f"({limits.members} files, {LARGEST_DIRECTORY} bytes); divide the dataset"
        )
    try:
        with zipfile.ZipFile(file) as archive:
            if not archive.infolist():
                raise UnpackError("the archive is empty; pack the folder with its files")
            for entry in archive.infolist():
                _unpack_entry(archive, entry, writer)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise UnpackError(
            f"the archive is damaged or of a kind that is not read here ({error}); pack it anew"
        ) from error


def _unpack_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, writer: TreeWriter) -> None:
    name = entry.orig_filename
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if entry.flag_bits & 0x1:
        raise UnpackError(f"the archive has {name!r} encrypted; pack it without a password")
    if entry.compress_type not in _METHODS:
        raise UnpackError(f"the archive has {name!r} in another compression than zip's own; pack it anew")
    if name.endswith("/"):
        if kind not in (0, stat.S_IFDIR) or entry.file_size:
            raise UnpackError(f"the archive has {name!r}, a folder with content; pack it anew")
        writer.make_folder(name)
        return
    if kind not in (0, stat.S_IFREG):
        what = "a link" if kind == stat.S_IFLNK else "a special file"
        raise UnpackError(
            f"the archive has {name!r}, {what}, but only ordinary files are unpacked; pack the files themselves"
        )
    writer.write_file(name, _content(archive, entry))


def _content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    with archive.open(entry) as stream:
        while chunk := stream.read(CHUNK):
            yield chunk


def _directory(file: BinaryIO) -> tuple[int, int]:
    """(entries, bytes) of the list of files, as the end of the archive gives them."""
    size = file.seek(0, os.SEEK_END)
    tail_at = max(0, size - (1 << 16) - 22)
    file.seek(tail_at)
    tail = file.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < 22:
        raise UnpackError("the archive has no list of its files at its end; pack and send it anew")
    entries, directory_bytes = struct.unpack_from("<HI", tail, at + 10)
    if entries == 0xFFFF or directory_bytes == 0xFFFFFFFF:
        entries, directory_bytes = _directory_64(file, tail_at + at)
    file.seek(0)
    return entries, directory_bytes


def _directory_64(file: BinaryIO, end_at: int) -> tuple[int, int]:
    """The same of an archive with more than 65,535 files or 4 GiB."""
    file.seek(max(0, end_at - 20))
    locator = file.read(20)
    if len(locator) == 20 and locator[:4] == _END_64_AT:
        file.seek(min(struct.unpack_from("<Q", locator, 8)[0], 1 << 62))
        record = file.read(56)
        if len(record) == 56 and record[:4] == _END_64:
            entries, directory_bytes = struct.unpack_from("<QQ", record, 32)
            return entries, directory_bytes
    raise UnpackError("the archive has no list of its files at its end; pack and send it anew")

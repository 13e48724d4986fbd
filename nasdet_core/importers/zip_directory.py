"""The directory of a zip file that a stranger made, checked before any of its entries is read.

The standard library reads a directory of any length into memory, and takes the first of several that a file may be
made to have. Here there is exactly one, at the very end, of bounded length, whose entries lie in front of it.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import BinaryIO

from nasdet_core.importers.foreign_file import Refused

MAX_DIRECTORY_BYTES = 2 * 2**20  # some 80 bytes per tensor
MAX_RATIO = 200  # of unpacked to packed bytes; weights hardly shrink
_SMALL_ENTRY = 64 * 2**10  # bytes, of which no ratio is asked: constants shrink to nothing
_PIECE = 2**20  # bytes that are read at once
_ENCRYPTED = 0x1
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, NotImplementedError, ValueError, struct.error, OverflowError, EOFError)

Entries = Mapping[str, zipfile.ZipInfo]  # by name

_END = struct.Struct("<4s4H2LH")  # signature, disk numbers, entries twice, size, offset, length of the comment
_LOCATOR = struct.Struct("<4sLQL")  # signature, disk, offset of the 64-bit end, disks
_END_64 = struct.Struct("<4sQ2H2L4Q")  # signature, size, versions, disks, entries twice, size, offset


def checked_entries(file: BinaryIO, size: int) -> Entries:
    """The entries by name; Refused when the directory, or what it says of an entry, is not that of honest weights."""
    _check_directory(file, size)
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except _ZIP_ERRORS as error:
        raise _damaged() from error
    for entry in entries:
        _check_entry(entry)
    if sum(entry.compress_size for entry in entries) > size:
        raise Refused("has zip entries that overlap")
    if len({entry.filename.casefold() for entry in entries}) < len(entries):
        raise Refused("has two zip entries of one name")
    return {entry.filename: entry for entry in entries}


def read_entry(file: BinaryIO, entry: zipfile.ZipInfo) -> bytes:
    """The bytes of a checked entry."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.read(entry)
    except _ZIP_ERRORS as error:
        raise _damaged() from error


def check_contents(file: BinaryIO, entries: Entries) -> None:
    """Read every entry through to its check sum: its own header may say otherwise than the directory."""
    try:
        with zipfile.ZipFile(file) as archive:
            for entry in entries.values():
                with archive.open(entry) as member:
                    while member.read(_PIECE):
                        pass
    except _ZIP_ERRORS as error:
        raise _damaged() from error


def _check_entry(entry: zipfile.ZipInfo) -> None:
    name = entry.filename[:80]
    if entry.filename != entry.orig_filename:  # torch's reader goes by what is written, the standard library's by that
        raise Refused(f"has the zip entry {name}, which has another name besides")
    if entry.flag_bits & _ENCRYPTED or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Refused(f"has the zip entry {name}, which is encrypted or packed in a way that weights never are")
    stored = entry.compress_type == zipfile.ZIP_STORED
    if stored and entry.file_size != entry.compress_size:
        raise _damaged()
    if entry.file_size > max(MAX_RATIO * entry.compress_size, _SMALL_ENTRY):
        raise Refused(
            f"has the zip entry {name}, whose {entry.compress_size:,} bytes would unpack to {entry.file_size:,}"
        )


def _check_directory(file: BinaryIO, size: int) -> None:
    """One end record, at the end of the file, and a directory of bounded length right in front of it."""
    end = size - _END.size
    signature, *_, length, offset, comment = _END.unpack(_bytes_at(file, end, _END.size))
    if signature != b"PK\x05\x06" or comment:
        raise Refused("is a zip file that is cut short, or has something behind its directory")
    locator = end - _LOCATOR.size
    signature, _, end_64, _ = _LOCATOR.unpack(_bytes_at(file, locator, _LOCATOR.size))
    if signature == b"PK\x06\x07":  # more than 4 GiB, or written as if it had
        end = locator - _END_64.size
        signature, *_, length, offset = _END_64.unpack(_bytes_at(file, end, _END_64.size))
        if signature != b"PK\x06\x06" or end_64 != end:
            raise _damaged()
    if length > MAX_DIRECTORY_BYTES:
        raise Refused(f"has a zip directory of {length:,} bytes, where {MAX_DIRECTORY_BYTES:,} are accepted")
    if offset + length != end:
        raise _damaged()


def _bytes_at(file: BinaryIO, offset: int, count: int) -> bytes:
    if offset < 0:
        raise _damaged()
    file.seek(offset, os.SEEK_SET)
    return file.read(count)


def _damaged() -> Refused:
    return Refused("is a damaged zip file")

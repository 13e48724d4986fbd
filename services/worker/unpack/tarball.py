"""tar and tar.gz, read from front to back: ordinary files and folders; links, devices and sparse files are refused.

Only the 512 bytes of a header are left to the standard library; what comes after what is decided here, so that an
archive that is broken in its middle is never taken for one that ends there.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from services.worker.unpack.writer import CHUNK, TreeWriter, UnpackError

BLOCK = 512
MOST_PADDING = 1 << 20  # bytes of zeros after the end; packers fill up to 10 KiB
LONGEST_HEADER = 1 << 20  # bytes of a long name or of extended attributes
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a file with holes",
}


def unpack_tar(stream: BinaryIO, writer: TreeWriter) -> None:
    """Raises UnpackError at the first thing that is no ordinary file or folder."""
    longer: dict[str, str] = {}
    while True:
        block = _read(stream, BLOCK)
        if not any(block):
            if longer:
                raise UnpackError("the archive ends after a long name, without the file that has it; send it anew")
            _read_end(stream)
            return
        try:
            member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.TarError as error:
            raise UnpackError(
                f"the archive is damaged: a header cannot be read ({error}); pack and send it anew"
            ) from (error)
        if member.size < 0:
            raise UnpackError(f"the archive says that {member.name!r} has {member.size} bytes; pack it anew")
        if member.type in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE):
            found = _attributes(_header_body(stream, member))
            _refuse_global(member, found)
            longer |= found
        elif member.type == tarfile.GNUTYPE_LONGNAME:
            longer["path"] = _header_body(stream, member).split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
        elif member.type == tarfile.GNUTYPE_LONGLINK:
            _header_body(stream, member)
        else:
            _unpack_member(stream, member, longer, writer)
            longer = {}


def _read_end(stream: BinaryIO) -> None:
    """Nothing but padding may follow the end mark. Read to its last byte: only there a checksum is compared."""
    padding = 0
    while chunk := stream.read(CHUNK):
        padding += len(chunk)
        if any(chunk) or padding > MOST_PADDING:
            raise UnpackError("the archive goes on after its end, e.g. with a second one; pack the folder in one piece")


def _unpack_member(stream: BinaryIO, member: tarfile.TarInfo, longer: dict[str, str], writer: TreeWriter) -> None:
    name = longer.get("path", member.name)
    size = _size(longer["size"], name) if "size" in longer else member.size
    if any(key.startswith("GNU.sparse") for key in longer):
        raise UnpackError(f"the archive has {name!r}, a file with holes, but only ordinary files are unpacked")
    if member.type == tarfile.DIRTYPE:
        writer.make_folder(name)
        for _ in _content(stream, size):
            pass  # tar allows a size here, which means nothing
    elif member.type in _FILES:
        writer.write_file(name, _content(stream, size))
    else:
        kind = _KINDS.get(member.type, f"an entry of type {member.type!r}")
        raise UnpackError(
            f"the archive has {name!r}, {kind}, but only ordinary files are unpacked; pack the files themselves"
        )


def _content(stream: BinaryIO, size: int) -> Iterator[bytes]:
    left = size
    while left:
        chunk = _read(stream, min(left, CHUNK))
        left -= len(chunk)
        yield chunk
    _read(stream, -size % BLOCK)


def _header_body(stream: BinaryIO, member: tarfile.TarInfo) -> bytes:
    if member.size > LONGEST_HEADER:
        raise UnpackError(f"the archive has a header of {member.size} bytes, more than {LONGEST_HEADER}; pack it anew")
    body = _read(stream, member.size)
    _read(stream, -member.size % BLOCK)
    return body


def _attributes(body: bytes) -> dict[str, str]:
    """Records "LENGTH KEY=VALUE\\n" of POSIX extended headers."""
    found: dict[str, str] = {}
    position = 0
    while position < len(body) and body[position] != 0:
        space = body.find(b" ", position, position + 20)
        length = body[position:space]
        if space < 0 or not length.isdigit() or not space + 1 < position + int(length) <= len(body):
            raise UnpackError("the archive is damaged: extended attributes cannot be read; pack and send it anew")
        record = body[space + 1 : position + int(length)]
        key, separator, value = record[:-1].partition(b"=")
        if not separator or record[-1:] != b"\n":
            raise UnpackError("the archive is damaged: extended attributes cannot be read; pack and send it anew")
        found[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        position += int(length)
    return found


def _refuse_global(member: tarfile.TarInfo, found: dict[str, str]) -> None:
    """Attributes for all files that follow: harmless ones (a commit, a comment) mean nothing here."""
    if member.type == tarfile.XGLTYPE:
        if {"path", "size", "linkpath"} & set(found):
            raise UnpackError("the archive gives all its files one name or size; pack it anew")
        found.clear()


def _size(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise UnpackError(f"the archive says that {name!r} has {text[:40]!r} bytes; pack it anew")
    return int(text)


def _read(stream: BinaryIO, size: int) -> bytes:
    """Exactly so many bytes: an archive ends with its end mark, and nowhere else."""
    data = stream.read(size)
    while len(data) < size:
        more = stream.read(size - len(data))
        if not more:
            raise UnpackError("the archive ends before its end mark: a part of it is missing; pack and send it anew")
        data += more
    return data

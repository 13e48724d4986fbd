"""Names of splits, and the text files that list pictures."""

from __future__ import annotations

import re
from pathlib import Path

from nasdet_core.errors import DatasetError

MAX_LIST_BYTES = 64 * 2**20
_KNOWN = {
    "valid": "val",
    "validation": "val",
    "minival": "val",
    "dev": "val",
    "testdev": "test",
    "training": "train",
    "testing": "test",
}


def split_name(word: str) -> str:
    """'train2017' -> 'train', 'minival2014' -> 'val', 'valid' -> 'val'; any other name stays as it is."""
    plain = re.sub(r"[\W_]*\d*$", "", word.lower()) or word
    return _KNOWN.get(plain, plain)


def listed_lines(path: Path, shown: str) -> list[str]:
    """Lines of a list of pictures, without the white space around them; an empty line is ''.

    UTF-8, with or without byte order mark. Bytes that are no UTF-8 come as Python shows them in file names, so
    that a list in another encoding still names the files beside it. Raises DatasetError when the file cannot be
    read, is too large, or is no text.
    """
    try:
        size = path.stat().st_size
        if size > MAX_LIST_BYTES:
            raise DatasetError(f"expected a list of pictures of at most {MAX_LIST_BYTES} bytes, {shown} has {size}")
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"the list {shown} cannot be read: {error.strerror or error}") from error
    if b"\0" in content:
        raise DatasetError(f"expected UTF-8 text with one picture a line in {shown}, found zero bytes; save it anew")
    return [line.strip() for line in content.decode("utf-8-sig", "surrogateescape").splitlines()]

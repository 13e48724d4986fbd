"""Reads small XML files that strangers wrote.

A document type declaration is refused before anything in it is read, so entities (the "billion laughs" and
external ones) cannot be declared at all. Size and number of elements are bounded.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from xml.parsers import expat

from nasdet_core.errors import DatasetError

MAX_BYTES = 16 * 2**20
MAX_ELEMENTS = 200_000


def parse_xml(path: Path, shown: str) -> ET.Element:
    """The root element of `path`; `shown` names the file in messages (file and line)."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DatasetError(f"{shown} has {size} bytes, expected an annotation file of at most {MAX_BYTES}")
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{shown} cannot be read: {error.strerror or error}") from error
    return _parse(content, shown)


def _parse(content: bytes, shown: str) -> ET.Element:
    parser = expat.ParserCreate()
    parser.buffer_text = True
    builder = ET.TreeBuilder()
    elements = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal elements
        elements += 1
        if elements > MAX_ELEMENTS:
            raise DatasetError(f"{shown} has more than {MAX_ELEMENTS} elements, too many for an annotation file")
        builder.start(tag, attributes)

    def refuse(*_declaration: object) -> None:
        raise DatasetError(
            f"{shown} line {parser.CurrentLineNumber}: a document type declaration is not accepted in an "
            "annotation file; remove the <!DOCTYPE ...> part"
        )

    def end(tag: str) -> None:
        builder.end(tag)

    def text(data: str) -> None:
        builder.data(data)

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        reason = expat.errors.messages.get(error.code, "not well-formed") if error.code else str(error)
        raise DatasetError(f"{shown} line {error.lineno}: broken XML ({reason})") from error
    except (LookupError, ValueError) as error:  # an encoding that does not exist, a NUL in the text
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{shown} line {parser.CurrentLineNumber}: broken XML ({error})") from error
    return builder.close()

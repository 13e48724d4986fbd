"""Reads small XML files that strangers wrote.

A document type declaration is refused before anything in it is read, so entities (the "billion laughs" and
external ones) cannot be declared at all. Size, number of elements and depth are bounded.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from xml.parsers import expat

from nasdet_core.errors import DatasetError

MAX_BYTES = 16 * 2**20
MAX_ELEMENTS = 200_000
MAX_DEPTH = 100
_SNIFFED_BYTES = 4096


@dataclass(frozen=True, eq=False, slots=True)
class XmlFile:
    """A parsed file, which still knows in which line each of its elements begins."""

    root: ET.Element
    lines: dict[ET.Element, int]  # from 1


class _FirstElement(Exception):
    """Ends the parse of `root_tag`: carries the tag out of the parser, before anything of its content is read."""


def parse_xml(path: Path, shown: str) -> XmlFile:
    """The elements of `path`; `shown` names the file in messages. Raises DatasetError (with file and line)."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DatasetError(f"{shown} has {size} bytes, expected an annotation file of at most {MAX_BYTES}")
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{shown} cannot be read: {error.strerror or error}") from error
    return _parse(content, shown)


def root_tag(path: Path) -> str | None:
    """The tag of the outermost element, from the beginning of the file; None where there is none."""

    def start(tag: str, _attributes: dict[str, str]) -> None:
        raise _FirstElement(tag)

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    try:
        with path.open("rb") as file:
            parser.Parse(file.read(_SNIFFED_BYTES), False)
    except _FirstElement as found:
        return str(found)
    except (OSError, expat.ExpatError, LookupError, ValueError):  # no XML at all, as far as can be seen
        return None
    return None


class _Builder:
    """Builds elements, notes their lines and stops at the bounds."""

    def __init__(self, parser: expat.XMLParserType, shown: str) -> None:
        self._parser, self._shown = parser, shown
        self._tree = ET.TreeBuilder()
        self._depth = 0
        self.lines: dict[ET.Element, int] = {}
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._tree.data
        parser.StartDoctypeDeclHandler = self._refuse
        parser.EntityDeclHandler = self._refuse

    def close(self) -> XmlFile:
        return XmlFile(self._tree.close(), self.lines)

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        line = self._parser.CurrentLineNumber
        if self._depth > MAX_DEPTH:
            raise DatasetError(f"{self._shown} line {line}: more than {MAX_DEPTH} elements inside one another")
        if len(self.lines) >= MAX_ELEMENTS:
            raise DatasetError(f"{self._shown} has more than {MAX_ELEMENTS} elements, too many for an annotation file")
        self.lines[self._tree.start(tag, attributes)] = line

    def _end(self, tag: str) -> None:
        self._depth -= 1
        self._tree.end(tag)

    def _refuse(self, *_declaration: object) -> None:
        raise DatasetError(
            f"{self._shown} line {self._parser.CurrentLineNumber}: a document type declaration is not accepted in "
            "an annotation file; remove the <!DOCTYPE ...> part"
        )


def _parse(content: bytes, shown: str) -> XmlFile:
    parser = expat.ParserCreate()
    parser.buffer_text = True
    builder = _Builder(parser, shown)
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

"""Reads the lists of a JSON file of any size entry by entry, and goes on after a broken one.

COCO's annotation files have hundreds of megabytes; decoded as a whole they take several times that in memory, and one
wrong character would cost all of it. Here a window of the text is decoded entry by entry with the standard library's
decoder; where an entry is no JSON, reading goes on with the next thing that begins like an entry.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from nasdet_core.errors import DatasetError

CHUNK_BYTES = 4 * 2**20
LONGEST_ENTRY = 16 * 2**20  # characters; an annotation of COCO has at most some hundred thousand
_AT_THE_END = 16  # an error this close to the end of the window may be a value that was cut
_OVERLAP = 4096  # a match may begin in one window and end in the next
_SPACE = re.compile(r"[ \t\r\n]*")
_FIRST_KEY = re.compile(r'\{\s*"((?:[^"\\]|\\.){1,100})"\s*:')
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))

_LONGEST_KEY = 64  # characters, with white space in front of its colon
_After = Literal["end", "key", "nothing"]  # the bracket was read; the next key comes without comma; the file ends

BytesRead = Callable[[int, int], None]
"""Called with (bytes read, bytes in total)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One element of one of the lists."""

    key: str  # name of the list
    number: int  # its index in the list, from 0; broken ones count
    line: int  # in the file, from 1
    value: Any


@dataclass(frozen=True, slots=True)
class Broken:
    """A place where the file is no JSON; `where` and `reason` make a sentence."""

    where: str  # 'line 7 column 3: annotations[5]'
    reason: str
    ends: bool = False  # nothing after it could be read


class JsonLists:
    """Iterates over the elements of the top-level lists `keys` of one JSON object.

    Yields Entry and Broken in the order of the file; afterwards `found` holds the lists that were there. Raises
    DatasetError when the file cannot be read, or does not begin as a JSON object at all.
    """

    def __init__(self, path: Path, shown: str, keys: Sequence[str], progress: BytesRead | None = None) -> None:
        self._path, self._shown, self._keys, self._progress = path, shown, tuple(keys), progress
        self.found: set[str] = set()

    def __iter__(self) -> Iterator[Entry | Broken]:
        try:
            with self._path.open("rb") as file:
                yield from self._read(_Window(file, self._path.stat().st_size, self._progress))
        except OSError as error:
            raise DatasetError(f"{self._shown} cannot be read: {error.strerror or error}") from error

    def _read(self, window: _Window) -> Iterator[Entry | Broken]:
        opening = window.next_char()
        if opening != "{":
            what = {"": "the file is empty", "[": "found a list"}.get(opening, f"found {opening!r}")
            raise DatasetError(f"{self._shown}: expected a JSON object with {', '.join(self._keys)}, but {what}")
        window.position += 1
        while True:
            try:
                key = _key_or_end(window)
                if key is None:
                    return
                if key in self._keys and window.next_char() == "[":
                    self.found.add(key)
                    after = yield from self._elements(window, key)
                    if after == "nothing":
                        return
                    if after == "key":
                        continue
                else:
                    window.value()
                if not _comma_or_end(window, "}"):
                    return
            except _SyntaxError as error:
                going_on = self._next_list(window)
                yield Broken(error.where, error.reason, ends=not going_on)
                if not going_on:
                    return

    def _elements(self, window: _Window, key: str) -> Generator[Entry | Broken, None, _After]:
        """Every element; returns what comes behind this list."""
        window.position += 1
        number, first_key = 0, None
        if window.next_char() == "]":
            window.position += 1
            return "end"
        while True:
            try:
                char = window.next_char()
                if char == "]":
                    raise window.error("a comma before the end of the list")
                if char == '"' and self._list_begins(window):
                    raise window.error("the list is not closed")
                if first_key is None:
                    match = _FIRST_KEY.match(window.text, window.position)
                    first_key = match[1] if match else None
                line = window.line
                value = window.value()
                yield Entry(key, number, line, value)
                number += 1
                if not _comma_or_end(window, "]"):
                    return "end"
            except _SyntaxError as error:
                resumed = self._next_element(window, first_key)
                yield Broken(f"{error.where}: {key}[{number}]", error.reason, ends=resumed == "nothing")
                number += error.in_value
                if resumed != "element":
                    return resumed

    def _list_begins(self, window: _Window) -> bool:
        """Whether the text here is the key of one of the lists, where an element was expected."""
        window.look_ahead(_LONGEST_KEY)
        names = "|".join(map(re.escape, self._keys))
        return re.compile(rf'"(?:{names})"\s*:').match(window.text, window.position) is not None

    def _next_element(self, window: _Window, first_key: str | None) -> _After | Literal["element"]:
        """Move to the next 'element' of the list, behind its 'end', to the 'key' of another list, or to 'nothing'."""
        begins = re.escape(f'"{first_key}"') if first_key is not None else r'"[^"\\]{1,100}"'
        names = "|".join(map(re.escape, self._keys))
        pattern = re.compile(
            rf'(?P<element>\{{\s*{begins}\s*:)|(?P<end>\])\s*(?:,\s*"(?:{names}|info|licenses)"\s*:|\}}\s*\Z)|'
            rf'(?P<key>"(?:{names})"\s*:\s*\[)'
        )
        match = window.search(pattern)
        if match is None:
            return "nothing"
        if match["element"] is not None:
            window.move_to(match.start("element"))
            return "element"
        if match["key"] is not None:
            window.move_to(match.start("key"))
            return "key"
        window.move_to(match.end("end"))
        return "end"

    def _next_list(self, window: _Window) -> bool:
        """Move to the next of the wanted lists, before its key."""
        names = "|".join(map(re.escape, self._keys))
        match = window.search(re.compile(rf'(?P<key>"(?:{names})")\s*:\s*\['))
        if match is None:
            return False
        window.move_to(match.start("key"))
        return True


class _SyntaxError(Exception):
    """The text at this place is no JSON."""

    def __init__(self, where: str, reason: str, *, in_value: bool) -> None:
        super().__init__(where, reason)
        self.where, self.reason, self.in_value = where, reason, in_value


class _Window:
    """The part of the file that is being decoded, and where in the file it lies."""

    def __init__(self, file: BinaryIO, size: int, progress: BytesRead | None) -> None:
        self._file, self._size, self._progress = file, size, progress
        # Undecodable bytes become surrogates, as in the names of files: a name in another encoding is still found.
        self._decoder: codecs.IncrementalDecoder | None = None
        self._json = json.JSONDecoder()
        self._read = 0
        self.text = ""
        self.position = 0
        self.line = 1
        self._column = 1  # of `position`
        self._counted = 0  # up to here line and column are known
        self.at_end = False
        self._resume_at = 0  # where a search for the next good place begins

    def next_char(self) -> str:
        """The next character that is no white space; '' at the end of the file. Moves there."""
        while True:
            match = _SPACE.match(self.text, self.position)
            self.position = match.end() if match else self.position
            if self.position < len(self.text):
                self._count()
                return self.text[self.position]
            if not self._fill():
                self._count()
                return ""

    def look_ahead(self, characters: int) -> None:
        """Have that many characters in the window, where the file has them."""
        while len(self.text) - self.position < characters and self._fill():
            pass

    def value(self) -> Any:
        """Decode the value here and move behind it."""
        while True:
            try:
                value, end = self._json.raw_decode(self.text, self.position)
            except json.JSONDecodeError as error:
                cut = error.pos >= len(self.text) - _AT_THE_END or error.msg.startswith("Unterminated string")
                if cut and len(self.text) - self.position < LONGEST_ENTRY and self._fill():
                    continue
                ends = self.at_end and error.pos >= len(self.text)
                raise self.error("the file ends in the middle of it" if ends else error.msg, error.pos) from None
            except RecursionError:
                raise self.error("nested too deeply", self.position + 1) from None
            except ValueError as error:  # a number of thousands of digits
                raise self.error(str(error).split(";")[0], self.position + 1) from None
            if end == len(self.text) and self._fill():  # a number may go on
                continue
            self.position = end
            return value

    def error(self, reason: str, at: int | None = None) -> _SyntaxError:
        """The error to raise: `at` lies in the value that begins here; without it, something else was expected here."""
        place = self.position if at is None else min(at, len(self.text))
        self._resume_at = max(0, place - 1) if at is None else max(self.position + 1, place - 1)
        self._count()
        start = self.text.rfind("\n", self.position, place)
        line = self.line + self.text.count("\n", self.position, place)
        column = self._column + place - self.position if start < 0 else place - start
        return _SyntaxError(f"line {line} column {column}", reason, in_value=at is not None)

    def search(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """The next match behind the last error, wherever in the file; None when there is none."""
        start = self._resume_at
        while True:
            match = pattern.search(self.text, start)
            if match is not None and (match.end() < len(self.text) or self.at_end):
                return match
            self.move_to(max(self.position, min(max(start, len(self.text) - _OVERLAP), len(self.text))))
            if not self._fill():
                return pattern.search(self.text, self.position)
            start = self.position

    def move_to(self, position: int) -> None:
        self.position = position
        self._count()

    def _count(self) -> None:
        """Bring line and column up to `position`."""
        newlines = self.text.count("\n", self._counted, self.position)
        if newlines:
            self.line += newlines
            self._column = self.position - self.text.rfind("\n", self._counted, self.position)
        else:
            self._column += self.position - self._counted
        self._counted = self.position

    def _fill(self) -> bool:
        """Drop what is behind, read the next chunk; False at the end of the file."""
        if self.at_end:
            return False
        self._count()
        # Twice as much each time an entry does not fit, so that a long one is not decoded again and again.
        data = self._file.read(max(CHUNK_BYTES, len(self.text) - self.position))
        if self._decoder is None:
            name = next((name for bom, name in _BOMS if data.startswith(bom)), "utf-8")
            self._decoder = codecs.getincrementaldecoder(name)("replace" if name == "utf-16" else "surrogateescape")
        self.at_end = not data
        self.text = self.text[self.position :] + self._decoder.decode(data, final=self.at_end)
        self.position = self._counted = 0
        self._read += len(data)
        if self._progress is not None:
            self._progress(min(self._read, self._size), self._size)
        return bool(data)


def _key_or_end(window: _Window) -> str | None:
    """The key before the next value, moving behind its colon; None at the end of the object."""
    char = window.next_char()
    if char == "}":
        return None
    if char != '"':
        raise window.error("the file ends here" if char == "" else "expected a key in double quotes")
    key = window.value()
    if window.next_char() != ":":
        raise window.error("expected ':' behind a key")
    window.position += 1
    window.next_char()
    return str(key)


def _comma_or_end(window: _Window, closing: str) -> bool:
    """Move behind the comma (True) or the closing bracket (False)."""
    char = window.next_char()
    if char not in (",", closing) or char == "":
        raise window.error("the file ends here" if char == "" else f"expected ',' or '{closing}'")
    window.position += 1
    return char == ","

"""One XML file of a Pascal VOC dataset."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from nasdet_core.data.defects import DefectLog
from nasdet_core.data.readers.safe_xml import parse_xml
from nasdet_core.errors import DatasetError

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_SHOWN_LENGTH = 80  # characters of a value that a sentence repeats


@dataclass(frozen=True, slots=True)
class VocObject:
    """One <object> as written."""

    name: str
    box_xyxy: tuple[float, float, float, float]
    difficult: bool
    truncated: bool
    line: int  # from 1
    number: int  # from 1, among the objects of its file


@dataclass(frozen=True, slots=True)
class VocPicture:
    """What one file says of its picture."""

    size: tuple[int, int] | None  # (width, height); None where missing, zero or no number
    objects: tuple[VocObject, ...]
    broken_objects: int  # that are left out
    filename: str
    folder: str
    path: str


def read_voc_file(path: Path, shown: str, log: DefectLog) -> VocPicture:
    """A broken object is left out and becomes a defect; a broken file raises DatasetError."""
    file = parse_xml(path, shown)
    if file.root.tag != "annotation":
        raise DatasetError(f"{shown}: expected <annotation> at the top, found <{file.root.tag[:_SHOWN_LENGTH]}>")
    elements = file.root.findall("object")
    objects = [
        item
        for number, element in enumerate(elements, start=1)
        if (item := _object(element, shown, file.lines[element], number, log)) is not None
    ]
    return VocPicture(
        size=_size(file.root),
        objects=tuple(objects),
        broken_objects=len(elements) - len(objects),
        filename=_text(file.root, "filename"),
        folder=_text(file.root, "folder"),
        path=_text(file.root, "path"),
    )


def object_place(shown: str, line: int, number: int, name: str) -> str:
    """'Annotations/a.xml line 12: object 3 (dog)': how every sentence about an object begins."""
    return f"{shown} line {line}: object {number} ({name[:_SHOWN_LENGTH]})"


def _object(element: ET.Element, shown: str, line: int, number: int, log: DefectLog) -> VocObject | None:
    name = _text(element, "name")
    if not name:
        log.add("broken_box", f"{shown} line {line}: object {number} has no <name>")
        return None
    box = element.find("bndbox")
    values = [_text(box, key) for key in _CORNERS] if box is not None else []
    try:
        left, top, right, bottom = (_number(value) for value in values)
    except ValueError:
        found = ", ".join(value[:_SHOWN_LENGTH] or "nothing" for value in values) or "no <bndbox>"
        log.add(
            "broken_box",
            f"{object_place(shown, line, number, name)}: expected numbers in <bndbox> {', '.join(_CORNERS)}, "
            f"found {found}",
        )
        return None
    return VocObject(
        name, (left, top, right, bottom), _flag(element, "difficult"), _flag(element, "truncated"), line, number
    )


def _size(root: ET.Element) -> tuple[int, int] | None:
    texts = [_text(root, f"size/{key}") for key in ("width", "height")]
    if not all(text.isascii() and text.isdigit() and len(text) < 10 for text in texts):
        return None
    width, height = (int(text) for text in texts)
    return (width, height) if width and height else None


def _text(element: ET.Element, path: str) -> str:
    return element.findtext(path, default="").strip()


def _number(text: str) -> float:
    """As `float`, without Python's own digit grouping: '1_0' is no number in any other language."""
    if "_" in text:
        raise ValueError(text)
    return float(text)


def _flag(element: ET.Element, key: str) -> bool:
    return _text(element, key).lower() in ("1", "true", "yes")

"""Label files of a YOLO dataset: `class cx cy w h` a line, as fractions of the picture's width and height.

A line with more numbers is a polygon (`class x1 y1 x2 y2 ...`), of which the enclosing box is taken. In a pose
dataset the numbers after the box are key points, which are not used.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from nasdet_core.data.defects import DefectLog
from nasdet_core.data.readers.raw import Ints, RawObjects
from nasdet_core.errors import DatasetError

MAX_BYTES = 16 * 2**20
TOLERANCE = 0.01  # by which a fraction may leave 0..1: rounding, and boxes over the border
_SHOWN_LENGTH = 60  # bytes of a line that a sentence repeats
_SMALLEST_POLYGON = 7  # the class and three points

_Box = tuple[float, float, float, float]


class LabelColumns:
    """Gathers the objects of a split; a line that cannot be used becomes a defect."""

    def __init__(self, class_ids: Sequence[int], keypoint_values: int, log: DefectLog) -> None:
        self._label_of: Mapping[int, int] = {identity: label for label, identity in enumerate(class_ids)}
        self._label_of_token = {str(identity).encode(): label for identity, label in self._label_of.items()}
        self._values_with_keypoints = 5 + keypoint_values
        self._log = log
        self._picture, self._labels, self._lines = array("q"), array("q"), array("q")
        self._boxes = array("d")
        self.with_broken_objects: set[int] = set()
        self.polygons = 0
        self.first_polygon = ""  # where it is

    def read(self, path: Path, shown: str, picture: int) -> None:
        """Add the objects of the picture with that number; DatasetError when the file is no text or too large."""
        for number, line in enumerate(_content(path, shown).splitlines(), start=1):
            values = line.split()
            if not values:
                continue
            try:
                box = self._box(line, values, shown, number)
                label = self._label_of_token.get(values[0])
                if label is None:
                    label = self._label(values[0])
            except _UnusableLineError as error:
                self.with_broken_objects.add(picture)
                self._log.add(error.kind, f"{shown} line {number}: {error}")
                continue
            self._picture.append(picture)
            self._labels.append(label)
            self._lines.append(number)
            self._boxes.extend(box)

    def columns(self) -> tuple[RawObjects, Ints]:
        """The objects, and the line of each in its label file."""
        count = len(self._picture)
        none = np.zeros(count, dtype=bool)
        objects = RawObjects(
            picture=np.array(self._picture, dtype=np.int64),
            boxes=np.array(self._boxes, dtype=np.float64).reshape(-1, 4),
            labels=np.array(self._labels, dtype=np.int64),
            crowd=none,
            difficult=none,
            truncated=none,
            area=np.full(count, np.nan),
        )
        return objects, np.array(self._lines, dtype=np.int64)

    def _box(self, line: bytes, values: list[bytes], shown: str, number: int) -> _Box:
        """(cx, cy, w, h) in fractions."""
        count = len(values)
        if count == 5 or count == self._values_with_keypoints:
            numbers = _numbers(line, values[1:5])
            _check_range(numbers)
            return numbers[0], numbers[1], numbers[2], numbers[3]
        if count < _SMALLEST_POLYGON or count % 2 == 0:
            raise _UnusableLineError(
                "expected `class cx cy w h`, or a polygon of at least three points, found "
                f"{count} value{'s' if count > 1 else ''}: {_shown(line)}"
            )
        numbers = _numbers(line, values[1:])
        _check_range(numbers)
        self.polygons += 1
        self.first_polygon = self.first_polygon or f"{shown} line {number}"
        return _around(numbers)

    def _label(self, token: bytes) -> int:
        """For what is not written like an id in the yaml file: '0.0', '007', or wrong."""
        try:
            value = float(token)
        except ValueError:
            value = math.nan
        if b"_" in token or not value.is_integer():
            raise _UnusableLineError(f"expected the number of a class first, found {_shown(token)}")
        if value not in self._label_of:
            raise _UnusableLineError(
                f"class {value:g} is not one of the {len(self._label_of)} classes under `names`", "unknown_class"
            )
        return self._label_of[int(value)]


class _UnusableLineError(DatasetError):
    def __init__(self, message: str, kind: str = "broken_box") -> None:
        super().__init__(message)
        self.kind = kind


def _content(path: Path, shown: str) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DatasetError(f"{shown} cannot be read: {error.strerror or error}") from error
    if len(content) > MAX_BYTES:
        raise DatasetError(f"{shown} has more than {MAX_BYTES} bytes, too many for the labels of one picture")
    if b"\0" in content:
        raise DatasetError(f"{shown} is no text, it holds zero bytes; expected lines of `class cx cy w h`")
    return content.removeprefix(b"\xef\xbb\xbf")


def _numbers(line: bytes, values: list[bytes]) -> list[float]:
    try:
        if b"_" in line:  # Python's own digit grouping, no number in a label file
            raise ValueError
        return [float(value) for value in values]
    except ValueError:
        raise _UnusableLineError(f"expected numbers after the class, found {_shown(line)}") from None


def _check_range(numbers: list[float]) -> None:
    lowest, highest = min(numbers), max(numbers)
    if lowest >= -TOLERANCE and highest <= 1 + TOLERANCE:
        return
    if not math.isfinite(sum(numbers)):  # told with those of the other formats
        return
    odd = f"{highest:g}" if highest > 1 + TOLERANCE else f"{lowest:g}"
    reason = "pixel coordinates seem to be written where fractions are expected" if highest >= 2 else "it is left out"
    raise _UnusableLineError(f"expected fractions of the picture from 0 to 1, found {odd}; {reason}")


def _around(numbers: list[float]) -> _Box:
    if not math.isfinite(sum(numbers)):  # min and max would pass over it
        return math.nan, math.nan, math.nan, math.nan
    x, y = numbers[0::2], numbers[1::2]
    left, right, top, bottom = min(x), max(x), min(y), max(y)
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


def _shown(text: bytes) -> str:
    end = "…" if len(text) > _SHOWN_LENGTH else ""
    return repr(text[:_SHOWN_LENGTH].decode("utf-8", "replace") + end)

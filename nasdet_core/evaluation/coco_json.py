"""What ground truth and results files of a COCO evaluation have in common: reading JSON, ids, boxes, errors.

Boxes, areas and scores are kept as the JSON holds them, without a conversion, so that pycocotools sees the same
numbers as when it reads the files itself. What pycocotools would crash on or silently mix up is an error of one
sentence.
"""

from __future__ import annotations

import json
import math
import reprlib
from pathlib import Path
from typing import Any

from nasdet_core.errors import NasDetError, printable

Json = dict[str, Any]
ImageId = int | str
"""COCO writes integers; text works in pycocotools as well, as long as both files use it."""

FARTHEST_PIXEL = 10**9  # from the origin of a picture; areas of boxes up to it do not overflow
_LARGEST_ID = 2**63 - 1  # pycocotools sorts ids as NumPy integers of 64 bits
_LONGEST_QUOTE = 80  # characters of a value that a sentence repeats


class CocoFileError(NasDetError, ValueError):
    """A ground truth or results file that cannot be scored."""


class BrokenFileError(CocoFileError):
    """Not readable, no JSON, or not the form of a COCO file."""


class SwappedFilesError(CocoFileError):
    """Detections where the ground truth was expected, or the other way round."""


class DuplicateIdError(CocoFileError):
    """Two entries of the ground truth share an id, so pycocotools would take one for the other."""


class ScoreError(CocoFileError):
    """A detection without a usable score."""


def read_json(path: Path) -> object:
    """The file's content. BrokenFileError names file, line and column of what is no JSON."""
    shown = printable(str(path))
    try:
        return json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        raise BrokenFileError(f"{shown} line {error.lineno} column {error.colno}: broken JSON ({error.msg})") from error
    except UnicodeDecodeError as error:
        raise BrokenFileError(f"{shown}: broken JSON (no UTF-8 text: {error.reason} at byte {error.start})") from error
    except RecursionError as error:
        raise BrokenFileError(f"{shown}: broken JSON (nested too deeply for a COCO file)") from error
    except ValueError as error:  # Python refuses integers of more than 4300 digits
        raise BrokenFileError(f"{shown}: broken JSON (a number of too many digits)") from error
    except OSError as error:
        raise BrokenFileError(f"{shown} cannot be read: {error.strerror or error}") from error


def box_of(entry: Json, where: str) -> list[float]:
    """The (x, y, width, height) of an annotation or a detection, as written."""
    box = entry.get("bbox")
    if box is None and "segmentation" in entry:
        raise BrokenFileError(f"{where} has a 'segmentation' but no 'bbox'; boxes are scored here, so write them too")
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        raise BrokenFileError(
            f"{where} needs a 'bbox' of four finite numbers (x, y, width, height), found {quote(box)}"
        )
    if max(map(abs, box)) > FARTHEST_PIXEL:
        raise BrokenFileError(f"{where}: 'bbox' lies beyond {FARTHEST_PIXEL:,} pixels: {quote(box)}")
    return box


def flag_of(entry: Json, key: str, where: str) -> int:
    """0 or 1; 0 when the key is missing."""
    value = entry.get(key)
    if value is None:
        return 0
    if value not in (0, 1):  # False and True are equal to them
        raise BrokenFileError(f"{where}: {key!r} must be 0 or 1, found {quote(value)}")
    return int(value)


def integer_id(value: object) -> int | None:
    """An id as an integer (42.0, as tables export it, is 42), or None when it is none."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST_ID:
        return value
    return None


def image_id(value: object) -> ImageId | None:
    """An id of a picture, or None when it is none."""
    return value if isinstance(value, str) and value else integer_id(value)


def id_needed(key: str, value: object) -> str:
    """What was expected and came, for a sentence, where `integer_id` or `image_id` found no id."""
    large = isinstance(value, int) and not -_LARGEST_ID <= value <= _LARGEST_ID
    return f"an integer {key!r}, found {quote(value)}" + (", which is too large for 64 bits" if large else "")


def is_number(value: object) -> bool:
    """Whether it is a finite number (JSON as Python reads it has NaN and Infinity)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) < 2**1000  # NumPy makes a double of it


def quote(value: object) -> str:
    """A value for a sentence: short, in one line, however large or deeply nested it is."""
    text = printable(reprlib.repr(value))
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}..."

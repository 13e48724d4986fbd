"""What an annotation file says, before anybody has looked at the pictures.

Every format is read into this form; `assemble` makes records of it once the true sizes of the pictures are known.
Objects are kept in columns, since a COCO-size file has close to a million of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from nasdet_core.data.in_memory import Defect

BoxForm = Literal["xyxy", "xywh", "cxcywh_fraction"]
"""How boxes are written: VOC's corners, COCO's corner and size (both pixels), YOLO's centre and size (fractions)."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class RawPicture:
    """One picture that an annotation file names and that is there."""

    file: str  # path below the dataset's root, with forward slashes, as it is on disk
    size: tuple[int, int] | None  # (width, height) as the annotation says; None where the format or the file has none
    source: str  # the file that says so, below the root, for sentences
    no_size: bool = False  # the annotation should have a size and has none (missing, zero)


@dataclass(frozen=True, eq=False, slots=True)
class RawObjects:
    """N objects as written, in the order of the file; every array has N rows."""

    picture: Ints  # index into RawSplit.pictures
    boxes: Floats  # [N, 4] in the dataset's BoxForm
    labels: Ints  # class index from 0
    crowd: Bools
    difficult: Bools
    truncated: Bools
    area: Floats  # pixels, as the file says (COCO: of the mask); NaN where it says nothing

    def __len__(self) -> int:
        return len(self.picture)


@dataclass(frozen=True, eq=False, slots=True)
class RawSplit:
    """One split as the files define it."""

    name: str  # 'train', 'val', 'test', 'search' or another name such as 'all'
    pictures: tuple[RawPicture, ...]  # in a fixed order: COCO by image id, others by name
    objects: RawObjects
    place: Callable[[int], str]  # row of an object -> how a sentence about it begins (file and line or number)
    with_broken_objects: frozenset[int] = frozenset()  # pictures that have objects which could not be read


@dataclass(frozen=True, eq=False, slots=True)
class RawDataset:
    """A dataset as its annotation files say."""

    root: Path
    source_format: str  # 'voc', 'coco' or 'yolo'
    layout: str  # one line for people: where annotations and pictures were found
    box_form: BoxForm
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]  # the file format's own id of each class, in the order of class_names
    splits: tuple[RawSplit, ...]
    sources: tuple[str, ...]  # annotation and split files that were read, below root
    left_out: tuple[str, ...] = ()  # pictures that are there but whose annotation cannot be used
    defects: tuple[Defect, ...] = ()
    notes: dict[str, Any] | None = None  # facts of the format for the report, e.g. foreign <path> elements


class ObjectColumns:
    """Gathers objects row by row into the columns of RawObjects."""

    def __init__(self) -> None:
        self._picture: list[int] = []
        self._boxes: list[tuple[float, float, float, float]] = []
        self._labels: list[int] = []
        self._flags: list[tuple[bool, bool, bool]] = []
        self._area: list[float] = []

    def __len__(self) -> int:
        return len(self._picture)

    def add(
        self,
        *,
        picture: int,
        box: tuple[float, float, float, float],
        label: int,
        crowd: bool = False,
        difficult: bool = False,
        truncated: bool = False,
        area: float | None = None,
    ) -> None:
        self._picture.append(picture)
        self._boxes.append(box)
        self._labels.append(label)
        self._flags.append((crowd, difficult, truncated))
        self._area.append(float("nan") if area is None else area)

    def columns(self) -> RawObjects:
        flags = np.array(self._flags, dtype=bool).reshape(len(self), 3)
        return RawObjects(
            picture=np.array(self._picture, dtype=np.int64),
            boxes=np.array(self._boxes, dtype=np.float64).reshape(-1, 4),
            labels=np.array(self._labels, dtype=np.int64),
            crowd=flags[:, 0],
            difficult=flags[:, 1],
            truncated=flags[:, 2],
            area=np.array(self._area, dtype=np.float64),
        )

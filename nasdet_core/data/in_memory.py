"""One in-memory form for every dataset format. Needs numpy only.

Box convention: `boxes_xyxy` are pixel coordinates (left, top, right, bottom) in the upright original
picture, width = right - left. Pascal VOC's numbers are kept exactly as written: its 1-based corners are
*not* shifted by one and nothing is added to width or height, so a box may sit one pixel to the right of
where the drawing tool showed it, for training, search and report alike. COCO's (x, y, width, height)
becomes (x, y, x + width, y + height).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Progress = Callable[[int, int], None]
"""Called with (files done, files in total)."""


def _frozen(values: npt.ArrayLike, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    array = np.array(values, dtype=dtype).reshape(shape)
    array.setflags(write=False)
    return array


@dataclass(frozen=True, eq=False)
class Annotation:
    """The objects of one picture; every array has one row per object and is read-only.

    Crowd regions (COCO `iscrowd`) and difficult objects (VOC) never reach training. In evaluation both are
    *ignored*: they count neither as found nor as missed. A crowd region follows COCO's own rule (any number
    of detections may lie in it); a difficult object is matched like any other object and then ignored.
    """

    boxes_xyxy: npt.NDArray[np.float32]  # [N, 4] pixels of the original picture
    labels: npt.NDArray[np.int64]  # [N] class index from 0
    crowd: npt.NDArray[np.bool_]  # [N]
    difficult: npt.NDArray[np.bool_]  # [N]
    area: npt.NDArray[np.float64]  # [N] COCO: area of the mask as the file says; VOC: width * height
    boxes_xywh: npt.NDArray[np.float64] | None = None  # [N, 4] as written; made from boxes_xyxy when not given

    def __post_init__(self) -> None:
        count = len(self.labels)
        xyxy = _frozen(self.boxes_xyxy, np.float32, (count, 4))
        xywh = self.boxes_xywh
        if xywh is None:
            wide = xyxy.astype(np.float64)
            xywh = np.concatenate([wide[:, :2], wide[:, 2:] - wide[:, :2]], axis=1)
        for name, values, dtype, shape in (
            ("boxes_xyxy", xyxy, np.float32, (count, 4)),
            ("labels", self.labels, np.int64, (count,)),
            ("crowd", self.crowd, np.bool_, (count,)),
            ("difficult", self.difficult, np.bool_, (count,)),
            ("area", self.area, np.float64, (count,)),
            ("boxes_xywh", xywh, np.float64, (count, 4)),
        ):
            object.__setattr__(self, name, _frozen(values, dtype, shape))

    @property
    def exact_xywh(self) -> npt.NDArray[np.float64]:
        """[N, 4] boxes as (x, y, width, height) without the rounding of float32, for evaluation."""
        if self.boxes_xywh is None:  # __post_init__ fills it; said again for the type checker
            raise TypeError("boxes_xywh is filled on construction")
        return self.boxes_xywh

    @property
    def trainable(self) -> npt.NDArray[np.bool_]:
        """[N] objects that training may use: neither crowd nor difficult."""
        usable: npt.NDArray[np.bool_] = ~(self.crowd | self.difficult)
        return usable

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False, slots=True)
class ImageRecord:
    """One picture with its objects; width and height are those of the upright picture."""

    file: str  # path below the dataset's root, with forward slashes
    width: int
    height: int
    annotation: Annotation


Effect = Literal["left out", "repaired", "noted"]
"""What became of the thing that has a defect: not used; used after a repair; used as it is."""


@dataclass(frozen=True, slots=True)
class Defect:
    """Something odd or wrong with a dataset, said as one sentence about the file."""

    kind: str
    message: str
    count: int = 1
    effect: Effect = "left out"


@dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset as read: pictures by split, classes in a fixed order, what was wrong.

    `splits` holds the names found ('train', 'val', 'test', or another name such as 'all'); within a split
    the pictures keep a fixed order (COCO: by image id, VOC: by name).
    """

    root: Path
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]  # the file format's own id of each class, in the order of class_names
    splits: Mapping[str, tuple[ImageRecord, ...]]
    source_format: str  # 'voc' or 'coco'
    defects: tuple[Defect, ...] = ()
    sources: tuple[str, ...] = field(default=())  # annotation and split files that were read, below root

    def by_file(self) -> dict[str, ImageRecord]:
        return {record.file: record for records in self.splits.values() for record in records}

"""Pascal VOC's mean average precision (Everingham et al. 2010, "The Pascal Visual Object Classes (VOC) Challenge",
section 4.2), as the development kit's VOCevaldet.m computes it.

* Corners are pixels that belong to the box: width = x2 - x1 + 1.
* A detection is compared with the object that it overlaps most, difficult ones included. It is a true positive when
  that overlap is at least the threshold (IoU >= 0.5) and no detection with a higher score has found the object; later
  ones are false positives. Where the object is difficult the detection counts neither way, and difficult objects are
  none to be found.
* AP is the mean of the best precision at recall >= 0, 0.1, ..., 1 (VOC2007, "11 points", 0:0.1:1 as MATLAB rounds it)
  or the area under the precision made monotone (VOC2010 and later). Both are given.

COCO's crowd regions are treated as difficult objects. One thing is settled that the kit leaves undefined: a ranking
of which nothing counts has precision 0, not NaN. Detections with the same score keep the order of their images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from nasdet_core.data.in_memory import Annotation
from nasdet_core.errors import DatasetError, SettingError
from nasdet_core.evaluation.coco_map import Detections, checked_detections

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]
_Bools = npt.NDArray[np.bool_]

MIN_OVERLAP = 0.5

# MATLAB's 0:0.1:1 counts from both ends towards the middle, which puts 3 * 0.1 a rounding above 0.3.
RECALL_POINTS = tuple([0.1 * n for n in range(6)] + [1 - 0.1 * n for n in range(4, -1, -1)])


@dataclass(frozen=True, eq=False)
class VocObjects:
    """The objects of one picture."""

    boxes_xyxy: _Floats  # [N, 4] pixels of the original picture
    labels: _Ints  # [N] class index from 0
    difficult: _Bools  # [N]

    def __post_init__(self) -> None:
        object.__setattr__(self, "boxes_xyxy", np.asarray(self.boxes_xyxy, dtype=np.float64).reshape(-1, 4))
        object.__setattr__(self, "labels", np.asarray(self.labels, dtype=np.int64))
        object.__setattr__(self, "difficult", np.asarray(self.difficult, dtype=np.bool_))
        counts = {len(self.boxes_xyxy), len(self.labels), len(self.difficult)}
        if len(counts) > 1:
            raise DatasetError(
                f"expected as many boxes as labels and difficult flags, found {len(self.boxes_xyxy)} boxes, "
                f"{len(self.labels)} labels and {len(self.difficult)} flags"
            )

    @classmethod
    def of(cls, annotation: Annotation) -> VocObjects:
        """Corners without the rounding of float32; crowd regions become difficult."""
        xywh = annotation.exact_xywh
        boxes = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
        return cls(boxes, annotation.labels, annotation.difficult | annotation.crowd)


@dataclass(frozen=True, slots=True)
class VocClassScore:
    """AP of one class in 0..1; None when it has no object that is not difficult."""

    ap_11_point: float | None
    ap_area: float | None
    objects: int  # not difficult
    detections: int


@dataclass(frozen=True, slots=True)
class VocScores:
    """Means over the classes that have an AP; None when none has."""

    map_11_point: float | None
    map_area: float | None
    per_class: tuple[VocClassScore, ...]  # in the order of the class indices


def score_voc(
    objects: Sequence[VocObjects],
    detections: Sequence[Detections],
    classes: int,
    *,
    min_overlap: float = MIN_OVERLAP,
) -> VocScores:
    """Score detections (boxes_xyxy, scores, labels) against the objects of the same pictures, in the same order.

    `min_overlap` is the IoU in (0, 1] that a detection must reach. Raises SettingError when it is another number,
    DetectionsError for detections that cannot be scored, DatasetError for objects of unknown classes.
    """
    if not 0 < min_overlap <= 1:
        raise SettingError(f"min_overlap: an IoU above 0 and up to 1 was expected, but {min_overlap} came")
    labels = np.concatenate([item.labels for item in objects]) if objects else np.zeros(0, np.int64)
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise DatasetError(f"expected objects of classes 0..{classes - 1}, found {labels.min()}..{labels.max()}")
    gathered = [_Gathered() for _ in range(classes)]
    for there, found in zip(objects, checked_detections(detections, len(objects), classes), strict=True):
        _compare(there, found, gathered, min_overlap)
    scores = tuple(item.score() for item in gathered)
    return VocScores(
        map_11_point=_mean([score.ap_11_point for score in scores]),
        map_area=_mean([score.ap_area for score in scores]),
        per_class=scores,
    )


@dataclass(slots=True)
class _Gathered:
    """What the pictures so far hold of one class."""

    scores: list[_Floats] = field(default_factory=list)
    targets: list[_Ints] = field(default_factory=list)  # see add
    difficult: list[_Bools] = field(default_factory=list)
    objects: int = 0

    def add(self, scores: _Floats, best: _Ints, difficult: _Bools) -> None:
        """`best`: the object that each detection is compared with, a row of `difficult`, or -1 for none."""
        self.scores.append(scores)
        self.targets.append(np.where(best >= 0, best + self.objects, -1))
        self.difficult.append(difficult)
        self.objects += len(difficult)

    def score(self) -> VocClassScore:
        detections = sum(map(len, self.scores))
        count = sum(int((~hard).sum()) for hard in self.difficult)
        if count == 0:
            return VocClassScore(None, None, 0, detections)
        order = np.argsort(-np.concatenate(self.scores), kind="stable")
        recall, precision = _curve(np.concatenate(self.targets)[order], np.concatenate(self.difficult), count)
        return VocClassScore(_eleven_points(recall, precision), _area(recall, precision), count, detections)


def _compare(
    there: VocObjects,
    found: tuple[_Floats, _Floats, npt.NDArray[np.generic]],
    gathered: Sequence[_Gathered],
    min_overlap: float,
) -> None:
    """Enter one picture under each class that it has objects or detections of."""
    boxes, scores, labels = found
    for label in np.union1d(labels, there.labels).astype(np.int64).tolist():
        mine, present = labels == label, there.labels == label
        best = _best_object(boxes[mine], there.boxes_xyxy[present], min_overlap)
        gathered[label].add(scores[mine], best, there.difficult[present])


def _best_object(detections: _Floats, objects: _Floats, min_overlap: float) -> _Ints:
    """[D] row of the object that each detection overlaps most, the first of equals; -1 below `min_overlap`."""
    if len(objects) == 0:
        return np.full(len(detections), -1, dtype=np.int64)
    corner = np.maximum(detections[:, None, :2], objects[None, :, :2])
    sides = np.minimum(detections[:, None, 2:], objects[None, :, 2:]) - corner + 1
    meet = (sides > 0).all(axis=2)
    common = np.where(meet, sides[..., 0] * sides[..., 1], 0.0)
    union = _pixels(detections)[:, None] + _pixels(objects)[None, :] - common
    overlap = np.divide(common, union, out=np.zeros_like(common), where=meet)
    best = overlap.argmax(axis=1)
    return np.where(overlap[np.arange(len(best)), best] >= min_overlap, best, -1)


def _pixels(boxes: _Floats) -> _Floats:
    area: _Floats = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
    return area


def _curve(ranked: _Ints, difficult: _Bools, count: int) -> tuple[_Floats, _Floats]:
    """(recall, precision) after each detection; `ranked` is the object of each, best score first, or -1."""
    hit = ranked >= 0
    counted = ~hit
    counted[hit] = ~difficult[ranked[hit]]
    first = np.zeros(len(ranked), dtype=np.bool_)
    first[np.unique(ranked, return_index=True)[1]] = True
    true = (hit & counted & first).cumsum()
    judged = counted.cumsum()
    precision = np.divide(true, judged, out=np.zeros(len(ranked)), where=judged > 0)
    return true / count, precision


def _eleven_points(recall: _Floats, precision: _Floats) -> float:
    return sum(float(precision[recall >= point].max(initial=0.0)) for point in RECALL_POINTS) / len(RECALL_POINTS)


def _area(recall: _Floats, precision: _Floats) -> float:
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if present else None

"""COCO AP without each group of images, from one matching by pycocotools.

COCO matches detections to objects within one image and class only, so leaving out images just removes their
detections and objects from the ranked list. Precision rises at true positives alone; it is therefore enough
to follow the list from one true positive to the next, for all groups side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]
_Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False, slots=True)
class _Ranked:
    """The detections of one class over all images, best first; T IoU thresholds, N detections."""

    matched: _Bools  # [T, N] found an object
    ignored: _Bools  # [T, N] counts neither way
    group: _Ints  # [N] group of its image
    objects: _Ints  # [G] countable objects by group


def leave_out_aps(
    evaluations: Sequence[Sequence[Mapping[str, Any] | None]],
    group_of_image: _Ints,
    recall_thresholds: _Floats,
) -> tuple[float, tuple[float, ...]]:
    """(AP on all images, AP without each group).

    `evaluations[k][i]`: pycocotools' result for class k and image i in one area range (an element of
    `evalImgs`); `group_of_image[i]`: its group, 0..G-1. A class without objects counts in no mean, as in
    COCOeval.
    """
    groups = int(group_of_image.max()) + 1
    total = np.zeros(groups + 1)
    classes = np.zeros(groups + 1)
    for of_class in evaluations:
        ranked = _rank(of_class, group_of_image, groups)
        if ranked is None:
            continue
        objects = np.append(ranked.objects.sum() - ranked.objects, ranked.objects.sum())  # last: nothing left out
        present = objects > 0
        total[present] += _class_ap(ranked, objects, recall_thresholds)[present]
        classes += present
    values = np.divide(total, classes, out=np.full(groups + 1, -1.0), where=classes > 0)
    return float(values[-1]), tuple(float(value) for value in values[:-1])


def _rank(of_class: Sequence[Mapping[str, Any] | None], group_of_image: _Ints, groups: int) -> _Ranked | None:
    found = [(int(group_of_image[i]), e) for i, e in enumerate(of_class) if e is not None]
    if not found:
        return None
    objects = np.zeros(groups, dtype=np.int64)
    for of_image, entry in found:
        objects[of_image] += np.count_nonzero(np.asarray(entry["gtIgnore"]) == 0)
    if objects.sum() == 0:
        return None
    scores = np.concatenate([np.asarray(entry["dtScores"], dtype=np.float64) for _, entry in found])
    order = np.argsort(-scores, kind="mergesort")  # pycocotools' rule for ties: image order
    group = np.repeat(
        np.array([of_image for of_image, _ in found], dtype=np.int64),
        [len(entry["dtScores"]) for _, entry in found],
    )
    return _Ranked(
        matched=np.concatenate([entry["dtMatches"] for _, entry in found], axis=1)[:, order] > 0,
        ignored=np.concatenate([entry["dtIgnore"] for _, entry in found], axis=1)[:, order].astype(bool),
        group=group[order],
        objects=objects,
    )


def _class_ap(ranked: _Ranked, objects: _Ints, recall_thresholds: _Floats) -> _Floats:
    """[G + 1] mean over IoU thresholds and recall points of the interpolated precision."""
    ap = np.zeros(len(objects))
    for matched, ignored in zip(ranked.matched, ranked.ignored, strict=True):
        ap += _precision_sum(matched & ~ignored, ~ignored, ranked.group, objects, recall_thresholds)
    mean: _Floats = ap / (len(ranked.matched) * len(recall_thresholds))
    return mean


def _precision_sum(
    positive: _Bools, counted: _Bools, group: _Ints, objects: _Ints, recall_thresholds: _Floats
) -> _Floats:
    """[G + 1] sum over the recall points, at one IoU threshold."""
    rows = len(objects)
    at = np.flatnonzero(positive)  # places of the true positives in the ranked list
    if len(at) == 0:
        return np.zeros(rows)
    # counted detections of each group up to each true positive; the last row stays empty
    where = np.flatnonzero(counted)
    step = np.searchsorted(at, where, side="left")
    width = len(at) + 1
    seen = np.bincount(group[where] * width + step, minlength=rows * width).reshape(rows, width)
    detections = np.cumsum(seen[:, :-1], axis=1)
    own = np.zeros((rows, len(at)), dtype=np.int64)
    own[group[at], np.arange(len(at))] = 1
    tp = (np.arange(1, len(at) + 1) - np.cumsum(own, axis=1)).astype(np.float64)
    precision = tp / (detections.sum(axis=0) - detections + np.spacing(1))
    # At a true positive that was left out tp repeats and the detections do not fall: it never sets the maximum.
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    sums = np.zeros(rows)
    for row in np.flatnonzero(objects > 0):
        first = np.searchsorted(tp[row] / objects[row], recall_thresholds, side="left")
        sums[row] = envelope[row, first[first < len(at)]].sum()
    return sums

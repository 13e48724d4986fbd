"""Pascal VOC's mAP for a COCO ground truth and a list of detections, as converters from VOC write them.

A box (x, y, width, height) has the corners (x, y, x + width, y + height). Annotations with `difficult: 1` are
difficult, and so are crowd regions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nasdet_core.evaluation.coco_files import FilePair, unique_names
from nasdet_core.evaluation.coco_json import Json
from nasdet_core.evaluation.coco_map import Detections
from nasdet_core.evaluation.coco_overlap import by_image
from nasdet_core.evaluation.voc_map import MIN_OVERLAP, VocClassScore, VocObjects, VocScores, score_voc


@dataclass(frozen=True, slots=True)
class VocFileScores:
    """VOC's numbers with the names and ids of the categories, in the order of the ids."""

    scores: VocScores
    per_category: Mapping[str, tuple[int, VocClassScore]]


def score_voc_files(pair: FilePair, *, min_overlap: float = MIN_OVERLAP) -> VocFileScores:
    """VOC mAP of two files that belong together. Detections of the same score are ranked in the order of the file."""
    categories = list(pair.truth.categories)
    label = {category: index for index, category in enumerate(categories)}
    objects = by_image(item for item in pair.truth.objects if item["category_id"] in label)
    found = by_image(item for item in _ranked(pair.results.detections) if item["category_id"] in label)
    scores = score_voc(
        [_objects(objects.get(image, []), label) for image in pair.truth.images],
        [_detections(found.get(image, []), label) for image in pair.truth.images],
        len(categories),
        min_overlap=min_overlap,
    )
    names = unique_names(pair.truth.categories)
    per_category = {
        names[category]: (category, score) for category, score in zip(categories, scores.per_class, strict=True)
    }
    return VocFileScores(scores, per_category)


def _ranked(detections: Sequence[Json]) -> Iterator[Json]:
    """With the rank of each, which no two share, in place of its score: VOC's numbers depend on nothing else."""
    best_first = sorted(detections, key=lambda item: -item["score"])  # stable
    return ({**item, "score": -rank} for rank, item in enumerate(best_first))


def _objects(items: list[Json], label: Mapping[int, int]) -> VocObjects:
    difficult = np.array([item["difficult"] or item["iscrowd"] for item in items], dtype=np.bool_)
    return VocObjects(_corners(items), _labels(items, label), difficult)


def _detections(items: list[Json], label: Mapping[int, int]) -> Detections:
    return _corners(items), np.array([item["score"] for item in items], dtype=np.float64), _labels(items, label)


def _corners(items: list[Json]) -> npt.NDArray[np.float64]:
    xywh = np.array([item["bbox"] for item in items], dtype=np.float64).reshape(-1, 4)
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)


def _labels(items: list[Json], label: Mapping[int, int]) -> npt.NDArray[np.int64]:
    return np.array([label[item["category_id"]] for item in items], dtype=np.int64)

"""Pascal VOC's mAP for a COCO ground truth and a list of detections, as converters from VOC write them.

A box (x, y, width, height) has the corners (x, y, x + width, y + height). Annotations with `difficult: 1` are
difficult, and so are crowd regions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nasdet_core.evaluation.coco_files import FilePair, unique_names
from nasdet_core.evaluation.coco_json import Json
from nasdet_core.evaluation.coco_map import Detections
from nasdet_core.evaluation.voc_map import MIN_OVERLAP, VocClassScore, VocObjects, VocScores, score_voc


@dataclass(frozen=True, slots=True)
class VocFileScores:
    """VOC's numbers with the names and ids of the categories, in the order of the ids."""

    scores: VocScores
    per_category: Mapping[str, tuple[int, VocClassScore]]


def score_voc_files(pair: FilePair, *, min_overlap: float = MIN_OVERLAP) -> VocFileScores:
    """VOC mAP of two files that belong together. Detections of the same score are ranked in the order of the ids of
    their images."""
    categories = list(pair.truth.categories)
    label = {category: index for index, category in enumerate(categories)}
    images = sorted(pair.truth.images, key=lambda identity: (isinstance(identity, str), identity))
    objects: dict[object, list[Json]] = {image: [] for image in images}
    found: dict[object, list[Json]] = {image: [] for image in images}
    for items, by_image in ((pair.truth.objects, objects), (pair.results.detections, found)):
        for item in items:
            if item["image_id"] in by_image and item["category_id"] in label:
                by_image[item["image_id"]].append(item)
    scores = score_voc(
        [_objects(objects[image], label) for image in images],
        [_detections(found[image], label) for image in images],
        len(categories),
        min_overlap=min_overlap,
    )
    names = unique_names(pair.truth.categories)
    per_category = {
        names[category]: (category, score) for category, score in zip(categories, scores.per_class, strict=True)
    }
    return VocFileScores(scores, per_category)


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

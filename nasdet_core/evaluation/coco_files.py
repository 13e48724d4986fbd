"""COCO's numbers for two files, a ground truth and a list of detections, as pycocotools computes them.

Every number is pycocotools' own (`COCOeval`, iouType bbox, default parameters), to the last bit: boxes stay as the
files write them, nothing is dropped, `iscrowd` alone decides what is ignored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from nasdet_core.errors import printable
from nasdet_core.evaluation.coco_boxes import check_truth_boxes
from nasdet_core.evaluation.coco_category_ids import check_category_ids
from nasdet_core.evaluation.coco_image_ids import check_image_ids
from nasdet_core.evaluation.coco_json import Json, read_json
from nasdet_core.evaluation.coco_map import STATS, mean_of_present, or_none, silent
from nasdet_core.evaluation.coco_overlap import by_image, pictures
from nasdet_core.evaluation.coco_readings import check_detection_boxes
from nasdet_core.evaluation.coco_results import Results, check_detections
from nasdet_core.evaluation.coco_truth import GroundTruth, check_gt

_LEAST_PERCENT, _MOST_PERCENT = 1.5, 100  # a largest score between is none of 0..1, whatever its rounding


@dataclass(frozen=True, eq=False, slots=True)
class FilePair:
    """A ground truth and detections that belong together, and what is worth saying about them."""

    truth: GroundTruth
    results: Results
    warnings: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        return {
            "images": len(self.truth.images),
            "annotations": len(self.truth.objects),
            "crowd": sum(item["iscrowd"] for item in self.truth.objects),
            "difficult": sum(item["difficult"] for item in self.truth.objects),
            "categories": len(self.truth.categories),
            "detections": len(self.results.detections),
            "images_with_detections": len({item["image_id"] for item in self.results.detections}),
        }


@dataclass(frozen=True, slots=True)
class CategoryScore:
    """Of one category; None without ground truth, which counts in no mean."""

    category_id: int
    ap: float | None
    ap50: float | None


@dataclass(frozen=True, slots=True)
class CocoScores:
    """AP and AR in 0..1; None where there is nothing to average, for which pycocotools writes -1."""

    metrics: Mapping[str, float | None]  # COCO's twelve numbers in its order; by size: AP_small, AR_small, ...
    per_category: Mapping[str, CategoryScore]  # in the order of the ids


def load_pair(ground_truth: Path, detections: Path) -> FilePair:
    """Read two files and check that they belong together.

    Raises a CocoFileError of one sentence when their numbers would mean nothing: files swapped, ids that are not
    the ground truth's, boxes in another form, scores missing.
    """
    truth = check_gt(read_json(ground_truth), printable(str(ground_truth)))
    results = check_detections(read_json(detections), printable(str(detections)))
    return match_pair(truth, results)


def match_pair(truth: GroundTruth, results: Results) -> FilePair:
    """As `load_pair`, for files that have been read."""
    warnings = list(truth.warnings)
    warnings += check_truth_boxes(truth)
    objects, detections = by_image(truth.objects), by_image(results.detections)
    warnings += check_image_ids(truth, results, objects, detections)
    compared = pictures(objects, detections, [(identity, identity) for identity in truth.images])
    warnings += check_detection_boxes(results, truth, compared)
    warnings += check_category_ids(truth, results, compared)
    warnings += _detection_warnings(results)
    return FilePair(truth, results, tuple(warnings))


def score_coco(pair: FilePair) -> CocoScores:
    """The twelve numbers, and AP and AP50 of each category."""
    names = unique_names(pair.truth.categories)
    with silent():
        run = COCOeval(_index(pair, _truth_entries(pair.truth)), _index(pair, _result_entries(pair.results)), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    precision = run.eval["precision"][:, :, :, 0, -1]  # [T, R, K] all sizes, 100 detections; T begins with IoU 0.5
    return CocoScores(
        metrics={name: or_none(float(value)) for name, value in zip(STATS, run.stats, strict=True)},
        per_category={
            names[category]: CategoryScore(
                category_id=category,
                ap=or_none(mean_of_present(precision[:, :, k])),
                ap50=or_none(mean_of_present(precision[0, :, k])),
            )
            for k, category in enumerate(pair.truth.categories)
        },
    )


def unique_names(categories: Mapping[int, str]) -> dict[int, str]:
    """A name of its own for every category: where several share one, their ids are added."""
    count = Counter(categories.values())
    taken = set(count)
    names: dict[int, str] = {}
    for category, name in categories.items():
        own = name
        if count[name] > 1:
            while own in taken:
                own = f"{own} (id {category})"
            taken.add(own)
        names[category] = own
    return names


def _detection_warnings(results: Results) -> list[str]:
    if not results.detections:
        return [f"{results.shown}: the list of detections is empty, so every object counts as missed and AP is 0"]
    said = []
    flat = [number for number, item in enumerate(results.detections) if min(item["bbox"][2:]) <= 0]
    if flat:
        said.append(
            f"{results.shown}: detections whose width or height is not above 0: {len(flat)} of "
            f"{len(results.detections)} (first: entry [{flat[0]}]); to COCO they overlap nothing and are false alarms"
        )
    scores = np.array([item["score"] for item in results.detections], dtype=np.float64)
    if scores.min() >= 0 and _LEAST_PERCENT < scores.max() <= _MOST_PERCENT:
        said.append(
            f"{results.shown}: scores go up to {scores.max():g}, as percentages do; only their order matters here, but "
            f"it must be the same scale for all"
        )
    return said


def _index(pair: FilePair, annotations: list[Json]) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": [{"id": identity} for identity in pair.truth.images],
        "categories": [{"id": category} for category in pair.truth.categories],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


def _truth_entries(truth: GroundTruth) -> list[Json]:
    return [dict(item) for item in truth.objects]  # copies: COCOeval writes into them


def _result_entries(results: Results) -> list[Json]:
    """As COCO.loadRes makes them, without its polygons; it would fail on an empty list."""
    return [
        {**item, "id": number, "area": item["bbox"][2] * item["bbox"][3], "iscrowd": 0}
        for number, item in enumerate(results.detections, start=1)
    ]

"""COCO box AP (Lin et al. 2014, arXiv:1405.0312; the definition is pycocotools' COCOeval, which computes it
here).

Knows nothing about models: ground truth comes as image records, detections as arrays in pixels of the
original pictures. Zero-area boxes were left out by the readers, crowd regions follow COCO's rule, difficult
objects (VOC) are ignored: a detection that matches one counts neither way, and one that is missed is no
miss.
"""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from nasdet_core.data.in_memory import ImageRecord
from nasdet_core.errors import DatasetError, NasDetError
from nasdet_core.evaluation.coco_jackknife import leave_out_aps
from nasdet_core.evaluation.paired import jackknife_standard_error

MAX_GROUPS = 64
STATS = (
    "AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large",
    "AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large",
)  # fmt: skip

Detections = tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike]
"""Of one image: boxes_xyxy [n, 4] in pixels of the original picture, scores [n], labels [n] (class index)."""


class DetectionsError(NasDetError, ValueError):
    """Detections that cannot be scored: wrong shapes, unknown labels, numbers that are not finite."""


@dataclass(frozen=True, slots=True)
class CocoResult:
    """AP values in 0..1. A class or size without objects has None, not 0."""

    box_map: float
    box_ap50: float
    box_ap75: float
    per_class: Mapping[str, float | None]
    jackknife: tuple[float, ...]  # box_map without each image group; the same groups for every candidate
    standard_error: float
    images: int
    stats: Mapping[str, float | None] | None = None  # COCO's twelve numbers; only when asked for
    per_size: Mapping[str, float | None] | None = None  # small, medium, large; only when asked for
    per_class_ap50: Mapping[str, float | None] | None = None  # only when asked for


class CocoEvaluator:
    """Scores many candidates against one ground truth, which is prepared once.

    `max_detections` is COCO's: the best of each image and class. The jackknife uses min(images, 64) groups;
    images with objects are dealt out to the groups first, in their order, so that no group holds all
    objects.
    """

    def __init__(
        self,
        records: Sequence[ImageRecord],
        class_names: Sequence[str],
        category_ids: Sequence[int] | None = None,
        *,
        max_detections: int = 100,
    ) -> None:
        self._names = tuple(class_names)
        self._categories = tuple(category_ids) if category_ids is not None else tuple(range(1, len(self._names) + 1))
        if len(self._names) != len(self._categories):
            raise DatasetError(f"{len(self._names)} class names, but {len(self._categories)} category ids")
        if list(self._categories) != sorted(set(self._categories)):
            raise DatasetError(f"expected category ids in rising order, as pycocotools sorts them: {self._categories}")
        self._records = tuple(records)
        self._max_detections = max_detections
        countable = [int(np.count_nonzero(record.annotation.trainable)) for record in self._records]
        if sum(count > 0 for count in countable) < 2:
            raise DatasetError(
                f"expected at least 2 pictures with objects to score detections on (one gives no standard error), "
                f"found {sum(count > 0 for count in countable)} of {len(self._records)}"
            )
        self._groups = _image_groups(countable)
        self._truth = _coco_index(
            self._records, self._names, self._categories, list(_truth_entries(self._records, self._categories))
        )

    @property
    def records(self) -> tuple[ImageRecord, ...]:
        """The images, in the order in which their detections are expected."""
        return self._records

    def evaluate(self, detections: Sequence[Detections], *, full: bool = False) -> CocoResult:
        """Score the detections of all images, in the order of the records.

        Without `full`, one area range is matched, which is all that the fitness needs; with it, COCO's twelve
        numbers, the AP by object size and the AP50 by class are added. The values common to both are the same.
        """
        run = self._match(detections, full=full)
        with silent():
            run.accumulate()
        precision, recall = run.eval["precision"], run.eval["recall"]  # [T, R, K, A, M], [T, K, A, M]
        images, ranges = len(self._records), len(run.params.areaRng)
        by_class = [run.evalImgs[k * ranges * images :][:images] for k in range(len(self._names))]
        _ap, jackknife = leave_out_aps(by_class, self._groups, np.asarray(run.params.recThrs))
        overall = precision[:, :, :, 0, -1]
        ious = np.asarray(run.params.iouThrs)
        stats = _twelve(precision, recall, ious) if full else None
        ap50 = overall[_at(ious, 0.5)]  # [1, R, K]
        return CocoResult(
            box_map=mean_of_present(overall),
            box_ap50=mean_of_present(ap50),
            box_ap75=mean_of_present(overall[_at(ious, 0.75)]),
            per_class=self._by_class(overall),
            jackknife=jackknife,
            standard_error=jackknife_standard_error(jackknife),
            images=images,
            stats=stats,
            per_size={size: stats[f"AP_{size}"] for size in ("small", "medium", "large")} if stats else None,
            per_class_ap50=self._by_class(ap50) if full else None,
        )

    def _by_class(self, precision: npt.NDArray[np.float64]) -> dict[str, float | None]:
        """`precision` is [T, R, K]."""
        return {name: or_none(mean_of_present(precision[:, :, k])) for k, name in enumerate(self._names)}

    def _match(self, detections: Sequence[Detections], *, full: bool) -> COCOeval:
        entries = list(_detection_entries(detections, len(self._records), self._categories))
        found = _coco_index(self._records, self._names, self._categories, entries)
        run = _BoxEvaluation(self._truth, found, "bbox")
        if full:
            run.params.maxDets = [1, 10, self._max_detections]
        else:
            run.params.maxDets = [self._max_detections]
            run.params.areaRng, run.params.areaRngLbl = run.params.areaRng[:1], run.params.areaRngLbl[:1]
        run.evaluate()
        return run


class _BoxEvaluation(COCOeval):  # type: ignore[misc]  # pycocotools carries no types
    """COCOeval that ignores difficult objects and matches without printing."""

    def _prepare(self) -> None:
        super()._prepare()
        for objects in self._gts.values():
            for item in objects:
                item["ignore"] = int(item["iscrowd"] or item["difficult"])

    def evaluate(self) -> None:
        """As COCOeval.evaluate, step by step."""
        params = self.params
        params.imgIds, params.catIds = sorted(set(params.imgIds)), sorted(set(params.catIds))
        self._prepare()
        pairs = [(image, category) for image in params.imgIds for category in params.catIds]
        self.ious = {pair: self.computeIoU(*pair) for pair in pairs}
        self.evalImgs = [
            self.evaluateImg(image, category, area, params.maxDets[-1])
            for category in params.catIds
            for area in params.areaRng
            for image in params.imgIds
        ]
        self._paramsEval = copy.deepcopy(params)


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """pycocotools prints its progress; our output belongs to the command that runs."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _coco_index(
    records: Sequence[ImageRecord],
    names: Sequence[str],
    categories: Sequence[int],
    annotations: list[dict[str, Any]],
) -> COCO:
    """A COCO object with image ids 1..n in the order of the records."""
    coco = COCO()
    coco.dataset = {
        "images": [
            {"id": number, "file_name": record.file, "width": record.width, "height": record.height}
            for number, record in enumerate(records, start=1)
        ],
        "categories": [{"id": category, "name": name} for category, name in zip(categories, names, strict=True)],
        "annotations": annotations,
    }
    with silent():
        coco.createIndex()
    return coco


def _truth_entries(records: Sequence[ImageRecord], categories: Sequence[int]) -> Iterator[dict[str, Any]]:
    identity = 0
    for image, record in enumerate(records, start=1):
        objects = record.annotation
        for row in range(len(objects)):
            identity += 1  # from 1: pycocotools takes a match with annotation 0 for no match
            yield {
                "id": identity,
                "image_id": image,
                "category_id": categories[objects.labels[row]],
                "bbox": objects.exact_xywh[row].tolist(),
                "area": float(objects.area[row]),
                "iscrowd": int(objects.crowd[row]),
                "difficult": int(objects.difficult[row]),
            }


def _detection_entries(
    detections: Sequence[Detections], images: int, categories: Sequence[int]
) -> Iterator[dict[str, Any]]:
    identity = 0
    for image, (xyxy, score, label) in enumerate(checked_detections(detections, images, len(categories)), start=1):
        sizes = xyxy[:, 2:] - xyxy[:, :2]
        rows = np.concatenate([xyxy[:, :2], sizes], axis=1).tolist()
        areas = (sizes[:, 0] * sizes[:, 1]).tolist()
        for bbox, area, value, index in zip(rows, areas, score.tolist(), label.tolist(), strict=True):
            identity += 1
            yield {
                "id": identity,
                "image_id": image,
                "category_id": categories[int(index)],
                "bbox": bbox,
                "area": area,
                "score": value,
                "iscrowd": 0,
            }


def checked_detections(
    detections: Sequence[Detections], images: int, classes: int
) -> Iterator[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[Any]]]:
    """The (boxes_xyxy, scores, labels) of each image as arrays. DetectionsError names the first that cannot be
    scored."""
    if len(detections) != images:
        raise DetectionsError(f"expected detections for {images} images, found them for {len(detections)}")
    for image, (boxes, scores, labels) in enumerate(detections, start=1):
        xyxy = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        score = np.asarray(scores, dtype=np.float64)
        label = np.asarray(labels)
        if len({len(xyxy), len(score), len(label)}) > 1:
            counts = f"{len(xyxy)} boxes, {len(score)} scores and {len(label)} labels"
            raise DetectionsError(f"image {image} has {counts}; expected as many of each")
        if not (np.isfinite(xyxy).all() and np.isfinite(score).all()):
            raise DetectionsError(f"image {image} has a box or score that is not a finite number")
        if len(label) and (label.min() < 0 or label.max() >= classes):
            raise DetectionsError(
                f"image {image} has labels {label.min()}..{label.max()}, expected class indices 0..{classes - 1}"
            )
        yield xyxy, score, label


def _image_groups(countable: Sequence[int]) -> npt.NDArray[np.int64]:
    groups = min(len(countable), MAX_GROUPS)
    order = sorted(range(len(countable)), key=lambda image: countable[image] == 0)  # stable: those with objects first
    group_of_image = np.zeros(len(countable), dtype=np.int64)
    for rank, image in enumerate(order):
        group_of_image[image] = rank % groups
    return group_of_image


def _twelve(
    precision: npt.NDArray[np.float64], recall: npt.NDArray[np.float64], ious: npt.NDArray[np.float64]
) -> dict[str, float | None]:
    """COCOeval.summarize without its prints, in its order; areas: all, small, medium, large; detections: 1,
    10, 100."""
    values = [mean_of_present(precision[:, :, :, 0, 2])]
    values += [mean_of_present(precision[_at(ious, threshold), :, :, 0, 2]) for threshold in (0.5, 0.75)]
    values += [mean_of_present(precision[:, :, :, area, 2]) for area in (1, 2, 3)]
    values += [mean_of_present(recall[:, :, 0, limit]) for limit in (0, 1, 2)]
    values += [mean_of_present(recall[:, :, area, 2]) for area in (1, 2, 3)]
    return {name: or_none(value) for name, value in zip(STATS, values, strict=True)}


def _at(ious: npt.NDArray[np.float64], threshold: float) -> npt.NDArray[np.intp]:
    return np.flatnonzero(np.isclose(ious, threshold))


def mean_of_present(values: npt.NDArray[np.float64]) -> float:
    """Mean over what exists; -1 (pycocotools' mark) when nothing does."""
    present = values[values > -1]
    return float(np.mean(present)) if present.size else -1.0


def or_none(value: float) -> float | None:
    """pycocotools' -1 is None here."""
    return None if value == -1.0 else value

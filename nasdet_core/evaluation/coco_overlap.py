"""Detections beside the objects of their pictures, by which it shows whether two files speak of the same things."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pycocotools import mask

from nasdet_core.evaluation.coco_json import ImageId, Json

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
ByImage = Mapping[ImageId, Sequence[Json]]

COVERS = 0.5  # IoU from which a detection says something about the object below it
FEWEST = 10  # detections, before they count as evidence
AGREE, DISAGREE = 0.5, 0.1  # shares of them
MOST_PICTURES, MOST_DETECTIONS = 500, 100  # that are looked at, and of each picture


@dataclass(frozen=True, eq=False, slots=True)
class Picture:
    """A picture's objects and its best detections, no more than objects: weak guesses say nothing about the file."""

    image: ImageId
    objects: Sequence[Json]
    detections: Sequence[Json]


def by_image(items: Iterable[Json]) -> dict[ImageId, list[Json]]:
    found: dict[ImageId, list[Json]] = {}
    for item in items:
        found.setdefault(item["image_id"], []).append(item)
    return found


def pictures(objects: ByImage, detections: ByImage, meant: Iterable[tuple[ImageId, ImageId]]) -> list[Picture]:
    """Pictures that have both, evenly chosen. `meant`: image ids in the detections and the ground truth's for them."""
    both = [(written, image) for written, image in meant if written in detections and image in objects]
    return [
        Picture(image, objects[image], _best(detections[written], len(objects[image])))
        for written, image in both[:: 1 + len(both) // MOST_PICTURES]
    ]


def boxes_of(items: Sequence[Json]) -> Floats:
    """[N, 4] as written."""
    return np.array([item["bbox"] for item in items], dtype=np.float64).reshape(-1, 4)


def overlap(boxes_xywh: Floats, objects: Sequence[Json]) -> Floats:
    """[boxes, objects] IoU; neither may be empty."""
    ious: Floats = mask.iou(boxes_xywh, boxes_of(objects), [0] * len(objects))
    return ious


def _best(detections: Sequence[Json], count: int) -> list[Json]:
    return heapq.nlargest(min(count, MOST_DETECTIONS), detections, key=lambda item: item["score"])

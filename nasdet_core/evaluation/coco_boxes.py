"""Notices boxes in another form than COCO's (x, y, width, height) in pixels, by how they lie in their pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from nasdet_core.evaluation.coco_json import CocoFileError, ImageId, Json
from nasdet_core.evaluation.coco_overlap import Bools, boxes_of
from nasdet_core.evaluation.coco_truth import GroundTruth, ImageEntry

# A box may leave its picture by this much before it counts: detectors do not always clip, annotators are not exact.
SLACK_PIXELS, SLACK_OF_SIDE = 2.0, 0.02
LEAVING_IN_CORNER_FORM = 0.25  # corners read as widths leave the picture for every object right of or below its middle
FITTING_AS_CORNERS = 0.95  # width > x and height > y hold for few real boxes, so this many are no accident
FEWEST_LEAVING = 3  # below that it may be an accident
WORTH_A_WARNING = 0.1
NORMALISED = 0.99  # share of the boxes that lie within 0..1
_NORMALISED_RANGE = (-0.1, 1.1)
_TINY = 4  # pixels: in pictures up to this side boxes in pixels lie there as well


class BoxFormatError(CocoFileError):
    """Boxes that are not (x, y, width, height) in pixels."""


def check_truth_boxes(truth: GroundTruth) -> list[str]:
    """Warnings about the ground truth's boxes; BoxFormatError when nearly all have another form."""
    places = _places(truth.objects, truth.images)
    normalised = _normalised(places, truth.shown)
    if normalised:
        raise BoxFormatError(normalised[0])
    leaving, fitting = _share(places.leaving), _share(places.as_corners)
    many = places.leaving.sum() >= FEWEST_LEAVING and leaving >= LEAVING_IN_CORNER_FORM
    if many and fitting >= FITTING_AS_CORNERS:
        raise BoxFormatError(
            f"{truth.shown}: the boxes look like corners (x1, y1, x2, y2), but COCO's are (x, y, width, height): read "
            f"as COCO's {leaving:.0%} of the {len(places.leaving)} boxes leave their picture, read as corners "
            f"{fitting:.0%} lie inside; write x2 - x1 and y2 - y1 as width and height"
        )
    return _leaving(places, truth.shown)


def place_warnings(detections: Iterable[Json], images: Mapping[ImageId, ImageEntry], shown: str) -> list[str]:
    """What is odd about the places of detections; that alone refuses none, since a detector may be as bad as that."""
    places = _places(detections, images)
    return _normalised(places, shown) or _leaving(places, shown)


@dataclass(frozen=True, eq=False, slots=True)
class _Places:
    """How boxes lie in their pictures."""

    within_0_1: Bools  # [N], without those in tiny pictures
    whole: bool  # whether all of these numbers are integers
    leaving: Bools  # [M], of the boxes in pictures of known size: on the right or below
    as_corners: Bools  # [M] whether they lie inside, read as corners


def _places(entries: Iterable[Json], images: Mapping[ImageId, ImageEntry]) -> _Places:
    """Entries have bbox and image_id; those of unknown pictures say nothing."""
    listed = [entry for entry in entries if entry["image_id"] in images]
    boxes = boxes_of(listed)
    known = [images[entry["image_id"]] for entry in listed]
    sizes = np.array([(image.width or np.nan, image.height or np.nan) for image in known]).reshape(-1, 2)
    large = boxes[~(sizes <= _TINY).any(axis=1)]
    low, high = _NORMALISED_RANGE
    sized = np.isfinite(sizes).all(axis=1)
    sizes, first, second = sizes[sized], boxes[sized, :2], boxes[sized, 2:]
    slack = SLACK_PIXELS + SLACK_OF_SIDE * sizes
    return _Places(
        within_0_1=(large.min(axis=1) >= low) & (large.max(axis=1) <= high),
        whole=not (large % 1).any(),
        leaving=(first + second > sizes + slack).any(axis=1),
        as_corners=((second > first) & (first >= -slack) & (second <= sizes + slack)).all(axis=1),
    )


def _normalised(places: _Places, shown: str) -> list[str]:
    within = _share(places.within_0_1)
    if within < NORMALISED or places.whole:
        return []
    return [
        f"{shown}: expected boxes in pixels, but {within:.0%} of the {len(places.within_0_1)} boxes lie within 0..1, "
        f"as normalised boxes do; multiply x and width by the picture's width, y and height by its height"
    ]


def _leaving(places: _Places, shown: str) -> list[str]:
    if _share(places.leaving) < WORTH_A_WARNING:
        return []
    return [
        f"{shown}: boxes that leave their picture on the right or below: {places.leaving.sum()} of "
        f"{len(places.leaving)} (as corners (x1, y1, x2, y2) {_share(places.as_corners):.0%} would lie inside); COCO's "
        f"boxes are (x, y, width, height) in pixels of the original picture, with (x, y) at the top left"
    ]


def _share(of: Bools) -> float:
    return float(of.mean()) if len(of) else 0.0

"""Notices boxes in another form than COCO's (x, y, width, height) in pixels, by how they lie in their pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from nasdet_core.evaluation.coco_json import CocoFileError, ImageId
from nasdet_core.evaluation.coco_truth import ImageEntry

_Floats = npt.NDArray[np.float64]

# A box may leave its picture by this much before it counts: detectors do not always clip, annotators are not exact.
SLACK_PIXELS, SLACK_OF_SIDE = 2.0, 0.02
LEAVING_IN_CORNER_FORM = 0.25  # corners read as widths leave the picture for every object right of or below its middle
FITTING_AS_CORNERS = 0.95  # width > x and height > y hold for few real boxes, so this many are no accident
FEWEST_LEAVING = 3  # below that it may be an accident
WORTH_A_WARNING = 0.1
NORMALISED = 0.99  # share of the boxes that lie within 0..1
_NORMALISED_RANGE = (-0.1, 1.1)


class BoxFormatError(CocoFileError):
    """Boxes that are not (x, y, width, height) in pixels."""


def check_boxes(entries: Iterable[Mapping[str, Any]], images: Mapping[ImageId, ImageEntry], shown: str) -> list[str]:
    """Warnings about the boxes of one file; BoxFormatError when nearly all have another form.

    Entries have bbox and image_id; those of unknown pictures and of pictures without a size say nothing about
    where they lie.
    """
    listed = [entry for entry in entries if entry["image_id"] in images]
    boxes = np.array([entry["bbox"] for entry in listed], dtype=np.float64).reshape(-1, 4)
    _refuse_normalised(boxes, shown)
    known = [images[entry["image_id"]] for entry in listed]
    sizes = np.array([(image.width or 0, image.height or 0) for image in known], dtype=np.float64).reshape(-1, 2)
    sized = (sizes > 0).all(axis=1)
    return _check_places(boxes[sized], sizes[sized], shown)


def _refuse_normalised(boxes: _Floats, shown: str) -> None:
    low, high = _NORMALISED_RANGE
    within = ((boxes >= low) & (boxes <= high)).all(axis=1)
    if len(boxes) and within.mean() >= NORMALISED and (boxes % 1 != 0).any():
        raise BoxFormatError(
            f"{shown}: expected boxes in pixels, but {within.mean():.0%} of the {len(boxes)} boxes lie within 0..1, "
            f"as normalised boxes do; multiply x and width by the picture's width, y and height by its height"
        )


def _check_places(boxes: _Floats, sizes: _Floats, shown: str) -> list[str]:
    if len(boxes) == 0:
        return []
    slack = SLACK_PIXELS + SLACK_OF_SIDE * sizes
    leaving = (boxes[:, :2] + boxes[:, 2:] > sizes + slack).any(axis=1)
    first, second = boxes[:, :2], boxes[:, 2:]
    as_corners = ((second > first) & (first >= -slack) & (second <= sizes + slack)).all(axis=1)
    outside, fitting = float(leaving.mean()), float(as_corners.mean())
    if leaving.sum() >= FEWEST_LEAVING and outside >= LEAVING_IN_CORNER_FORM and fitting >= FITTING_AS_CORNERS:
        raise BoxFormatError(
            f"{shown}: the boxes look like corners (x1, y1, x2, y2), but COCO's are (x, y, width, height): read as "
            f"COCO's {outside:.0%} of the {len(boxes)} boxes leave their picture, read as corners {fitting:.0%} lie "
            f"inside; write x2 - x1 and y2 - y1 as width and height"
        )
    if outside >= WORTH_A_WARNING:
        return [
            f"{shown}: {leaving.sum()} of the {len(boxes)} boxes leave their picture on the right or below (as corners "
            f"(x1, y1, x2, y2) {fitting:.0%} would lie inside); COCO's boxes are (x, y, width, height) in pixels of "
            f"the original picture, with (x, y) at the top left"
        ]
    return []

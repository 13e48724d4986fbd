"""Notices detections in another form than COCO's (x, y, width, height) in pixels: read so, they cover the objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nasdet_core.evaluation.coco_boxes import BoxFormatError, place_warnings
from nasdet_core.evaluation.coco_json import ImageId
from nasdet_core.evaluation.coco_overlap import (
    AGREE,
    COVERS,
    DISAGREE,
    FEWEST,
    Bools,
    Floats,
    Picture,
    boxes_of,
    overlap,
)
from nasdet_core.evaluation.coco_results import Results
from nasdet_core.evaluation.coco_truth import GroundTruth, ImageEntry

CLEARLY = 0.1  # IoU by which one reading of a detection is better than another
WORTH_A_WARNING = 0.3  # share of the detections that another reading explains better, less those that COCO's does
FEWEST_GAINED = 3  # detections that another reading explains better; below that it may be an accident
_SAME_RATIO = 1.2  # of the four numbers of a detection and an object, when one is the other in another picture size
_LARGEST_FACTOR = 100.0


@dataclass(frozen=True, slots=True)
class _Form:
    words: str
    as_coco: Callable[[Floats], Floats]
    advice: str


@dataclass(frozen=True, eq=False, slots=True)
class _Reading:
    """What the detections' numbers may mean."""

    words: str
    advice: str
    boxes: Sequence[Floats]  # of each picture, as COCO writes them


_AS_WRITTEN = _Form("(x, y, width, height)", lambda boxes: boxes, "")
_FORMS = (
    _AS_WRITTEN,
    _Form(
        "corners (x1, y1, x2, y2)",
        lambda boxes: np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1),
        "write x2 - x1 and y2 - y1 as width and height",
    ),
    _Form(
        "(centre x, centre y, width, height)",
        lambda boxes: np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, 2:]], axis=1),
        "take half the width from x and half the height from y",
    ),
)


def check_detection_boxes(results: Results, truth: GroundTruth, compared: Sequence[Picture]) -> list[str]:
    """Warnings about the detections' boxes; BoxFormatError when another reading than COCO's clearly explains them."""
    written = _best_overlaps([boxes_of(picture.detections) for picture in compared], compared)
    said = _check_readings(results.shown, truth.images, compared, written) if len(written) else []
    if said or (len(written) and _covering(written).mean() >= AGREE):
        return said
    said = place_warnings(results.detections, truth.images, results.shown)
    if not said and len(written) >= FEWEST and not _covering(written).any():
        return [f"{results.shown}: none of {len(written)} detections compared covers an object by half (IoU 0.5)"]
    return said


def _check_readings(
    shown: str, images: Mapping[ImageId, ImageEntry], compared: Sequence[Picture], written: Floats
) -> list[str]:
    """The reading that explains most detections better, beside the file as written."""
    tried = [(reading, _best_overlaps(reading.boxes, compared)) for reading in _readings(compared, images)]
    reading, read = max(tried, key=lambda one: int(_better(one[1], written).sum()))  # the first of equals
    gained, lost = _better(read, written), _better(written, read)
    if gained.sum() < FEWEST_GAINED or gained.mean() - lost.mean() < WORTH_A_WARNING:
        return []
    sentence = (
        f"{shown}: the boxes look like {reading.words}, but COCO's are (x, y, width, height) in pixels of the "
        f"picture: of {len(read)} detections compared, {gained.mean():.0%} cover an object clearly better when read so "
        f"and {lost.mean():.0%} as written; {reading.advice}"
    )
    enough = len(read) >= FEWEST or bool(gained.all())
    clear = gained.mean() >= AGREE and lost.mean() <= DISAGREE and _covering(written).mean() < AGREE
    if enough and clear:
        raise BoxFormatError(sentence)
    return [sentence]


def _best_overlaps(boxes: Sequence[Floats], compared: Sequence[Picture]) -> Floats:
    """Of every detection compared: its highest IoU with an object of its picture."""
    best = [overlap(own, picture.objects).max(axis=1) for own, picture in zip(boxes, compared, strict=True)]
    return np.concatenate([np.zeros(0), *best])


def _covering(overlaps: Floats) -> Bools:
    return overlaps >= COVERS


def _better(some: Floats, others: Floats) -> Bools:
    return _covering(some) & (some - others >= CLEARLY)


def _readings(compared: Sequence[Picture], images: Mapping[ImageId, ImageEntry]) -> Iterator[_Reading]:
    """All but the file as written."""
    sides = [images[picture.image] for picture in compared]
    sizes = [np.array([side.width or 0, side.height or 0] * 2, dtype=np.float64) for side in sides]  # 0: not known
    for form in _FORMS:
        boxes = [form.as_coco(boxes_of(picture.detections)) for picture in compared]
        if form is not _AS_WRITTEN:
            yield _Reading(form.words, form.advice, boxes)
        yield _Reading(
            f"{form.words} normalised to 0..1",
            _both("multiply them by the picture's width and height", form.advice),
            [own * size for own, size in zip(boxes, sizes, strict=True)],
        )
    written = [boxes_of(picture.detections) for picture in compared]
    factor = _factor(written, compared)
    yield _Reading(
        f"{_AS_WRITTEN.words} in a picture about {round(factor, 2):g} times as large",
        "scale them to the picture's own size",
        [own / factor for own in written],
    )


def _both(first: str, second: str) -> str:
    return f"{first}, and {second}" if second else first


def _factor(boxes: Sequence[Floats], compared: Sequence[Picture]) -> float:
    """How many times as large the detections' pictures seem to be as the ground truth's.

    The median over pairs of a detection and an object whose x, y, width and height all have about the same ratio;
    1 without such pairs.
    """
    ratios: list[Floats] = [np.ones(0)]
    for own, picture in zip(boxes, compared, strict=True):
        objects = boxes_of(picture.objects[:1000])
        ratio = own[:, None] / np.where(objects >= 1, objects, np.nan)[None]  # [detections, objects, 4]
        low, high = ratio.min(axis=2), ratio.max(axis=2)
        alike = (low >= 1 / _LARGEST_FACTOR) & (high <= _LARGEST_FACTOR) & (high <= _SAME_RATIO * low)
        ratios.append(ratio.mean(axis=2)[alike])
    found = np.concatenate(ratios)
    return float(np.median(found)) if len(found) else 1.0

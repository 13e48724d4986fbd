"""Notices detections whose image or category ids are not those of the ground truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
import numpy.typing as npt
from pycocotools import mask

from nasdet_core.evaluation.coco_json import CocoFileError, ImageId, Json, quote
from nasdet_core.evaluation.coco_results import Results
from nasdet_core.evaluation.coco_truth import GroundTruth, ImageEntry

COVERS = 0.5  # IoU from which a detection says something about the class of the object below it
FEWEST_PAIRS = 10  # of detections and objects, before they count as evidence
AGREE, DISAGREE = 0.5, 0.1  # shares of the pairs
MOST_PICTURES = 500  # that are looked at for evidence
MOST_DIGITS = 18  # of an id of 64 bits

Pairs = Sequence[tuple[int, int]]
"""(category of a detection, category of the object that it covers best)."""


class ImageIdError(CocoFileError):
    """Detections of pictures that the ground truth does not have."""


class CategoryIdError(CocoFileError):
    """Detections whose category ids are numbered otherwise than the ground truth's."""


def check_image_ids(truth: GroundTruth, results: Results) -> None:
    """Raise ImageIdError when the ground truth lacks the picture of any detection, as pycocotools does."""
    unknown = [item["image_id"] for item in results.detections if item["image_id"] not in truth.images]
    if not unknown:
        return
    distinct = dict.fromkeys(unknown)
    raise ImageIdError(
        f"{results.shown}: {len(unknown)} of {len(results.detections)} detections belong to {len(distinct)} image ids "
        f"that {truth.shown} does not have (first: {quote(unknown[0])}); "
        f"{_advice(list(distinct), truth.images, all_unknown=len(unknown) == len(results.detections))}"
    )


def _advice(unknown: list[ImageId], images: Mapping[ImageId, ImageEntry], *, all_unknown: bool) -> str:
    first = unknown[0]
    for reading, words in _readings(unknown, images):
        if all(identity in reading for identity in unknown):
            return f"{words}: write {quote(reading[first])} in place of {quote(first)}, and so on"
    positions = range(len(images))
    if all_unknown and all(identity in positions for identity in unknown):
        return "they look like positions in the list 'images'; write the pictures' ids"
    if all_unknown:
        return "are the two files of the same split?"
    return "give the ground truth of all these pictures, or take their detections out"


def _readings(
    unknown: Sequence[ImageId], images: Mapping[ImageId, ImageEntry]
) -> Iterator[tuple[Mapping[ImageId, ImageId], str]]:
    """What could have been written in place of an id: that -> id, in words."""
    numbers = ((text, _number(text)) for text in unknown)
    as_text: dict[ImageId, ImageId] = {text: n for text, n in numbers if n is not None and n in images}
    yield as_text, "they are numbers as text"
    yield _by_number((text, text) for text in images), "the ground truth's ids are text"
    names = [(image.file_name, identity) for identity, image in images.items() if image.file_name is not None]
    yield dict(names), "they are file names"
    yield {PurePath(name).name: identity for name, identity in names}, "they are file names"
    stems = [(PurePath(name).stem, identity) for name, identity in names]
    yield dict(stems), "they are file names without ending"
    yield _by_number(stems), "they are the numbers in the file names"


def _by_number(ids_of_texts: Iterable[tuple[ImageId, ImageId]]) -> dict[ImageId, ImageId]:
    numbers = ((_number(text), identity) for text, identity in ids_of_texts)
    return {number: identity for number, identity in numbers if number is not None}


def _number(text: ImageId) -> int | None:
    """The integer that a text writes; zeros may lead."""
    written = isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS
    return int(text) if written else None


@dataclass(frozen=True, slots=True)
class _Numbering:
    """Another way to number the classes: number in the detections -> category id of the ground truth."""

    words: str
    category: Mapping[int, int]


def check_category_ids(truth: GroundTruth, results: Results) -> list[str]:
    """Warnings about category ids; CategoryIdError when they are numbered otherwise.

    Expects image ids and boxes that have passed their checks: where detections cover objects, the classes of the
    two tell one numbering from another.
    """
    counts: Counter[int] = Counter(item["category_id"] for item in results.detections)
    unknown = sorted(set(counts) - set(truth.categories))
    numberings = _fitting_numberings(sorted(truth.categories), set(counts))
    pairs = _covering_pairs(truth, results) if numberings else []
    shown = next((numbering for numbering in numberings if _is_shown_by(pairs, numbering)), None)
    if shown is not None:
        sentence = _evidence(truth, results, shown, pairs)
        if unknown:
            raise CategoryIdError(sentence)
        return [sentence]
    if not unknown:
        return []
    listed = sum(counts[category] for category in unknown)
    sentence = (
        f"{results.shown}: {listed} of {len(results.detections)} detections have category ids that {truth.shown} does "
        f"not have (first: {unknown[0]})"
    )
    if len(unknown) == len(counts) or (0 in unknown and numberings and not _as_written(pairs)):
        way = f"they look like {numberings[0].words}; " if numberings else ""
        raise CategoryIdError(f"{sentence}; {way}write the ids of its 'categories': {_listing(truth)}")
    return [f"{sentence}; they do not count"]


def _fitting_numberings(categories: Sequence[int], used: set[int]) -> list[_Numbering]:
    """Ways of numbering under which every id that the detections use is a class, and some are others."""
    ways = (
        _Numbering("class indices counted from 0", dict(enumerate(categories))),
        _Numbering("class numbers counted from 1", dict(enumerate(categories, start=1))),
        _Numbering("ids that are one too low", {category - 1: category for category in categories}),
        _Numbering("ids that are one too high", {category + 1: category for category in categories}),
    )
    return [way for way in ways if used <= set(way.category) and any(way.category[number] != number for number in used)]


def _covering_pairs(truth: GroundTruth, results: Results) -> Pairs:
    objects = _by_image(
        item for item in truth.objects if not item["iscrowd"] and item["category_id"] in truth.categories
    )
    detections = _by_image(results.detections)
    both = [image for image in truth.images if image in objects and image in detections]
    pairs: list[tuple[int, int]] = []
    for image in both[:: 1 + len(both) // MOST_PICTURES]:
        overlap = _overlaps(detections[image], objects[image])
        for row, column in enumerate(overlap.argmax(axis=1)):
            if overlap[row, column] >= COVERS:
                pairs.append((detections[image][row]["category_id"], objects[image][column]["category_id"]))
    return pairs


def _overlaps(detections: list[Json], objects: list[Json]) -> npt.NDArray[np.float64]:
    """[detections, objects] IoU."""
    boxes = [np.array([item["bbox"] for item in items], dtype=np.float64) for items in (detections, objects)]
    overlap: npt.NDArray[np.float64] = mask.iou(*boxes, [0] * len(objects))
    return overlap


def _by_image(items: Iterable[Json]) -> dict[ImageId, list[Json]]:
    found: dict[ImageId, list[Json]] = {}
    for item in items:
        found.setdefault(item["image_id"], []).append(item)
    return found


def _share(pairs: Pairs, reading: Callable[[int], int]) -> float:
    return sum(reading(found) == there for found, there in pairs) / len(pairs)


def _telling(pairs: Pairs, numbering: _Numbering) -> Pairs:
    """The pairs on which the numbering and the file as written differ."""
    return [(found, there) for found, there in pairs if numbering.category[found] != found]


def _is_shown_by(pairs: Pairs, numbering: _Numbering) -> bool:
    telling = _telling(pairs, numbering)
    if len(telling) < FEWEST_PAIRS:
        return False
    return _share(telling, lambda n: numbering.category[n]) >= AGREE and _share(telling, lambda n: n) <= DISAGREE


def _as_written(pairs: Pairs) -> bool:
    """Whether the detections agree with the objects that they cover as they stand."""
    return len(pairs) >= FEWEST_PAIRS and _share(pairs, lambda number: number) >= AGREE


def _evidence(truth: GroundTruth, results: Results, numbering: _Numbering, pairs: Pairs) -> str:
    telling = _telling(pairs, numbering)
    example = Counter(found for found, _there in telling).most_common(1)[0][0]
    meant = numbering.category[example]
    return (
        f"{results.shown}: the category ids look like {numbering.words}: of {len(telling)} detections that cover an "
        f"object, {_share(telling, lambda n: numbering.category[n]):.0%} have its class when read so and "
        f"{_share(telling, lambda n: n):.0%} as written; write the ids of {truth.shown}'s 'categories', e.g. {meant} "
        f"({quote(truth.categories[meant])}) in place of {example}"
    )


def _listing(truth: GroundTruth) -> str:
    shown = [f"{category} {quote(name)}" for category, name in list(truth.categories.items())[:5]]
    return ", ".join(shown) + (", ..." if len(truth.categories) > 5 else "")

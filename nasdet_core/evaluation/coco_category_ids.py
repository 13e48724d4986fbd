"""Notices detections whose category ids are not those of the ground truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from nasdet_core.evaluation.coco_json import CocoFileError, quote
from nasdet_core.evaluation.coco_numbering import Numbering, fitting_numberings
from nasdet_core.evaluation.coco_overlap import AGREE, COVERS, DISAGREE, FEWEST, Picture, boxes_of, overlap
from nasdet_core.evaluation.coco_results import Results
from nasdet_core.evaluation.coco_truth import GroundTruth

# Detections with ids that are no class before the file is refused for its numbering: one or two are a slip.
FEWEST_UNKNOWN, SHARE_UNKNOWN = 3, 0.05
_MOST_LISTED = 5

Pairs = Sequence[tuple[int, frozenset[int]]]
"""(category of a detection, categories of all objects that it covers)."""


class CategoryIdError(CocoFileError):
    """Detections whose category ids are numbered otherwise than the ground truth's."""


def check_category_ids(truth: GroundTruth, results: Results, compared: Sequence[Picture]) -> list[str]:
    """Warnings about category ids; CategoryIdError when they are numbered otherwise.

    Expects image ids and boxes that have passed their checks: where detections cover objects, the classes of the
    two tell one numbering from another.
    """
    counts: Counter[int] = Counter(item["category_id"] for item in results.detections)
    unknown = sorted(set(counts) - set(truth.categories))
    numberings = fitting_numberings(
        sorted(truth.categories),
        set(counts),
        from_0="class indices counted from 0",
        from_1="class numbers counted from 1",
    )
    pairs = _covering_pairs(truth, compared) if numberings else []
    listed = sum(counts[category] for category in unknown)
    real = listed >= FEWEST_UNKNOWN and listed >= SHARE_UNKNOWN * len(results.detections)
    shown = next((numbering for numbering in numberings if _is_shown_by(pairs, numbering)), None)
    if shown is not None:
        sentence = _evidence(truth, results, shown, pairs)
        if real:
            raise CategoryIdError(sentence)
        return [sentence]
    if not unknown:
        return []
    sentence = (
        f"{results.shown}: detections with category ids that {truth.shown} does not have: {listed} of "
        f"{len(results.detections)} (first: {unknown[0]})"
    )
    guess = f"; the ids look like {numberings[0].words}" if numberings and len(pairs) < FEWEST else ""
    if len(unknown) == len(counts):
        raise CategoryIdError(f"{sentence}{guess}; write the ids of its 'categories': {_listing(truth)}")
    return [f"{sentence}; they do not count{guess if real else ''}"]


def _covering_pairs(truth: GroundTruth, compared: Sequence[Picture]) -> Pairs:
    pairs: list[tuple[int, frozenset[int]]] = []
    for picture in compared:
        objects = [one for one in picture.objects if not one["iscrowd"] and one["category_id"] in truth.categories]
        if not objects:
            continue
        covered = overlap(boxes_of(picture.detections), objects) >= COVERS
        for detection, row in zip(picture.detections, covered, strict=True):
            below = frozenset(objects[index]["category_id"] for index in np.flatnonzero(row))
            if below:
                pairs.append((detection["category_id"], below))
    return pairs


def _share(pairs: Pairs, reading: Callable[[int], int]) -> float:
    return sum(reading(found) in there for found, there in pairs) / len(pairs)


def _telling(pairs: Pairs, numbering: Numbering) -> Pairs:
    """The pairs on which the numbering and the file as written differ."""
    return [(found, there) for found, there in pairs if numbering.meant[found] != found]


def _is_shown_by(pairs: Pairs, numbering: Numbering) -> bool:
    telling = _telling(pairs, numbering)
    if len(telling) < FEWEST:
        return False
    return _share(telling, lambda n: numbering.meant[n]) >= AGREE and _share(telling, lambda n: n) <= DISAGREE


def _evidence(truth: GroundTruth, results: Results, numbering: Numbering, pairs: Pairs) -> str:
    telling = _telling(pairs, numbering)
    example = Counter(found for found, _there in telling).most_common(1)[0][0]
    meant = numbering.meant[example]
    return (
        f"{results.shown}: the category ids look like {numbering.words}: of {len(telling)} detections that cover an "
        f"object, {_share(telling, lambda n: numbering.meant[n]):.0%} have its class when read so and "
        f"{_share(telling, lambda n: n):.0%} as written; write the ids of {truth.shown}'s 'categories', e.g. {meant} "
        f"({quote(truth.categories[meant])}) in place of {example}"
    )


def _listing(truth: GroundTruth) -> str:
    shown = [f"{category} {quote(name)}" for category, name in list(truth.categories.items())[:_MOST_LISTED]]
    return ", ".join(shown) + (", ..." if len(truth.categories) > _MOST_LISTED else "")

"""Notices detections whose image ids are not those of the ground truth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath

from nasdet_core.evaluation.coco_json import CocoFileError, ImageId, quote
from nasdet_core.evaluation.coco_numbering import Numbering, fitting_numberings
from nasdet_core.evaluation.coco_overlap import AGREE, COVERS, FEWEST, ByImage, boxes_of, overlap, pictures
from nasdet_core.evaluation.coco_results import Results
from nasdet_core.evaluation.coco_truth import GroundTruth, ImageEntry

MOST_DIGITS = 18  # of an id of 64 bits


class ImageIdError(CocoFileError):
    """Detections of pictures that the ground truth does not have."""


def check_image_ids(truth: GroundTruth, results: Results, objects: ByImage, detections: ByImage) -> list[str]:
    """Warnings about image ids; ImageIdError when the ground truth lacks the picture of any, as with pycocotools.

    `objects` and `detections` are those of the two files by image id: where the detections cover nothing in the
    pictures that they name but the objects of others, the pictures are numbered otherwise.
    """
    unknown = [identity for identity in detections if identity not in truth.images]
    ways = _numberings(truth, detections)
    shares = [_shares(way, objects, detections) for way in ways]
    shown = max(zip(shares, ways, strict=True), key=lambda one: one[0], default=None)
    if shown is not None and _is_clear(*shown[0]):
        sentence = _evidence(truth, results, *shown)
        if unknown:
            raise ImageIdError(sentence)
        return [sentence]
    if unknown:
        lacking = sum(len(detections[identity]) for identity in unknown)
        all_unknown = lacking == len(results.detections)
        possible = [way for way, (_read, written, _count) in zip(ways, shares, strict=True) if written < AGREE]
        raise ImageIdError(
            f"{results.shown}: detections of pictures that {truth.shown} does not have: {lacking} of "
            f"{len(results.detections)} (image ids: {len(unknown)}, first: {quote(unknown[0])}); "
            f"{_advice(unknown, truth.images, possible, all_unknown=all_unknown)}"
        )
    return []


def _numberings(truth: GroundTruth, detections: ByImage) -> list[Numbering]:
    used = {identity for identity in detections if isinstance(identity, int)}
    if len(used) < max(2, len(detections)):  # one id alone fits too easily, and text not at all
        return []
    ids = [identity for identity in truth.images if isinstance(identity, int)]
    places = "positions in the list 'images' counted from"
    return fitting_numberings(ids, used, from_0=f"{places} 0", from_1=f"{places} 1")


def _shares(way: Numbering, objects: ByImage, detections: ByImage) -> tuple[float, float, int]:
    """(share of the detections that cover an object when read so, as written, how many were compared)."""
    telling = [(number, identity) for number, identity in way.meant.items() if number != identity]
    read, count = _share(objects, detections, telling)
    written, _ = _share(objects, detections, [(number, number) for number, _identity in telling])
    return read, written, count


def _share(objects: ByImage, detections: ByImage, meant: Sequence[tuple[int, int]]) -> tuple[float, int]:
    compared = pictures(objects, detections, meant)
    count = sum(len(picture.detections) for picture in compared)
    hits = sum(int((overlap(boxes_of(one.detections), one.objects) >= COVERS).any(axis=1).sum()) for one in compared)
    return (hits / count if count else 0.0), count


def _is_clear(read: float, written: float, count: int) -> bool:
    """Three times as many: large objects are covered in the wrong picture as well."""
    return count >= FEWEST and read >= AGREE and written <= read / 3


def _evidence(truth: GroundTruth, results: Results, shares: tuple[float, float, int], way: Numbering) -> str:
    read, written, count = shares
    number = next(one["image_id"] for one in results.detections if way.meant[one["image_id"]] != one["image_id"])
    return (
        f"{results.shown}: the image ids look like {way.words}: of {count} detections compared, {read:.0%} cover an "
        f"object by half (IoU 0.5) when read so and {written:.0%} as written; write the ids of {truth.shown}'s "
        f"'images', e.g. {way.meant[number]} in place of {number}"
    )


def _advice(
    unknown: Sequence[ImageId], images: Mapping[ImageId, ImageEntry], ways: Sequence[Numbering], *, all_unknown: bool
) -> str:
    first = unknown[0]
    for reading, words in _readings(unknown, images):
        if all(identity in reading for identity in unknown):
            return f"{words}: write {quote(reading[first])} in place of {quote(first)}, and so on"
    if ways:
        return f"they look like {ways[0].words}; write the pictures' ids"
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

"""Checks a COCO ground truth (https://cocodataset.org/#format-data) by itself.

What pycocotools needs and a file may lack (`area`, `iscrowd`) is filled in with a warning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from nasdet_core.evaluation.coco_json import (
    FARTHEST_PIXEL,
    BrokenFileError,
    DuplicateIdError,
    ImageId,
    Json,
    SwappedFilesError,
    box_of,
    flag_of,
    id_needed,
    image_id,
    integer_id,
    is_number,
    quote,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """What the ground truth says about a picture; None where it says nothing usable."""

    file_name: str | None
    width: float | None  # pixels
    height: float | None


@dataclass(frozen=True, eq=False, slots=True)
class GroundTruth:
    """A checked ground truth. `objects` holds each annotation with the keys id, image_id, category_id, bbox
    (x, y, width, height), area, iscrowd (0 or 1) and difficult (0 or 1)."""

    shown: str  # how sentences name the file
    images: Mapping[ImageId, ImageEntry]
    categories: Mapping[int, str]  # id -> name, in the order of the ids
    objects: tuple[Json, ...]
    warnings: tuple[str, ...]  # hold for every evaluator
    coco_warnings: tuple[str, ...]  # about what pycocotools makes of the file


def check_gt(content: object, shown: str) -> GroundTruth:
    """Check the content of a ground truth file. Raises a CocoFileError of one sentence."""
    if isinstance(content, list):
        if any(isinstance(entry, dict) and "score" in entry for entry in content[:1]):
            raise SwappedFilesError(
                f"{shown}: expected a COCO ground truth (an object with images, annotations and categories), found a "
                f"list of detections; are the ground truth and the detections swapped?"
            )
        raise BrokenFileError(
            f"{shown}: expected a COCO ground truth (an object with images, annotations and categories), found a list"
        )
    if not isinstance(content, dict):
        raise BrokenFileError(f"{shown}: expected a COCO ground truth (an object), found {quote(content)}")
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise BrokenFileError(f"{shown}: expected a list {key!r} as in COCO's instance files, found none")
    notes = _Notes()
    categories = _categories(content["categories"], shown, notes)
    images = _images(content["images"], shown, notes)
    objects = tuple(_objects(content["annotations"], shown, notes))
    _check_references(objects, images, categories, shown, notes)
    return GroundTruth(shown, images, categories, objects, *notes.sentences(shown))


@dataclass(slots=True)
class _Notes:
    """Counts what is worth a warning, with the first place of each."""

    first: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, place: str) -> None:
        self.first.setdefault(kind, place)
        self.counts[kind] += 1

    def sentences(self, shown: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(for every evaluator, for pycocotools alone)."""

        def say(templates: Mapping[str, str]) -> tuple[str, ...]:
            return tuple(
                f"{shown}: {template.format(n=self.counts[kind], first=self.first[kind])}"
                for kind, template in templates.items()
                if kind in self.counts
            )

        return say(_WARNINGS), say(_COCO_WARNINGS)


_WARNINGS = {
    "same_image": "images listed again with the same entry: {n} (first: {first})",
    "same_category": "categories listed again with the same entry: {n} (first: {first})",
    "no_name": "categories without a name: {n} (first: {first}); the id stands for it",
    "same_name": "categories with the name of another one: {n} (first: {first}); their ids tell them apart here",
    "no_size": "images without width and height: {n} (first: {first}); whether boxes fit them was not checked",
    "foreign_image": "annotations of pictures that 'images' lacks: {n} (first: {first}); they do not count",
    "foreign_category": "annotations of categories that 'categories' lacks: {n} (first: {first}); they do not count",
    "no_objects": "there is no object that counts, so every number is undefined",
}
_COCO_WARNINGS = {
    "no_area": "annotations without 'area': {n} (first: {first}); width * height was taken, by which COCO sorts "
    "objects into small, medium and large",
    "no_iscrowd": "annotations without 'iscrowd': {n} (first: {first}); 0 was taken",
    "id_zero": "an annotation has the id 0 ({first}): pycocotools takes a match with it for no match, so finding it "
    "counts as a false alarm; number annotations from 1",
    "flat_box": "objects with a box without area: {n} (first: {first}); nothing can match them, so they count as "
    "missed",
    "difficult": "annotations marked as difficult: {n} (first: {first}); COCO's numbers count them like any other, "
    "Pascal VOC's leave them out",
    "ignore": "annotations marked with 'ignore': {n} (first: {first}); pycocotools goes by 'iscrowd' alone",
}


def _categories(entries: list[object], shown: str, notes: _Notes) -> dict[int, str]:
    found: dict[int, str] = {}
    for number, entry in enumerate(entries):
        place = f"categories[{number}]"
        identity = integer_id(entry.get("id")) if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or identity is None:
            raise BrokenFileError(
                f"{shown}: {place} needs {id_needed('id', entry.get('id') if isinstance(entry, dict) else entry)}"
            )
        name = entry.get("name")
        if not isinstance(name, str) or not name:
            notes.add("no_name", place)
            name = str(identity)
        if not _add_once(found, identity, _printable(name), f"{shown}: {place}"):
            notes.add("same_category", place)
    if not found:
        raise BrokenFileError(f"{shown}: the list 'categories' is empty; expected at least one class")
    names: set[str] = set()
    for identity, name in found.items():
        if name in names:
            notes.add("same_name", f"{quote(name)}, id {identity}")
        names.add(name)
    return dict(sorted(found.items()))


def _images(entries: list[object], shown: str, notes: _Notes) -> dict[ImageId, ImageEntry]:
    found: dict[ImageId, ImageEntry] = {}
    for number, entry in enumerate(entries):
        place = f"images[{number}]"
        identity = image_id(entry.get("id")) if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or identity is None:
            raise BrokenFileError(
                f"{shown}: {place} needs {id_needed('id', entry.get('id') if isinstance(entry, dict) else entry)}"
            )
        name, width, height = entry.get("file_name"), _side(entry.get("width")), _side(entry.get("height"))
        if width is None or height is None:
            notes.add("no_size", place)
        image = ImageEntry(name if isinstance(name, str) and name else None, width, height)
        if not _add_once(found, identity, image, f"{shown}: {place}"):
            notes.add("same_image", place)
    if not found:
        raise BrokenFileError(f"{shown}: the list 'images' is empty; expected at least one picture")
    if len({type(identity) for identity in found}) > 1:
        raise BrokenFileError(f"{shown}: some image ids are integers and some are text; write all of them alike")
    return found


def _add_once(found: dict[Any, T], identity: ImageId, value: T, where: str) -> bool:
    """Enter a value under its id. False when the same is there already; another one is an error."""
    if identity not in found:
        found[identity] = value
        return True
    if found[identity] != value:
        raise DuplicateIdError(
            f"{where} has the id {quote(identity)}, which an earlier entry with other content has as well; ids must "
            f"be unique"
        )
    return False


def _objects(entries: list[object], shown: str, notes: _Notes) -> Iterator[Json]:
    seen: set[int] = set()
    repeated: list[int] = []
    for number, entry in enumerate(entries):
        place = f"annotations[{number}]"
        if not isinstance(entry, dict):
            raise BrokenFileError(f"{shown}: {place} must be an object, found {quote(entry)}")
        item = _object(entry, f"{shown}: {place}")
        if item["id"] in seen:
            repeated.append(item["id"])
        seen.add(item["id"])
        _note_object(entry, item, f"{place}, id {item['id']}", notes)
        yield item
    if repeated:
        raise DuplicateIdError(
            f"{shown}: annotations with an id that an earlier one has as well: {len(repeated)} (first: {repeated[0]}); "
            f"pycocotools would take one object for the other, so number the annotations anew from 1"
        )


def _object(entry: Json, where: str) -> Json:
    identity, category = integer_id(entry.get("id")), integer_id(entry.get("category_id"))
    image = image_id(entry.get("image_id"))
    for key, value in (("id", identity), ("image_id", image), ("category_id", category)):
        if value is None:
            raise BrokenFileError(f"{where} needs {id_needed(key, entry.get(key))}")
    box = box_of(entry, where)
    area = entry.get("area")
    if area is not None and not is_number(area):
        raise BrokenFileError(f"{where}: 'area' must be a finite number, found {quote(area)}")
    return {
        "id": identity,
        "image_id": image,
        "category_id": category,
        "bbox": box,
        "area": box[2] * box[3] if area is None else area,
        "iscrowd": flag_of(entry, "iscrowd", where),
        "difficult": flag_of(entry, "difficult", where),
    }


def _note_object(entry: Json, item: Json, place: str, notes: _Notes) -> None:
    for kind, noted in (
        ("no_area", entry.get("area") is None),
        ("no_iscrowd", entry.get("iscrowd") is None),
        ("id_zero", item["id"] == 0),
        ("flat_box", min(item["bbox"][2:]) <= 0 and not item["iscrowd"]),
        ("difficult", item["difficult"]),
        ("ignore", bool(entry.get("ignore")) and not item["iscrowd"]),
    ):
        if noted:
            notes.add(kind, place)


def _check_references(
    objects: tuple[Json, ...],
    images: Mapping[ImageId, ImageEntry],
    categories: Mapping[int, str],
    shown: str,
    notes: _Notes,
) -> None:
    counting = 0
    for number, item in enumerate(objects):
        place = f"annotations[{number}], id {item['id']}"
        if item["image_id"] not in images:
            notes.add("foreign_image", f"{place}: image {quote(item['image_id'])}")
        elif item["category_id"] not in categories:
            notes.add("foreign_category", f"{place}: category {item['category_id']}")
        else:
            counting += not item["iscrowd"]
    if objects and notes.counts["foreign_image"] == len(objects):
        raise BrokenFileError(
            f"{shown}: no annotation ({len(objects)} in all) belongs to a picture of 'images' "
            f"(first: {notes.first['foreign_image']}); are 'images' and 'annotations' of the same data?"
        )
    if objects and notes.counts["foreign_category"] == len(objects):
        raise BrokenFileError(
            f"{shown}: no annotation ({len(objects)} in all) has a category of 'categories' "
            f"(first: {notes.first['foreign_category']}); are both lists of the same data?"
        )
    if counting == 0:
        notes.add("no_objects", "")


def _side(value: object) -> float | None:
    usable = isinstance(value, int | float) and is_number(value) and 0 < value <= FARTHEST_PIXEL
    return float(value) if usable else None  # type: ignore[arg-type]  # `usable` guards it


def _printable(name: str) -> str:
    """A name that can be written as UTF-8, whatever escapes the JSON held."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")

"""COCO reader (Lin et al. 2014, arXiv:1405.0312): annotations/instances_SPLIT.json with the pictures in
SPLIT/.

`bbox` (x, y, width, height) becomes (x, y, x + width, y + height); `area` is the file's own (the mask's
area, by which COCO sorts objects into small, medium and large); `iscrowd` is kept. Classes are the
categories in the order of their ids.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from nasdet_core.data.boxes import ObjectList
from nasdet_core.data.defects import DefectLog
from nasdet_core.data.in_memory import Dataset, ImageRecord, Progress
from nasdet_core.data.pictures import inside
from nasdet_core.data.splits import drop_repeated, no_boxes_left
from nasdet_core.errors import DatasetError

_PREFIX = "instances_"


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    shown: str
    split: str
    suffix: str  # as in the file's name: 'train2017'
    content: Mapping[str, Any]


def coco_files(root: Path) -> list[Path]:
    """The instance files of a dataset whose root is `root`."""
    folder = root / "annotations"
    return sorted(folder.glob(f"{_PREFIX}*.json")) if folder.is_dir() else []


def split_name(suffix: str) -> str:
    """'train2017' -> 'train', 'minival2014' -> 'val', 'valid' -> 'val'; any other name stays as it is."""
    word = re.sub(r"[\W_]*\d*$", "", suffix.lower()) or suffix
    known = {"valid": "val", "validation": "val", "minival": "val", "dev": "val", "testdev": "test"}
    return known.get(word, word)


def read_coco(root: Path, *, progress: Progress | None = None) -> Dataset:
    log = DefectLog()
    files = [_load(path) for path in coco_files(root)]
    _check_one_file_per_split(files)
    categories = _categories(files)
    total = sum(len(file.content["images"]) for file in files)
    done = 0
    splits: dict[str, tuple[ImageRecord, ...]] = {}
    label_of = {category: label for label, category in enumerate(sorted(categories))}
    for file in sorted(files, key=lambda item: item.split):
        splits[file.split] = _records(root, file, label_of, log)
        done += len(file.content["images"])
        if progress is not None:
            progress(done, total)
    splits = drop_repeated(splits, log)
    if no_boxes_left(splits):
        reason = log.first() or "the annotation files hold no boxes"
        raise DatasetError(f"no usable picture with a box is left in {root}; first reason: {reason}")
    return Dataset(
        root=root,
        class_names=tuple(categories[category] for category in sorted(categories)),
        category_ids=tuple(sorted(categories)),
        splits=splits,
        source_format="coco",
        defects=log.defects(),
        sources=tuple(file.shown for file in files),
    )


def _load(path: Path) -> _File:
    shown = f"annotations/{path.name}"
    try:
        content = json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        raise DatasetError(f"{shown} line {error.lineno} column {error.colno}: broken JSON ({error.msg})") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{shown}: broken JSON (not UTF-8 text: {error.reason} at byte {error.start})") from error
    except (RecursionError, ValueError) as error:  # nested too deeply; a number of thousands of digits
        raise DatasetError(f"{shown}: broken JSON ({error})") from error
    except OSError as error:
        raise DatasetError(f"{shown} cannot be read: {error.strerror or error}") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{shown}: expected a JSON object with images, annotations and categories, found a list")
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise DatasetError(f"{shown}: expected a list {key!r} as in COCO's instance files, found none")
    suffix = path.stem.removeprefix(_PREFIX)
    return _File(path, shown, split_name(suffix), suffix, content)


def _check_one_file_per_split(files: list[_File]) -> None:
    seen: dict[str, str] = {}
    for file in files:
        if file.split in seen:
            raise DatasetError(
                f"{seen[file.split]} and {file.shown} both are the {file.split!r} split; leave one of them"
            )
        seen[file.split] = file.shown


def _categories(files: list[_File]) -> dict[int, str]:
    found: dict[int, str] = {}
    for file in files:
        for number, entry in enumerate(file.content["categories"]):
            identity = entry.get("id") if isinstance(entry, dict) else None
            name = entry.get("name") if isinstance(entry, dict) else None
            if not _is_int(identity) or not isinstance(name, str) or not name:
                raise DatasetError(f"{file.shown}: categories[{number}] needs an integer 'id' and a 'name'")
            if found.setdefault(identity, name) != name:
                raise DatasetError(
                    f"{file.shown}: category {identity} is {name!r} here and {found[identity]!r} elsewhere"
                )
    if not found:
        raise DatasetError(f"{files[0].shown}: the list 'categories' is empty; expected at least one class")
    if len(set(found.values())) != len(found):
        raise DatasetError(f"{files[0].shown}: two categories have the same name; every class needs its own")
    return found


def _records(root: Path, file: _File, label_of: Mapping[int, int], log: DefectLog) -> tuple[ImageRecord, ...]:
    folder = _picture_folder(root, file)
    lists: dict[int, ObjectList] = {}
    images: dict[int, tuple[str, int, int]] = {}
    known: set[int] = set()
    for number, entry in enumerate(file.content["images"]):
        image = _image(entry, f"{file.shown}: images[{number}]", log)
        if image is None:
            continue
        identity, name, width, height = image
        if identity in known:
            log.add("repeated_image_id", f"{file.shown}: image id {identity} occurs again for {name}")
            continue
        known.add(identity)
        path = f"{folder}/{name}" if folder else name
        if not inside(path) or not os.path.isfile(root / path):  # isfile: False, not an error, for absurd names
            log.add("missing_picture", f"{file.shown}: the picture {path} is missing")
            continue
        images[identity] = (path, width, height)
        lists[identity] = ObjectList(path, width, height, log)
    for number, entry in enumerate(file.content["annotations"]):
        _add_object(entry, f"{file.shown}: annotations[{number}]", lists, known, label_of, log)
    return tuple(ImageRecord(*images[identity], lists[identity].annotation()) for identity in sorted(images))


def _picture_folder(root: Path, file: _File) -> str:
    """Where the pictures lie below root: SUFFIX/, images/SUFFIX/, SPLIT/, images/SPLIT/ or images/."""
    names = dict.fromkeys((file.suffix, f"images/{file.suffix}", file.split, f"images/{file.split}", "images"))
    for name in names:
        if (root / name).is_dir():
            return name
    if not file.content["images"]:
        return ""
    raise DatasetError(f"expected the pictures of {file.shown} in {root / file.suffix}, but there is no such folder")


def _image(entry: object, shown: str, log: DefectLog) -> tuple[int, str, int, int] | None:
    if isinstance(entry, dict):
        identity, name = entry.get("id"), entry.get("file_name")
        width, height = entry.get("width"), entry.get("height")
        named = isinstance(name, str) and bool(name)
        if named and _is_int(identity) and _is_int(width) and _is_int(height) and min(width, height) > 0:
            return identity, str(name), width, height
    log.add(
        "broken_image_entry",
        f"{shown} needs an integer 'id', a 'file_name', and a positive 'width' and 'height'",
    )
    return None


def _add_object(
    entry: object,
    shown: str,
    lists: Mapping[int, ObjectList],
    known: set[int],
    label_of: Mapping[int, int],
    log: DefectLog,
) -> None:
    box = entry.get("bbox") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        log.add("broken_box", f"{shown} needs a 'bbox' of four numbers (x, y, width, height)")
        return
    image, category = entry.get("image_id"), entry.get("category_id")
    if not _is_int(image) or image not in known:
        log.add("annotation_without_picture", f"{shown} belongs to image id {image!r}, which is not in 'images'")
        return
    if not _is_int(category) or category not in label_of:
        log.add("unknown_class", f"{shown} has category_id {category!r}, which is not in 'categories'")
        return
    if image not in lists:  # its picture is missing, which has been said
        return
    x, y, width, height = (float(value) for value in box)
    area = entry.get("area")
    lists[image].add(
        xyxy=(x, y, x + width, y + height),
        xywh=(x, y, width, height),
        label=label_of[category],
        shown=shown,
        crowd=bool(entry.get("iscrowd")),
        area=float(area) if _is_number(area) else None,
    )


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, float) or (_is_int(value) and abs(value) < 2**53)

"""COCO reader (Lin et al. 2014, arXiv:1405.0312); `coco_layout` has found the files.

`bbox` (x, y, width, height) in pixels; `area` is the file's own (the mask's, by which COCO sorts objects into small,
medium and large); `iscrowd` is kept, and `difficult`, which our own files carry over from VOC. Classes are the
categories in the order of their ids. An entry that is broken costs itself, whatever the size of the file.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from nasdet_core.data.defects import DefectLog
from nasdet_core.data.in_memory import Progress
from nasdet_core.data.pictures import inside
from nasdet_core.data.readers.coco_layout import CocoFile, CocoFiles, repeated_splits
from nasdet_core.data.readers.json_stream import Broken, Entry, JsonLists
from nasdet_core.data.readers.picture_index import PictureIndex
from nasdet_core.data.readers.raw import RawDataset, RawObjects, RawPicture, RawSplit
from nasdet_core.errors import DatasetError

_LISTS = ("images", "annotations", "categories")
_ODD_INTEGER = -(2**62)  # stands for "no integer" in a column


def read_coco(
    found: CocoFiles, *, log: DefectLog, progress: Progress | None = None, need_pictures: bool = True
) -> RawDataset:
    """Read every instance file. `need_pictures` False takes the entries' own word for what pictures there are."""
    contents = _read_files(found, log, progress)
    classes = _classes(contents, log)
    index = PictureIndex(found.root) if need_pictures else None
    splits = tuple(_split(content, classes.label_of[content.file.shown], index, log) for content in contents)
    return RawDataset(
        root=found.root,
        source_format="coco",
        layout=found.layout,
        box_form="xywh",
        class_names=classes.names,
        category_ids=classes.ids,
        splits=splits,
        sources=tuple(content.file.shown for content in contents),
        defects=log.defects(),
        notes={"unlisted_pictures": _unlisted(splits, index)} if index is not None else None,
    )


def _unlisted(splits: Sequence[RawSplit], index: PictureIndex) -> int:
    """Pictures that lie beside listed ones and are in no file."""
    listed = {picture.file for split in splits for picture in split.pictures}
    folders = {file.rpartition("/")[0] for file in listed}
    return sum(file not in listed for folder in folders for file in index.pictures(folder))


@dataclass(eq=False, slots=True)
class _Content:
    """The entries of one file, in columns; lines and numbers are kept for the sentences."""

    file: CocoFile
    images: list[tuple[int, str, tuple[int, int] | None, int]] = field(default_factory=list)  # id, name, size, line
    categories: list[tuple[int, Any]] = field(default_factory=list)  # number, entry
    image: array[int] = field(default_factory=lambda: array("q"))
    category: array[int] = field(default_factory=lambda: array("q"))
    identity: array[int] = field(default_factory=lambda: array("q"))
    boxes: array[float] = field(default_factory=lambda: array("d"))
    area: array[float] = field(default_factory=lambda: array("d"))
    flags: bytearray = field(default_factory=bytearray)  # 1 crowd, 2 difficult
    number: array[int] = field(default_factory=lambda: array("q"))
    line: array[int] = field(default_factory=lambda: array("q"))
    broken_of: set[int] = field(default_factory=set)  # ids of images with objects that cannot be used

    def place(self, row: int) -> str:
        return _place(self.file.shown, self.line[row], self.number[row], self.identity[row])


def _place(shown: str, line: int, number: int, identity: int) -> str:
    known = "" if identity == _ODD_INTEGER else f" (id {identity})"
    return f"{shown} line {line}: annotations[{number}]{known}"


def _read_files(found: CocoFiles, log: DefectLog, progress: Progress | None) -> list[_Content]:
    repeated = next(iter(repeated_splits(found.files)), None)
    if repeated is not None:
        first, second = [file.shown for file in found.files if file.split == repeated][:2]
        raise DatasetError(f"{first} and {second} both are the {repeated!r} split; leave one of them")
    contents = []
    total = sum(_size(found.root / file.shown) for file in found.files)
    before = 0
    for file in sorted(found.files, key=lambda item: item.split):

        def read(done: int, _size: int, before: int = before) -> None:
            if progress is not None:
                progress(before + done, total)

        content = _read_file(found.root, file, log, read)
        before += _size(found.root / file.shown)
        if content is not None:
            contents.append(content)
    if not contents:
        raise DatasetError(f"no annotation file in {found.root} can be used; first reason: {log.first()}")
    return contents


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _read_file(root: Path, file: CocoFile, log: DefectLog, progress: Progress) -> _Content | None:
    """None when the file as a whole cannot be used; of the train split that is an error."""
    content = _Content(file)
    lists = JsonLists(root / file.shown, file.shown, _LISTS, progress)
    try:
        for entry in lists:
            if isinstance(entry, Broken):
                rest = "; nothing after it can be read" if entry.ends else "; reading goes on behind it"
                log.add("broken_json", f"{file.shown} {entry.where}: broken JSON ({entry.reason}){rest}")
            elif entry.key == "annotations":
                _take_annotation(content, entry, log)
            elif entry.key == "images":
                _take_image(content, entry, log)
            else:
                content.categories.append((entry.number, entry.value))
        missing = [key for key in _LISTS if key not in lists.found]
        if missing:
            raise DatasetError(
                f"{file.shown}: expected a list {missing[0]!r} as in COCO's instance files, found none"
                + (f"; {log.first()}" if log.first() else "")
            )
    except DatasetError as error:
        if file.split in ("train", "all"):
            raise
        log.add("broken_json", f"{error}; the split {file.split!r} is left out")
        return None
    return content


def _take_image(content: _Content, entry: Entry, log: DefectLog) -> None:
    value = entry.value
    if isinstance(value, dict):
        identity, name = value.get("id"), value.get("file_name")
        if isinstance(name, str) and name and _is_int(identity):
            width, height = _whole(value.get("width")), _whole(value.get("height"))
            size = (width, height) if width > 0 and height > 0 else None
            content.images.append((identity, name, size, entry.line))
            return
    log.add(
        "broken_image_entry",
        f"{content.file.shown} line {entry.line}: images[{entry.number}] needs an integer 'id' and a 'file_name'",
    )


def _take_annotation(content: _Content, entry: Entry, log: DefectLog) -> None:
    value = entry.value
    if not isinstance(value, dict):
        _broken_box(content, entry, _ODD_INTEGER, log)
        return
    identity = value.get("id")
    if not _is_int(identity):
        identity = _ODD_INTEGER
    box = value.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        _broken_box(content, entry, identity, log)
        return
    image, category, area = value.get("image_id"), value.get("category_id"), value.get("area")
    if not _is_int(image):
        where = _place(content.file.shown, entry.line, entry.number, identity)
        log.add("annotation_without_picture", f"{where} belongs to image id {image!r}, which is not in 'images'")
        return
    if not _is_int(category):
        content.broken_of.add(image)
        where = _place(content.file.shown, entry.line, entry.number, identity)
        log.add("unknown_class", f"{where} has category_id {category!r}, which is not in 'categories'")
        return
    content.image.append(image)
    content.category.append(category)
    content.identity.append(identity)
    content.boxes.extend(box)
    content.area.append(_usable_area(area, content, entry, identity, log))
    content.flags.append(_is_set(value.get("iscrowd")) + 2 * _is_set(value.get("difficult")))
    content.number.append(entry.number)
    content.line.append(entry.line)


def _usable_area(area: object, content: _Content, entry: Entry, identity: int, log: DefectLog) -> float:
    """NaN, which stands for the box's own area, where the file gives none or no area that an object can have."""
    _x, _y, width, height = entry.value["bbox"]
    if area is None or width <= 0 or height <= 0:  # what is wrong with such a box is said of the box
        return math.nan
    if _is_number(area) and math.isfinite(area) and area > 0:
        return float(area)
    where = _place(content.file.shown, entry.line, entry.number, identity)
    log.add("broken_area", f"{where}: 'area' is {str(area)[:40]}, no number of pixels; that of its box is used")
    return math.nan


def _is_set(flag: object) -> bool:
    """`iscrowd` and `difficult` are 0 or 1; some tools write them as text or booleans."""
    return flag in (1, True, "1", "true", "True")


def _broken_box(content: _Content, entry: Entry, identity: int, log: DefectLog) -> None:
    image = entry.value.get("image_id") if isinstance(entry.value, dict) else None
    if _is_int(image):
        content.broken_of.add(image)
    where = _place(content.file.shown, entry.line, entry.number, identity)
    log.add("broken_box", f"{where} needs a 'bbox' of four numbers (x, y, width, height)")


@dataclass(frozen=True, eq=False, slots=True)
class _Classes:
    """The classes of the dataset, matched by name over all files."""

    names: tuple[str, ...]
    ids: tuple[int, ...]  # rising; the id of each class where it was first met
    label_of: Mapping[str, Mapping[int, int]]  # file -> category id there -> class index


def _classes(contents: Sequence[_Content], log: DefectLog) -> _Classes:
    """Categories of one name are one class, whatever their ids; the train split's ids go before those of others."""
    ids_in = {content.file.shown: _named_categories(content, log) for content in contents}
    ordered = sorted(contents, key=lambda content: content.file.split != "train")
    id_of: dict[str, int] = {}
    for content in ordered:
        for identity, name in ids_in[content.file.shown].items():
            if name not in id_of:
                taken = set(id_of.values())
                id_of[name] = identity if identity not in taken else max(taken) + 1
    if not id_of:
        raise DatasetError(
            f"{contents[0].file.shown}: the list 'categories' names no class (an integer 'id' and a 'name' each); "
            "expected at least one"
        )
    names = sorted(id_of, key=id_of.__getitem__)
    label = {name: number for number, name in enumerate(names)}
    everywhere = {identity: label[name] for name, identity in id_of.items()}
    label_of = {}
    for shown, ids in ids_in.items():
        own = {identity: label[name] for identity, name in ids.items()}
        # A file whose ids are those of the others may lack some: its list of categories may be cut off.
        agrees = all(everywhere.get(identity, number) == number for identity, number in own.items())
        label_of[shown] = {**everywhere, **own} if agrees else own
    _report_ids(ids_in, id_of, log)
    return _Classes(tuple(names), tuple(id_of[name] for name in names), label_of)


def _named_categories(content: _Content, log: DefectLog) -> dict[int, str]:
    """Category id -> name in one file. An unused category that has the name of another one is left out."""
    shown = content.file.shown
    found: dict[int, str] = {}
    for number, entry in content.categories:
        identity = entry.get("id") if isinstance(entry, dict) else None
        name = entry.get("name") if isinstance(entry, dict) else None
        if not _is_int(identity) or not isinstance(name, str) or not name.strip():
            log.add("broken_category", f"{shown}: categories[{number}] needs an integer 'id' and a 'name'")
        elif identity in found and found[identity] != name:
            raise DatasetError(
                f"{shown}: category {identity} is {found[identity]!r} and {name!r}; give each its own id"
            )
        else:
            found[identity] = name
    used = set(content.category)
    count = Counter(found.values())
    for name in sorted(name for name, times in count.items() if times > 1):
        same = sorted(identity for identity, other in found.items() if other == name)
        kept = [identity for identity in same if identity in used] or same[-1:]
        for identity in set(same) - set(kept):
            del found[identity]
        what = "the unused ones are left out" if len(kept) == 1 else "they are taken as one class"
        log.add("repeated_category", f"{shown}: the categories {', '.join(map(str, same))} are all {name!r}; {what}")
    return found


def _report_ids(ids_in: Mapping[str, Mapping[int, str]], id_of: Mapping[str, int], log: DefectLog) -> None:
    for shown, names in ids_in.items():
        own: dict[str, list[int]] = {}
        for identity, name in names.items():
            own.setdefault(name, []).append(identity)
        other = next((name for name, there in own.items() if id_of[name] not in there), None)
        if other is not None:
            log.add(
                "category_ids_differ",
                f"{shown}: category {other!r} is {own[other][0]} here and {id_of[other]} elsewhere; "
                "classes are matched by name",
            )
    ids = sorted(id_of.values())
    if ids != list(range(1, len(ids) + 1)):
        gaps = " with gaps" if ids != list(range(ids[0], ids[0] + len(ids))) else ""
        log.add(
            "category_ids_mapped",
            f"the category ids {ids[0]} to {ids[-1]}{gaps} are mapped to the class numbers 0 to {len(ids) - 1} "
            "(class_map in the report)",
        )


# --- one split -------------------------------------------------------------------------------------------------------


def _split(content: _Content, label_of: Mapping[int, int], index: PictureIndex | None, log: DefectLog) -> RawSplit:
    pictures, position_of = _pictures(content, index, log)
    rows: list[int] = []
    positions: list[int] = []
    labels: list[int] = []
    for row, (image, category) in enumerate(zip(content.image, content.category, strict=True)):
        position = position_of.get(image)
        if position is None:
            reason = f"belongs to image id {image}, which is not in 'images'"
            log.add("annotation_without_picture", f"{content.place(row)} {reason}")
        elif category not in label_of:
            content.broken_of.add(image)
            reason = f"has category_id {category}, which is not in 'categories'"
            log.add("unknown_class", f"{content.place(row)} {reason}")
        elif position >= 0:  # else its picture is missing, which has been said
            rows.append(row)
            positions.append(position)
            labels.append(label_of[category])
    _report_repeated_ids(content, log)
    chosen = np.array(rows, dtype=np.int64)
    flags = np.frombuffer(bytes(content.flags), dtype=np.uint8)[chosen]
    objects = RawObjects(
        picture=np.array(positions, dtype=np.int64),
        boxes=np.frombuffer(content.boxes, dtype=np.float64).reshape(-1, 4)[chosen],
        labels=np.array(labels, dtype=np.int64),
        crowd=(flags & 1) > 0,
        difficult=(flags & 2) > 0,
        truncated=np.zeros(len(chosen), dtype=bool),
        area=np.frombuffer(content.area, dtype=np.float64)[chosen],
    )
    broken = frozenset(position_of[image] for image in content.broken_of if image in position_of)
    return RawSplit(content.file.split, tuple(pictures), objects, lambda row: content.place(rows[row]), broken)


def _pictures(content: _Content, index: PictureIndex | None, log: DefectLog) -> tuple[list[RawPicture], dict[int, int]]:
    """The pictures in the order of their ids, and where each image id stands among them; -1: its picture is missing."""
    shown = content.file.shown
    files = _picture_files(content, index, log)
    position_of: dict[int, int] = {}
    first_of: dict[str, int] = {}  # file -> image id
    pictures: list[RawPicture] = []
    for number, (identity, name, size, line) in sorted(enumerate(content.images), key=lambda item: item[1][0]):
        if identity in position_of:
            log.add(
                "repeated_image_id",
                f"{shown} line {line}: image id {identity} occurs again for {name}; this entry is left out",
            )
            continue
        position_of[identity] = -1
        file = files[number]
        if file is None:
            log.add("missing_picture", f"{shown} line {line}: {_missing(content, name)}")
        elif file in first_of:
            log.add(
                "picture_listed_twice",
                f"{shown} line {line}: picture {file} is listed again as image {identity} (first as "
                f"{first_of[file]}); the second entry is left out with its objects",
            )
        else:
            first_of[file] = identity
            position_of[identity] = len(pictures)
            pictures.append(RawPicture(file, size, shown, no_size=size is None))
    return pictures, position_of


def _picture_files(content: _Content, index: PictureIndex | None, log: DefectLog) -> list[str | None]:
    """The file of each entry. A name that is there goes before one that is only like it, over all folders."""
    names = [name for _identity, name, _size, _line in content.images]
    if index is None:
        return list(names)
    folders = _likeliest_first(names, content.file.folders, index)
    files = [_exact(index, folders, name) for name in names]
    taken = {file for file in files if file is not None}
    for number, name in enumerate(names):
        if files[number] is None:
            alike = (index.find(folder, form) for form in (name, _base_name(name)) for folder in folders)
            found = next((hit for hit in alike if hit is not None and hit.file not in taken), None)
            if found is not None:
                files[number] = found.file
                taken.add(found.file)
                line = content.images[number][3]
                remark = found.remark or f"the file lists {name[:200]}, found as {found.file}"
                log.add("picture_name_differs", f"{content.file.shown} line {line}: {remark}")
    return files


def _base_name(name: str) -> str:
    """What is left of an address or of a path on another computer."""
    return name.replace("\\", "/").rpartition("/")[2]


def _exact(index: PictureIndex, folders: Sequence[str], name: str) -> str | None:
    for folder in folders:
        found = index.find(folder, name)
        if found is not None and found.remark is None:
            return found.file
    return None


def _missing(content: _Content, name: str) -> str:
    folders = content.file.folders
    path = f"{folders[0]}/{name}" if folders and folders[0] else name
    outside = "" if inside(name) else "; the name leads out of the dataset"
    return f"the picture {path[:300]} is missing{outside}"


def _likeliest_first(names: Sequence[str], folders: Sequence[str], index: PictureIndex) -> tuple[str, ...]:
    """Those folders first that hold the first pictures."""
    hits = {folder: sum(index.find(folder, name) is not None for name in names[:20]) for folder in folders}
    return tuple(sorted(folders, key=lambda folder: -hits[folder]))


def _report_repeated_ids(content: _Content, log: DefectLog) -> None:
    identities = np.frombuffer(content.identity, dtype=np.int64)
    known = identities[identities != _ODD_INTEGER]
    if len(known) == len(np.unique(known)):
        return
    seen: set[int] = set()
    for row, identity in enumerate(identities.tolist()):
        if identity in seen and identity != _ODD_INTEGER:
            log.add("repeated_annotation_id", f"{content.place(row)}: this id occurs before; both objects are used")
        seen.add(identity)


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**62


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, float) or (_is_int(value) and abs(value) < 2**53)


def _whole(value: object) -> int:
    """A size in pixels; some tools write 640.0. Zero for everything else."""
    if _is_int(value):
        return value
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**31 else 0

"""Pascal VOC reader (Everingham et al. 2010, "The PASCAL Visual Object Classes (VOC) Challenge").

A devkit folder has Annotations/NAME.xml, JPEGImages/NAME.jpg and
ImageSets/Main/{train,val,trainval,test}.txt. Without ImageSets every annotation belongs to one set called
'all'. `<folder>`, `<path>` and `<filename>` inside the XML are ignored: they describe the annotator's
computer. Coordinates are kept exactly as written, see `in_memory`.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nasdet_core.data.boxes import ObjectList
from nasdet_core.data.defects import DefectLog
from nasdet_core.data.in_memory import Dataset, ImageRecord, Progress
from nasdet_core.data.pictures import SUFFIXES, header_size, inside
from nasdet_core.data.safe_xml import parse_xml
from nasdet_core.data.splits import drop_repeated, no_boxes_left
from nasdet_core.errors import DatasetError

_Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class _Object:
    name: str
    xyxy: _Box
    difficult: bool


@dataclass(frozen=True, slots=True)
class _Picture:
    file: str
    width: int
    height: int
    xml: str
    objects: tuple[_Object, ...]


def is_voc(root: Path) -> bool:
    """Whether `root` is the devkit folder itself."""
    folder = root / "Annotations"
    return folder.is_dir() and (
        (root / "ImageSets" / "Main").is_dir() or any(path.suffix == ".xml" for path in folder.iterdir())
    )


def read_voc(root: Path, *, class_names: Sequence[str] | None = None, progress: Progress | None = None) -> Dataset:
    log = DefectLog()
    lists, sources = _split_lists(root, log)
    pictures = _read_pictures(root, sorted({name for names in lists.values() for name in names}), log, progress)
    found = sorted({item.name for picture in pictures.values() for item in picture.objects})
    names = tuple(class_names) if class_names is not None else tuple(found)
    index = {name: position for position, name in enumerate(names)}
    records = {stem: _record(picture, index, log) for stem, picture in pictures.items()}
    splits = {split: tuple(records[stem] for stem in stems if stem in records) for split, stems in lists.items()}
    splits = drop_repeated(splits, log)
    if no_boxes_left(splits):
        reason = log.first() or "the annotation files name no objects"
        raise DatasetError(f"no usable picture with a box is left in {root}; first reason: {reason}")
    return Dataset(
        root=root,
        class_names=names,
        category_ids=tuple(range(1, len(names) + 1)),
        splits=splits,
        source_format="voc",
        defects=log.defects(),
        sources=tuple(sorted({*sources, *(picture.xml for picture in pictures.values())})),
    )


def _split_lists(root: Path, log: DefectLog) -> tuple[dict[str, list[str]], list[str]]:
    folder = root / "ImageSets" / "Main"
    lists: dict[str, list[str]] = {}
    sources: list[str] = []
    available: set[str] = {name for name in ("train", "val", "trainval", "test") if (folder / f"{name}.txt").is_file()}
    # trainval is train + val again: it is read only where it is not already there in parts
    wanted: dict[str, str] = {name: name for name in ("train", "val", "test") if name in available}
    if "trainval" in available and "train" not in available:
        wanted = {"train": "trainval", **({"test": "test"} if "test" in available else {})}
    for split, listed in wanted.items():
        file = f"ImageSets/Main/{listed}.txt"
        names = _names(root / file, file, log)
        if names:
            lists[split] = names
            sources.append(file)
        else:
            log.add("empty_split", f"{file} names no picture")
    if not lists:
        lists["all"] = sorted(path.stem for path in (root / "Annotations").iterdir() if path.suffix == ".xml")
    return lists, sources


def _names(path: Path, shown: str, log: DefectLog) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{shown} cannot be read as a text file of picture names: {error}") from error
    names: set[str] = set()
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        if not inside(words[0]) or "/" in words[0]:
            log.add("broken_split_line", f"{shown} line {number}: {words[0]!r} is not a picture's name")
            continue
        names.add(words[0])
    return sorted(names)


def _read_pictures(root: Path, stems: Sequence[str], log: DefectLog, progress: Progress | None) -> dict[str, _Picture]:
    files = _picture_files(root)
    pictures: dict[str, _Picture] = {}
    for done, stem in enumerate(stems, start=1):
        xml = f"Annotations/{stem}.xml"
        if stem not in files:
            log.add("missing_picture", f"{xml}: there is no picture JPEGImages/{stem}.jpg")
        elif not (root / xml).is_file():
            log.add("missing_annotation", f"picture {files[stem]} is in a split list but has no {xml}")
        else:
            try:
                pictures[stem] = _read_picture(root, files[stem], xml, log)
            except DatasetError as error:
                log.add("broken_annotation", str(error))
        if progress is not None:
            progress(done, len(stems))
    return pictures


def _picture_files(root: Path) -> dict[str, str]:
    folder = root / "JPEGImages"
    if not folder.is_dir():
        raise DatasetError(f"expected the pictures of the VOC dataset in {folder}, but there is no such folder")
    names = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    return {Path(name).stem: f"JPEGImages/{name}" for name in reversed(names)}


def _read_picture(root: Path, file: str, xml: str, log: DefectLog) -> _Picture:
    tree = parse_xml(root / xml, xml)
    if tree.tag != "annotation":
        raise DatasetError(f"{xml}: expected <annotation> at the top, found <{tree.tag}>")
    width, height = (_size(tree, key) for key in ("width", "height"))
    if width <= 0 or height <= 0:  # some tools leave the size out or write zeros
        width, height = header_size(root, file)
    objects = []
    for number, element in enumerate(tree.findall("object"), start=1):
        item = _object(element, f"{xml} object {number}", log)
        if item is not None:
            objects.append(item)
    return _Picture(file, width, height, xml, tuple(objects))


def _size(tree: ET.Element, key: str) -> int:
    text = tree.findtext(f"size/{key}", default="").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def _object(element: ET.Element, shown: str, log: DefectLog) -> _Object | None:
    name = element.findtext("name", default="").strip()
    if not name:
        log.add("broken_box", f"{shown} has no <name>")
        return None
    box = element.find("bndbox")
    values = (
        [box.findtext(key, default="").strip() for key in ("xmin", "ymin", "xmax", "ymax")] if box is not None else []
    )
    try:
        left, top, right, bottom = (float(value) for value in values)
    except ValueError:
        log.add(
            "broken_box",
            f"{shown} ({name}): expected numbers in <bndbox> xmin, ymin, xmax, ymax, found {values}",
        )
        return None
    difficult = element.findtext("difficult", default="0").strip() in ("1", "true", "True")
    return _Object(name, (left, top, right, bottom), difficult)


def _record(picture: _Picture, index: Mapping[str, int], log: DefectLog) -> ImageRecord:
    objects = ObjectList(picture.file, picture.width, picture.height, log)
    for number, item in enumerate(picture.objects, start=1):
        shown = f"{picture.xml} object {number} ({item.name})"
        if item.name not in index:
            log.add("unknown_class", f"{shown}: the class is not one of {', '.join(index)}")
            continue
        left, top, right, bottom = item.xyxy
        objects.add(
            xyxy=item.xyxy,
            xywh=(left, top, right - left, bottom - top),
            label=index[item.name],
            shown=shown,
            difficult=item.difficult,
        )
    return ImageRecord(picture.file, picture.width, picture.height, objects.annotation())

"""Where the pictures and label files of a YOLO dataset are.

The yaml file of a dataset that was sent around names places of another computer. An entry is taken as written where
that is a place in this dataset; then without leading '../' or folders that are not here; then as the usual folders
of that split.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from nasdet_core.data.defects import DefectLog
from nasdet_core.data.pictures import inside
from nasdet_core.data.readers.foreign_paths import ForeignPaths
from nasdet_core.data.readers.names import listed_lines
from nasdet_core.data.readers.picture_index import MAX_DEPTH, Found, PictureIndex
from nasdet_core.data.readers.yolo_yaml import YoloEntry

_NO_LABELS = ("classes.txt", "labels.txt", "notes.txt")
_SHOWN_LENGTH = 200


@dataclass(slots=True)
class SplitPlaces:
    """What one split consists of."""

    pictures: dict[str, None] = field(default_factory=dict)  # files below root, each once
    folders: dict[str, None] = field(default_factory=dict)  # every folder in which its pictures lie
    lists: list[str] = field(default_factory=list)  # files below root


class YoloPictures:
    """Resolves entries of the yaml file and lines of lists to pictures that are there."""

    def __init__(self, index: PictureIndex, base: str, shown: str, log: DefectLog) -> None:
        """`base`: the yaml file's `path`; `shown`: the yaml file."""
        self._index, self._shown, self._log = index, shown, log
        self._base = _place_of_base(index, base)
        self._label_folders: dict[str, tuple[str, ...]] = {}
        self.foreign = ForeignPaths()

    def of_split(self, entries: Sequence[YoloEntry]) -> SplitPlaces:
        """An entry that is no place in this dataset becomes a defect."""
        places = SplitPlaces()
        for entry in entries:
            is_list = entry.text.lower().endswith(".txt")
            found = self._list(entry) if is_list else self._folder(entry)
            if found is None:
                expected = "list" if is_list else "folder"
                self._log.add(
                    "empty_split",
                    f"{self._shown} line {entry.line}: {entry.key} is {entry.text[:_SHOWN_LENGTH]!r}, which is no "
                    f"{expected} inside the dataset; it is passed over",
                )
            elif is_list:
                places.lists.append(found)
                self._read_list(found, places)
            else:
                for below, pictures in self._index.pictures_below(found):
                    places.folders[below] = None
                    places.pictures.update(dict.fromkeys(pictures))
        return places

    def label_folders(self, folder: str) -> tuple[str, ...]:
        """Where label files of pictures in `folder` may be: images/ replaced by labels/, and `folder` itself."""
        if folder not in self._label_folders:
            parts = folder.split("/")
            place: str | None = None
            images = [number for number, part in enumerate(parts) if part.lower() == "images"]
            if images:
                parts[images[-1]] = "labels"
                place = self._index.place("", "/".join(parts))
            self._label_folders[folder] = (folder,) if place is None else (place, folder)
        return self._label_folders[folder]

    def label_of(self, picture: str) -> Found | None:
        """The label file of a picture; None where it has none."""
        folder, _, name = picture.rpartition("/")
        stem = name.rpartition(".")[0]
        for place in self.label_folders(folder):
            found = self._index.find_file(place, f"{stem}.txt")
            if found is not None:
                return found
        return None

    def without_picture(self, folders: Sequence[str], used: Collection[str]) -> Iterator[tuple[str, str]]:
        """(label file, the picture it should have) for those not `used` whose picture is in none of `folders`."""
        picture_folders: dict[str, list[str]] = {}
        for folder in folders:
            for place in self.label_folders(folder):
                picture_folders.setdefault(place, []).append(folder)
        for place, beside in picture_folders.items():
            for file in self._index.files(place, ".txt"):
                stem = PurePosixPath(file).stem
                if file in used or _is_other_text(file):
                    continue
                if all(self._index.find_stem(folder, stem) is None for folder in beside):
                    yield file, _join(beside[0], f"{stem}.jpg")

    def _list(self, entry: YoloEntry) -> str | None:
        for candidate in self._as_written(entry.text):
            found = self._index.find_file("", candidate)
            if found is not None:
                return found.file
        for candidate in _tails(_clean(entry.text)):
            found = self._index.find_file("", candidate)
            if found is not None:
                self._tell_elsewhere(entry, found.file)
                return found.file
        return None

    def _tell_elsewhere(self, entry: YoloEntry, place: str) -> None:
        self.foreign.add(
            f"{self._shown} line {entry.line}: {entry.key} is {entry.text[:_SHOWN_LENGTH]!r}, which is no "
            f"place in this dataset ({place} is used)"
        )

    def _folder(self, entry: YoloEntry) -> str | None:
        for candidate in self._as_written(entry.text):
            place = self._index.place("", candidate)
            if place is not None:
                return place
        names = dict.fromkeys((entry.key, {"val": "valid", "valid": "val"}.get(entry.key, entry.key)))
        usual = [form.format(name) for form in ("{}/images", "images/{}") for name in names]
        for candidate in (*_tails(_clean(entry.text), shortest=2), *usual):
            place = self._index.place("", candidate)
            if place is not None:
                self._tell_elsewhere(entry, place)
                return place
        return None

    def _as_written(self, text: str) -> Iterator[str]:
        """Below `path`, below the yaml file's folder, and there without the leading '../' that exports write."""
        clean = _clean(text)
        yield _join(self._base, clean)
        yield clean
        yield "/".join(part for part in clean.split("/") if part != "..")

    def _read_list(self, file: str, places: SplitPlaces) -> None:
        for number, line in enumerate(listed_lines(self._index.root / file, file), start=1):
            if not line:
                continue
            where = f"{file} line {number}"
            found = self._listed_picture(line, file, where)
            if found is None:
                outside = "" if inside(_clean(line)) else "; the name leads out of the dataset"
                self._log.add("missing_picture", f"{where}: the picture {line[:_SHOWN_LENGTH]} is missing{outside}")
                continue
            if found.remark is not None:
                self._log.add("picture_name_differs", f"{where}: {found.remark}")
            if found.file in places.pictures:
                self._log.add("picture_listed_twice", f"{where}: {found.file} is listed again; it is used once")
            places.pictures[found.file] = None
            places.folders[found.file.rpartition("/")[0]] = None

    def _listed_picture(self, line: str, file: str, where: str) -> Found | None:
        path = _clean(line)
        places = dict.fromkeys((self._base, "", file.rpartition("/")[0]))
        seen = [found for place in places if (found := self._index.find(place, path)) is not None]
        if seen:
            return next((found for found in seen if found.remark is None), seen[0])
        for tail in _tails(path):
            found = self._index.find("", tail)
            if found is not None:
                self.foreign.add(
                    f"{where}: {line[:_SHOWN_LENGTH]!r} is no place in this dataset ({found.file} is used)"
                )
                return found
        return None


def _place_of_base(index: PictureIndex, base: str) -> str:
    """The folder that `path` means, seen from the yaml file's folder; that folder itself where it is elsewhere."""
    if not base or "\0" in base:
        return ""
    root = os.path.abspath(index.root)
    below = os.path.relpath(os.path.join(root, base.replace("\\", "/")), root)
    place = index.place("", below)
    return "" if place is None else place


def _clean(text: str) -> str:
    path = text.replace("\\", "/")
    while path.startswith("./"):
        path = path[2:].lstrip("/")
    return path


def _tails(path: str, shortest: int = 1) -> list[str]:
    """'/a/b/c' -> 'a/b/c', 'b/c', 'c': what may be left of a path on another computer; longest first."""
    parts = [part for part in path.split("/")[-MAX_DEPTH:] if part not in ("", ".", "..")]
    return ["/".join(parts[number:]) for number in range(len(parts) - shortest + 1)]


def _is_other_text(file: str) -> bool:
    name = PurePosixPath(file).name.lower()
    return name in _NO_LABELS or name.startswith("readme")


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name

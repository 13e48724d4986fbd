"""YOLO reader: a yaml file with classes and splits (Ultralytics' form) and one label file a picture.

The label file of images/train/a.jpg is labels/train/a.txt, or a.txt beside the picture. A picture without label file,
or with an empty one, has no objects: unlike in the other formats that is how background is written. `yolo_yaml`,
`yolo_pictures` and `yolo_labels` say what is accepted in each file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nasdet_core.data.defects import DefectLog
from nasdet_core.data.in_memory import Progress
from nasdet_core.data.readers.names import split_name
from nasdet_core.data.readers.picture_index import PictureIndex
from nasdet_core.data.readers.raw import Ints, RawDataset, RawPicture, RawSplit
from nasdet_core.data.readers.yolo_labels import LabelColumns
from nasdet_core.data.readers.yolo_pictures import SplitPlaces, YoloPictures
from nasdet_core.data.readers.yolo_yaml import (
    YoloDescription,
    YoloEntry,
    looks_like_description,
    read_description,
)
from nasdet_core.errors import DatasetError

_PREFERRED = ("data.yaml", "data.yml")


@dataclass(frozen=True, slots=True)
class YoloFiles:
    """A YOLO dataset that was found: nothing but the beginning of its yaml file has been read."""

    root: Path
    layout: str  # one line for people
    description: str  # the yaml file, in root
    index: PictureIndex


def find_yolo(root: Path) -> YoloFiles | None:
    """The dataset whose yaml file lies in `root` itself, or None.

    Of several such files data.yaml is taken; DatasetError where none is called so.
    """
    index = PictureIndex(root)
    files = [*index.files("", ".yaml"), *index.files("", ".yml")]
    fitting = [file for file in files if looks_like_description(root / file)]
    if not fitting:
        return None
    chosen = next((name for name in _PREFERRED if name in fitting), fitting[0])
    if len(fitting) > 1 and chosen not in _PREFERRED:
        raise DatasetError(
            f"{root} holds {len(fitting)} YOLO files ({', '.join(fitting)}); rename the one to use to data.yaml"
        )
    return YoloFiles(root, f"YOLO label files described by {chosen}", chosen, index)


def read_yolo(files: YoloFiles, *, log: DefectLog, progress: Progress | None) -> RawDataset:
    """Every label file of the dataset, as written.

    Raises DatasetError where the yaml file cannot be used, and where none of its splits has a picture.
    """
    description = read_description(files.root / files.description, files.description, log)
    pictures = YoloPictures(files.index, description.path, files.description, log)
    reader = _Reader(files, description, pictures, log)
    splits = reader.read(progress)
    if not splits:
        reason = log.first() or next((defect.message for defect in log.defects()), "the folders are empty")
        raise DatasetError(f"expected pictures where {files.description} says, in {files.root}; found none: {reason}")
    pictures.foreign.tell(log, "pictures are taken from this dataset alone")
    return RawDataset(
        root=files.root,
        source_format="yolo",
        layout=files.layout,
        box_form="cxcywh_fraction",
        class_names=description.class_names,
        category_ids=description.class_ids,
        splits=splits,
        sources=tuple(sorted(reader.sources)),
        left_out=tuple(sorted(reader.left_out)),
        defects=log.defects(),
        notes={"foreign_paths": pictures.foreign.count, "polygons": reader.polygons},
    )


class _Reader:
    def __init__(self, files: YoloFiles, description: YoloDescription, pictures: YoloPictures, log: DefectLog) -> None:
        self._files, self._description, self._pictures, self._log = files, description, pictures, log
        self._labels_used: dict[str, str] = {}  # label file -> the first picture that has it
        self._first_polygon = ""
        self.sources: set[str] = {files.description}
        self.left_out: set[str] = set()
        self.polygons = 0

    def read(self, progress: Progress | None) -> tuple[RawSplit, ...]:
        places = {
            split: self._pictures.of_split(entries) for split, entries in _by_split(self._description, self._files)
        }
        total = sum(len(place.pictures) for place in places.values())
        done = 0
        splits = []
        for split, place in places.items():
            self.sources.update(place.lists)
            if place.pictures:
                splits.append(self._split(split, sorted(place.pictures), done, total, progress))
                done += len(place.pictures)
            elif place.folders or place.lists:
                where = ", ".join(place.lists or [f"{folder}/" for folder in place.folders])
                self._log.add("empty_split", f"{where}: the {split} split has no picture")
        self._tell_polygons()
        self._tell_labels_without_picture(list(places.values()))
        return tuple(splits)

    def _split(self, name: str, files: Sequence[str], done: int, total: int, progress: Progress | None) -> RawSplit:
        columns = LabelColumns(self._description.class_ids, self._description.keypoint_values, self._log)
        pictures: list[RawPicture] = []
        for number, file in enumerate(files, start=done + 1):
            source = self._read_labels(file, len(pictures), columns)
            if source is not None:
                pictures.append(RawPicture(file, None, source))
            if progress is not None:
                progress(number, total)
        objects, lines = columns.columns()
        self.polygons += columns.polygons
        self._first_polygon = self._first_polygon or columns.first_polygon
        broken = frozenset(columns.with_broken_objects)
        return RawSplit(name, tuple(pictures), objects, _Place(tuple(pictures), objects.picture, lines), broken)

    def _read_labels(self, file: str, picture: int, columns: LabelColumns) -> str | None:
        """The file that speaks of the picture; None where the picture is left out, since that file is broken."""
        labels = self._pictures.label_of(file)
        if labels is None:
            return self._files.description
        first = self._labels_used.setdefault(labels.file, file)
        if first != file:
            self._log.add(
                "shared_label", f"{labels.file} is the label file of {first} and of {file}; both have its boxes"
            )
        self.sources.add(labels.file)
        if labels.remark is not None:
            self._log.add("picture_name_differs", f"{file}: {labels.remark}")
        try:
            columns.read(self._files.root / labels.file, labels.file, picture)
        except DatasetError as error:
            self._log.add("broken_annotation", f"{error}; its picture is left out")
            self.left_out.add(file)
            return None
        return labels.file

    def _tell_polygons(self) -> None:
        if self.polygons:
            more = f" (one of {self.polygons:,})" if self.polygons > 1 else ""
            self._log.add(
                "polygon_label",
                f"{self._first_polygon}: a polygon{more}; the box around it is used",
                count=self.polygons,
            )

    def _tell_labels_without_picture(self, places: Sequence[SplitPlaces]) -> None:
        folders = dict.fromkeys(folder for place in places for folder in place.folders)
        used = {*self._labels_used, *self.sources}
        for file, expected in self._pictures.without_picture(tuple(folders), used):
            self._log.add("missing_picture", f"{file}: there is no picture {expected}")


def _by_split(description: YoloDescription, files: YoloFiles) -> list[tuple[str, list[YoloEntry]]]:
    splits: dict[str, list[YoloEntry]] = {}
    for entry in description.entries:
        mine = splits.setdefault(split_name(entry.key), [])
        if mine and mine[0].key != entry.key:
            raise DatasetError(
                f"{files.description} line {entry.line}: `{mine[0].key}` and `{entry.key}` are the same split; leave "
                "one of them"
            )
        mine.append(entry)
    return list(splits.items())


@dataclass(frozen=True, eq=False, slots=True)
class _Place:
    """Says where an object is written; made when it is asked for, since hardly any of them ever is."""

    pictures: tuple[RawPicture, ...]
    picture: Ints  # [N] index into pictures
    lines: Ints  # [N] from 1

    def __call__(self, row: int) -> str:
        return f"{self.pictures[self.picture[row]].source} line {self.lines[row]}"

"""Pascal VOC reader (Everingham et al. 2010, "The PASCAL Visual Object Classes (VOC) Challenge"): XML files, one
a picture.

* Devkit: Annotations/NAME.xml, JPEGImages/NAME.jpg (or images/), ImageSets/Main/{train,val,trainval,test}.txt.
  Without lists every annotation belongs to one set called 'all'.
* Split folders (train/, valid/ or val/, test/) with each XML beside its picture, or with the pictures in images/
  and the XML files in annotations/ below the split folder; annotations/train/ and images/train/ do as well.
* One folder of pictures and XML files: one set called 'all'.

A picture belongs to the XML file of the same name; `<filename>` is asked only where there is none. `<folder>` and
`<path>` are not used: they describe the annotator's computer. Coordinates are kept exactly as written, see
`in_memory`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from nasdet_core.data.defects import DefectLog
from nasdet_core.data.in_memory import Progress
from nasdet_core.data.readers.foreign_paths import ForeignPaths
from nasdet_core.data.readers.raw import Ints, ObjectColumns, RawDataset, RawPicture, RawSplit
from nasdet_core.data.readers.voc_file import VocPicture, object_place, read_voc_file
from nasdet_core.data.readers.voc_layout import VocFiles, find_voc
from nasdet_core.data.readers.voc_lists import SplitList, split_lists
from nasdet_core.data.readers.voc_pairs import VocPairs
from nasdet_core.errors import DatasetError

__all__ = ["VocFiles", "find_voc", "read_voc"]


def read_voc(
    files: VocFiles, *, class_names: Sequence[str] | None, log: DefectLog, progress: Progress | None
) -> RawDataset:
    """Every annotation of the dataset, as written.

    `class_names` fixes the classes and their order; without it they are the sorted names found. A name that
    differs from another only in letter case is a class of its own. Raises DatasetError where two folders are the
    same split, where a devkit has no folder of pictures, and where a split list cannot be read.
    """
    _check_folders(files)
    reader = _Reader(files, log, progress)
    splits = reader.splits()
    names = tuple(class_names) if class_names is not None else _names(splits)
    label_of = {name: label for label, name in enumerate(names)}
    reader.foreign.tell(log, "<path> and <folder> are not used")
    raw = tuple(_raw_split(name, entries, label_of, log) for name, entries in splits.items())
    return RawDataset(
        root=files.root,
        source_format="voc",
        layout=files.layout,
        box_form="xyxy",
        class_names=names,
        category_ids=tuple(range(1, len(names) + 1)),
        splits=raw,
        sources=tuple(sorted(reader.sources)),
        left_out=tuple(sorted(reader.left_out)),
        defects=log.defects(),
        notes={
            "foreign_paths": reader.foreign.count,
            "truncated": sum(int(split.objects.truncated.sum()) for split in raw),
        },
    )


@dataclass(frozen=True, slots=True)
class _Entry:
    """One XML file that can be used, and its picture."""

    xml: str
    file: str
    content: VocPicture


class _Reader:
    """Reads every XML file once, although it may be in several splits."""

    def __init__(self, files: VocFiles, log: DefectLog, progress: Progress | None) -> None:
        self._files, self._log, self._progress = files, log, progress
        self.sources: set[str] = set()
        self.left_out: set[str] = set()
        self.foreign = ForeignPaths()

    def splits(self) -> dict[str, list[_Entry]]:
        """Split -> its pictures by name of the file."""
        pairs = [VocPairs(self._files.index, folder) for folder in self._files.folders]
        lists: tuple[SplitList, ...] = ()
        if self._files.lists is not None:
            lists = split_lists(self._files.index, self._files.lists, pairs[0], self._log)
        found = self._listed(pairs[0], lists) if lists else self._everything(pairs)
        return {split: sorted(entries, key=lambda entry: entry.file) for split, entries in found.items()}

    def _listed(self, pairs: VocPairs, lists: tuple[SplitList, ...]) -> dict[str, list[_Entry]]:
        self.sources.update(item.source for item in lists)
        first_line: dict[str, str] = {}
        for item in lists:
            for stem, line in item.lines.items():
                first_line.setdefault(stem, f"{item.source} line {line}")
        wanted: list[str] = []
        for stem in sorted(first_line):
            if stem in pairs.xml_of:
                wanted.append(pairs.xml_of[stem])
            else:
                self._without_xml(pairs, stem, first_line[stem])
        entries = self._read(pairs, wanted, done=0, total=len(wanted))
        by_stem = {PurePosixPath(xml).stem: entry for xml, entry in entries.items()}
        return {item.split: [by_stem[stem] for stem in item.lines if stem in by_stem] for item in lists}

    def _without_xml(self, pairs: VocPairs, stem: str, shown: str) -> None:
        picture = pairs.picture_named(stem)
        xml = _join(pairs.folder.xml, f"{stem}.xml")
        if picture is None:
            expected = _join(pairs.folder.pictures, f"{stem}.jpg")
            self._log.add("missing_picture", f"{shown}: there is neither a picture {expected} nor {xml}")
            return
        self.left_out.add(picture.file)
        self._log.add("missing_annotation", f"{shown}: picture {picture.file} has no {xml}; it is left out")

    def _everything(self, pairs: list[VocPairs]) -> dict[str, list[_Entry]]:
        total = sum(len(item.xml_files) for item in pairs)
        done = 0
        splits: dict[str, list[_Entry]] = {}
        for item in pairs:
            entries = self._read(item, item.xml_files, done=done, total=total)
            done += len(item.xml_files)
            for file in item.without_xml():
                xml = _join(item.folder.xml, f"{PurePosixPath(file).stem}.xml")
                self.left_out.add(file)
                self._log.add("missing_annotation", f"picture {file} has no {xml}; it is left out")
            if entries:
                splits[item.folder.split] = list(entries.values())
            else:
                where = f"{item.folder.xml}/" if item.folder.xml else "the dataset's folder"
                self._log.add("empty_split", f"{where} holds no annotation that can be used")
        return splits

    def _read(self, pairs: VocPairs, xml_files: Sequence[str], *, done: int, total: int) -> dict[str, _Entry]:
        entries: dict[str, _Entry] = {}
        for number, xml in enumerate(xml_files, start=done + 1):
            self.sources.add(xml)
            entry = self._entry(pairs, xml)
            if entry is not None:
                entries[xml] = entry
                self._look_for_foreign_paths(entry)
            if self._progress is not None:
                self._progress(number, total)
        return entries

    def _entry(self, pairs: VocPairs, xml: str) -> _Entry | None:
        picture = pairs.picture_of(xml)
        try:
            content = read_voc_file(self._files.root / xml, xml, self._log)
        except DatasetError as error:
            self._log.add("broken_annotation", str(error))
            if picture is not None:
                self.left_out.add(picture.file)
            return None
        if picture is not None:
            if picture.remark is not None:
                self._log.add("picture_name_differs", f"{xml}: {picture.remark}")
            return _Entry(xml, picture.file, content)
        named = pairs.named_inside(xml, content.filename)
        if named is None:
            expected = _join(pairs.folder.pictures, f"{PurePosixPath(xml).stem}.jpg")
            self._log.add("missing_picture", f"{xml}: there is no picture {expected}")
            return None
        self._log.add(
            "picture_name_differs", f"{xml}: there is no picture of that name; {named.file}, its <filename>, is used"
        )
        return _Entry(xml, named.file, content)

    def _look_for_foreign_paths(self, entry: _Entry) -> None:
        root, file = self._files.root, entry.file
        for tag, text in (("path", entry.content.path), ("folder", entry.content.folder)):
            if _is_foreign(tag, text, file, root):
                self.foreign.add(f"{entry.xml}: <{tag}> is {text[:100]!r}, which is no place in this dataset")
                return


def _is_foreign(tag: str, text: str, file: str, root: Path) -> bool:
    if text.casefold() in ("", ".", "unknown", "unspecified"):
        return False
    parts = text.replace("\\", "/").split("/")
    if tag == "folder":
        return parts[-1] not in (root.name, *file.split("/")[:-1])
    return len(parts) > 1 and text not in (file, f"./{file}", str(root / file))


def _check_folders(files: VocFiles) -> None:
    seen: dict[str, str] = {}
    for folder in files.folders:
        if folder.pictures and files.index.place("", folder.pictures) is None:
            raise DatasetError(
                f"expected the pictures of the VOC dataset in {files.root / folder.pictures}, "
                "but there is no such folder"
            )
        if folder.split in seen:
            raise DatasetError(
                f"{seen[folder.split]}/ and {folder.xml}/ both are the {folder.split!r} split of {files.root}; "
                "leave one of them"
            )
        seen[folder.split] = folder.xml


def _names(splits: Mapping[str, Sequence[_Entry]]) -> tuple[str, ...]:
    found = {item.name for entries in splits.values() for entry in entries for item in entry.content.objects}
    return tuple(sorted(found))


def _raw_split(name: str, entries: Sequence[_Entry], label_of: Mapping[str, int], log: DefectLog) -> RawSplit:
    columns = ObjectColumns()
    lines: list[int] = []
    numbers: list[int] = []
    broken: set[int] = set()
    for picture, entry in enumerate(entries):
        if entry.content.broken_objects:
            broken.add(picture)
        for item in entry.content.objects:
            if item.name not in label_of:
                shown = object_place(entry.xml, item.line, item.number, item.name)
                log.add("unknown_class", f"{shown}: the class is not one of {', '.join(label_of)}")
                broken.add(picture)
                continue
            columns.add(
                picture=picture,
                box=item.box_xyxy,
                label=label_of[item.name],
                difficult=item.difficult,
                truncated=item.truncated,
            )
            lines.append(item.line)
            numbers.append(item.number)
    pictures = tuple(
        RawPicture(entry.file, entry.content.size, entry.xml, no_size=entry.content.size is None) for entry in entries
    )
    objects = columns.columns()
    place = _Place(
        pictures,
        tuple(label_of),
        objects.picture,
        objects.labels,
        lines=np.array(lines, dtype=np.int64),
        numbers=np.array(numbers, dtype=np.int64),
    )
    return RawSplit(name, pictures, objects, place, frozenset(broken))


@dataclass(frozen=True, eq=False, slots=True)
class _Place:
    """Says where an object is written; made when it is asked for, since hardly any of them ever is."""

    pictures: tuple[RawPicture, ...]
    class_names: tuple[str, ...]
    picture: Ints  # [N] index into pictures
    labels: Ints  # [N]
    lines: Ints  # [N] from 1
    numbers: Ints  # [N] the object's number in its file, from 1

    def __call__(self, row: int) -> str:
        source = self.pictures[self.picture[row]].source
        return object_place(source, int(self.lines[row]), int(self.numbers[row]), self.class_names[self.labels[row]])


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name

"""Split lists of a Pascal VOC devkit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from nasdet_core.data.defects import DefectLog
from nasdet_core.data.pictures import inside
from nasdet_core.data.readers.names import listed_lines
from nasdet_core.data.readers.picture_index import PictureIndex
from nasdet_core.data.readers.voc_pairs import VocPairs


@dataclass(frozen=True, slots=True)
class SplitList:
    """One list as read: the stems of its pictures, each with the line that names it."""

    split: str
    source: str  # the list, below root
    lines: dict[str, int]  # stem -> line from 1


def split_lists(index: PictureIndex, folder: str, pairs: VocPairs, log: DefectLog) -> tuple[SplitList, ...]:
    """The lists in `folder` that name pictures; none where there is no such list.

    trainval is train + val again: it is read only where it is not already there in parts.
    """
    there = {name: f"{folder}/{name}.txt" for name in ("train", "val", "trainval", "test")}
    there = {name: file for name, file in there.items() if file in index.files(folder, ".txt")}
    wanted = {name: there[name] for name in ("train", "val", "test") if name in there}
    if "trainval" in there and "train" not in there:
        wanted.pop("val", None)
        wanted = {"train": there["trainval"], **wanted}
    found = []
    for split, file in wanted.items():
        lines = _read(index, file, pairs, log)
        if lines:
            found.append(SplitList(split, file, lines))
        else:
            log.add("empty_split", f"{file} names no picture")
    return tuple(found)


def _read(index: PictureIndex, file: str, pairs: VocPairs, log: DefectLog) -> dict[str, int]:
    stems: dict[str, int] = {}
    for number, line in enumerate(listed_lines(index.root / file, file), start=1):
        if not line:
            continue
        if not inside(line):
            log.add("broken_split_line", f"{file} line {number}: {line[:100]!r} is not a picture's name")
            continue
        stem = pairs.listed(PurePosixPath(line).name)  # some write the picture's path
        if stem.remark is not None:
            log.add("picture_name_differs", f"{file} line {number}: {stem.remark}")
        if stem.name in stems:
            log.add(
                "picture_listed_twice",
                f"{file} line {number}: {stem.name} is listed again, first in line {stems[stem.name]}; used once",
            )
            continue
        stems[stem.name] = number
    return stems

"""Reads a dataset directory of any known layout into its in-memory form."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nasdet_core.data.defects import DefectLog
from nasdet_core.data.in_memory import Dataset, Progress
from nasdet_core.data.pictures import headers_of_all
from nasdet_core.data.readers.assemble import assemble
from nasdet_core.data.readers.coco import read_coco
from nasdet_core.data.readers.coco_layout import CocoFiles
from nasdet_core.data.readers.layout import locate
from nasdet_core.data.readers.raw import RawDataset
from nasdet_core.data.readers.voc import VocFiles, read_voc
from nasdet_core.data.readers.yolo import read_yolo


def read_dataset(root: Path, *, class_names: Sequence[str] | None = None, progress: Progress | None = None) -> Dataset:
    """Read the dataset below `root` (or one or two folders further down); pictures are opened, but not decoded.

    `class_names` fixes the classes of a VOC dataset and their order; without it they are the sorted names
    found. What is broken is left out and becomes a defect; only when nothing is left is it an error.
    """
    raw = read_annotations(root, class_names=class_names, progress=progress)
    return assemble(raw, headers_of_all(raw.root, picture_files(raw), progress))


def read_annotations(
    root: Path, *, class_names: Sequence[str] | None = None, progress: Progress | None = None
) -> RawDataset:
    """What the annotation files say; the pictures are only known to be there."""
    files = locate(Path(root))
    log = DefectLog()
    if isinstance(files, CocoFiles):
        return read_coco(files, log=log, progress=progress)
    if isinstance(files, VocFiles):
        return read_voc(files, class_names=class_names, log=log, progress=progress)
    return read_yolo(files, log=log, progress=progress)


def picture_files(raw: RawDataset) -> list[str]:
    """Every picture of every split, each once."""
    return list(dict.fromkeys(picture.file for split in raw.splits for picture in split.pictures))

"""Finds out what a dataset directory holds and reads it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nasdet_core.data.in_memory import Dataset, Progress
from nasdet_core.data.read_coco import coco_files, read_coco
from nasdet_core.data.read_voc import is_voc, read_voc
from nasdet_core.errors import DatasetError

LAYOUTS = (
    "a Pascal VOC devkit (Annotations/NAME.xml, JPEGImages/, ImageSets/Main/{train,val,test}.txt) or COCO "
    "files (annotations/instances_{train,val,test}.json with the pictures in folders of the same names)"
)


def read_dataset(root: Path, *, class_names: Sequence[str] | None = None, progress: Progress | None = None) -> Dataset:
    """Read the annotations below `root` (or one or two folders further down); pictures are not decoded here.

    `class_names` fixes the classes of a VOC dataset and their order; without it they are the sorted names
    found. One bad annotation or missing picture is left out and becomes a defect; only when nothing is left
    is it an error.
    """
    root = Path(root)
    found = _locate(root)
    if is_voc(found):
        return read_voc(found, class_names=class_names, progress=progress)
    return read_coco(found, progress=progress)


def _locate(root: Path) -> Path:
    if not root.exists():
        raise DatasetError(f"expected a dataset directory at {root}, but there is nothing there; check the path")
    if not root.is_dir():
        raise DatasetError(f"expected a dataset directory at {root}, but it is a file; name the folder around it")
    try:
        entries = sorted(path for path in root.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DatasetError(f"the dataset directory {root} cannot be read: {error.strerror}") from error
    if not entries:
        raise DatasetError(f"the dataset directory {root} is empty; expected {LAYOUTS}")
    level = [root]
    for _depth in range(3):
        datasets = [path for path in level if is_voc(path) or coco_files(path)]
        if len(datasets) > 1:
            names = ", ".join(path.name for path in datasets)
            raise DatasetError(f"{root} holds {len(datasets)} datasets ({names}); name one of these folders instead")
        if datasets:
            return datasets[0]
        level = [child for path in level for child in _folders(path)]
    raise DatasetError(f"no annotations found in {root} or up to two folders below it; expected {LAYOUTS}")


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))
    except OSError:  # an unreadable folder beside the data is no reason to stop: it holds nothing for us
        return []

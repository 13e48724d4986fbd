"""Finds out by looking which format a dataset directory has, and where its files are."""

from __future__ import annotations

from pathlib import Path

from nasdet_core.data.readers.coco_layout import CocoFiles, find_coco, one_coco_file
from nasdet_core.data.readers.voc import VocFiles, find_voc
from nasdet_core.data.readers.yolo import YoloFiles, find_yolo
from nasdet_core.errors import DatasetError

LAYOUTS = (
    "Pascal VOC (Annotations/NAME.xml with JPEGImages/ and ImageSets/Main/{train,val,test}.txt, or XML files beside "
    "the pictures in train/, val/, test/), COCO (annotations/instances_{train,val,test}.json with the pictures in "
    "folders of the same names, or one JSON beside the pictures of each split), or YOLO (a data.yaml with names, train "
    "and val)"
)
DEPTH = 3  # the directory itself and two folders below it

Files = CocoFiles | VocFiles | YoloFiles


def locate(path: Path) -> Files:
    """The annotation files of the dataset at `path` (a directory, or one COCO file), or one or two folders below it.

    Where a folder holds several formats of the same data, COCO is read before VOC before YOLO: it says most about an
    object. Raises DatasetError when nothing is found, or several datasets are.
    """
    if not path.exists():
        raise DatasetError(f"expected a dataset directory at {path}, but there is nothing there; check the path")
    if path.is_file():
        if path.suffix.lower() == ".json":
            return one_coco_file(path)
        raise DatasetError(f"expected a dataset directory at {path}, but it is a file; name the folder around it")
    try:
        entries = sorted(child for child in path.iterdir() if not child.name.startswith("."))
    except OSError as error:
        raise DatasetError(f"the dataset directory {path} cannot be read: {error.strerror}") from error
    if not entries:
        raise DatasetError(f"the dataset directory {path} is empty; expected {LAYOUTS}")
    level = [path]
    for _depth in range(DEPTH):
        datasets = [found for folder in level if (found := _dataset_in(folder)) is not None]
        if len(datasets) > 1:
            names = ", ".join(str(found.root.relative_to(path)) for found in datasets)
            raise DatasetError(f"{path} holds {len(datasets)} datasets ({names}); name one of these folders instead")
        if datasets:
            return datasets[0]
        level = [child for folder in level for child in _folders(folder)]
    raise DatasetError(f"no annotations found in {path} or up to two folders below it; expected {LAYOUTS}")


def _dataset_in(folder: Path) -> Files | None:
    return find_coco(folder) or find_voc(folder) or find_yolo(folder)


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))
    except OSError:  # an unreadable folder beside the data is no reason to stop: it holds nothing for us
        return []

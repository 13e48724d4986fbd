"""Where the files of a Pascal VOC dataset lie; `voc` says which layouts there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nasdet_core.data.readers.names import split_name
from nasdet_core.data.readers.picture_index import PictureIndex
from nasdet_core.data.readers.safe_xml import root_tag

LISTS = "ImageSets/Main"
_XML_FOLDERS = ("annotations", "annotation", "xml", "xmls", "labels")
_PICTURE_FOLDERS = ("jpegimages", "images", "pngimages", "imgs")
_SPLITS = ("train", "val", "test")
_LOOKED_AT = 8
"""XML files of a folder whose first element is looked at, to tell annotations from other XML."""


@dataclass(frozen=True, slots=True)
class VocFolder:
    """XML files and the pictures that they describe, as folders below root ('' is root itself)."""

    split: str
    xml: str
    pictures: str


@dataclass(frozen=True, slots=True)
class VocFiles:
    """A VOC dataset that was found; nothing but names and a few first lines have been read."""

    root: Path
    layout: str  # one line for people
    folders: tuple[VocFolder, ...]
    lists: str | None  # folder of the split lists, below root
    index: PictureIndex


def find_voc(root: Path) -> VocFiles | None:
    """The VOC dataset whose root is `root` itself, or None. Reads folders and the first lines of a few files."""
    index = PictureIndex(root)
    return _find_devkit(root, index) or _find_split_folders(root, index) or _find_one_folder(root, index)


def _find_devkit(root: Path, index: PictureIndex) -> VocFiles | None:
    """Told by its names alone: broken annotations are a reason to complain, not to look for something else."""
    if "Annotations" not in index.folders(""):
        return None
    if index.place("", LISTS) is None and not index.files("Annotations", ".xml"):
        return None
    pictures = _named(index, "", _PICTURE_FOLDERS)
    return _devkit(root, index, "Annotations", "JPEGImages" if pictures is None else pictures)


def _devkit(root: Path, index: PictureIndex, xml: str, pictures: str) -> VocFiles:
    lists = index.place("", LISTS)
    layout = f"Pascal VOC: {xml}/NAME.xml, pictures in {pictures}/, " + (
        f"split lists in {lists}/" if lists is not None else "no split lists"
    )
    return VocFiles(root, layout, (VocFolder("all", xml, pictures),), lists, index)


def _find_split_folders(root: Path, index: PictureIndex) -> VocFiles | None:
    candidates = [_split_folder(index, name, name) for name in _split_names(index, "")]
    xml, pictures = _named(index, "", _XML_FOLDERS), _named(index, "", _PICTURE_FOLDERS)
    if xml is not None and pictures is not None and not any(_annotated(index, item.xml) for item in candidates):
        for name in _split_names(index, xml):
            place = index.place(pictures, name)
            candidates.append(VocFolder(split_name(name), f"{xml}/{name}", pictures if place is None else place))
    if not any(_annotated(index, item.xml) for item in candidates):
        return None
    # a split folder of pictures without any XML is told about when it is read
    kept = tuple(item for item in candidates if index.files(item.xml, ".xml") or index.pictures(item.pictures))
    shown = ", ".join(f"{item.xml}/" for item in kept)
    return VocFiles(root, f"Pascal VOC XML by split folder: {shown}", kept, None, index)


def _find_one_folder(root: Path, index: PictureIndex) -> VocFiles | None:
    xml, pictures = _named(index, "", _XML_FOLDERS), _named(index, "", _PICTURE_FOLDERS)
    if xml is not None and pictures is not None and _annotated(index, xml):
        return _devkit(root, index, xml, pictures)
    if index.pictures("") and _annotated(index, ""):
        return VocFiles(root, "Pascal VOC XML beside the pictures", (VocFolder("all", "", ""),), None, index)
    return None


def _split_names(index: PictureIndex, folder: str) -> list[str]:
    return [name for name in index.folders(folder) if split_name(name) in _SPLITS]


def _split_folder(index: PictureIndex, folder: str, name: str) -> VocFolder:
    xml, pictures = _named(index, folder, _XML_FOLDERS), _named(index, folder, _PICTURE_FOLDERS)
    return VocFolder(split_name(name), folder if xml is None else xml, folder if pictures is None else pictures)


def _named(index: PictureIndex, folder: str, names: Sequence[str]) -> str | None:
    """The first folder in `folder` with one of `names`, in whatever letter case."""
    places = (index.place(folder, name) for name in names)
    return next((place for place in places if place is not None), None)


def _annotated(index: PictureIndex, folder: str) -> bool:
    files = index.files(folder, ".xml")
    step = max(1, len(files) // _LOOKED_AT)
    return any(root_tag(index.root / file) == "annotation" for file in files[::step][:_LOOKED_AT])

"""Which files of a directory are COCO instance files, and where their pictures may lie.

* `annotations/instances_SPLIT.json` (or `annotations/SPLIT.json`), pictures in `SPLIT/`, `images/SPLIT/` or `images/`;
* one JSON beside the pictures of each split folder, as labelling tools export it (`train/_annotations.coco.json`);
* one JSON beside its pictures, or above their folder, for a set that has no splits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nasdet_core.data.readers.names import split_name

_PREFIX = "instances_"
_OTHER_TASKS = ("captions_", "person_keypoints_", "stuff_", "panoptic_", "image_info_")
_NO_SPLIT = ("annotations.coco", "annotations", "annotation", "coco", "instances", "default", "result", "labels", "all")
_PEEK_BYTES = 1 << 16
_MOST_CANDIDATES = 100  # JSON files of a folder that are looked into


@dataclass(frozen=True, slots=True)
class CocoFile:
    """One instance file."""

    shown: str  # path below the root
    split: str
    folders: tuple[str, ...]  # where its pictures may lie, below the root; the likeliest first


@dataclass(frozen=True, slots=True)
class CocoFiles:
    """The instance files of a dataset whose root is `root`."""

    root: Path
    files: tuple[CocoFile, ...]
    layout: str


def find_coco(root: Path) -> CocoFiles | None:
    """The instance files when `root` itself is a COCO dataset; files are only peeked into."""
    folder = next((child for child in _folders(root) if child.name.lower() == "annotations"), root / "annotations")
    named = _json_files(folder)
    instances = [path for path in named if path.name.startswith(_PREFIX)] or [
        path for path in named if not path.name.startswith(_OTHER_TASKS) and _looks_like_coco(path)
    ]
    if instances:
        files = tuple(_in_annotations(root, path) for path in instances)
        return CocoFiles(root, files, "COCO files in annotations/, pictures in folders")
    beside = [
        CocoFile(f"{child.name}/{path.name}", split_name(child.name), (child.name, f"{child.name}/images"))
        for child in _folders(root)
        for path in _json_files(child)
        if _looks_like_coco(path)
    ]
    if beside and not any(repeated_splits(beside)):
        return CocoFiles(root, tuple(beside), "a COCO file beside the pictures of each split")
    own = [path for path in _json_files(root) if _looks_like_coco(path)]
    if own:
        return CocoFiles(root, tuple(_in_root(path, len(own)) for path in own), "COCO files beside or above pictures")
    return None


def one_coco_file(path: Path) -> CocoFiles:
    """A dataset of a single instance file that somebody named; its pictures are looked for as above."""
    if path.parent.name.lower() == "annotations":
        root = path.parent.parent
        return CocoFiles(root, (_in_annotations(root, path),), "one COCO file")
    return CocoFiles(path.parent, (_in_root(path, 1),), "one COCO file")


def _in_annotations(root: Path, path: Path) -> CocoFile:
    suffix = path.stem.removeprefix(_PREFIX)
    split = "all" if suffix.strip("_").lower() in _NO_SPLIT else split_name(suffix)
    folders = (suffix, f"images/{suffix}", split, f"images/{split}", "images", "", "annotations")
    return CocoFile(f"{path.parent.name}/{path.name}", split, _existing(root, folders))


def _in_root(path: Path, files: int) -> CocoFile:
    suffix = path.stem.removeprefix(_PREFIX)
    split = "all" if files == 1 and suffix.strip("_").lower() in _NO_SPLIT else split_name(suffix.strip("_"))
    folders = (suffix, f"images/{suffix}", split, f"images/{split}", "images", "")
    return CocoFile(path.name, split, _existing(path.parent, folders))


def _existing(root: Path, folders: Iterable[str]) -> tuple[str, ...]:
    """Those that are there, whatever the case of their letters; '' is the root itself."""
    there = {"": ""}
    for child in _folders(root):
        there.setdefault(child.name.lower(), child.name)
        if child.name.lower() == "images":
            there |= {f"images/{below.name.lower()}": f"{child.name}/{below.name}" for below in _folders(child)}
    wanted = dict.fromkeys(folder.lower() for folder in folders)
    return tuple(there[folder] for folder in wanted if folder in there)


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))
    except OSError:  # an unreadable folder beside the data holds nothing for us
        return []


def _json_files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix.lower() == ".json" and path.is_file())[
            :_MOST_CANDIDATES
        ]
    except OSError:
        return []


def _looks_like_coco(path: Path) -> bool:
    """Whether the beginning or the end of the file names COCO's lists; an empty file counts where its name says so."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            text = file.read(_PEEK_BYTES)
            file.seek(max(0, size - _PEEK_BYTES))
            text += file.read(_PEEK_BYTES)
    except OSError:
        return False
    text = text.replace(b"\0", b"")  # UTF-16
    named = "coco" in path.name.lower() or path.name.startswith(_PREFIX)
    return named or any(f'"{key}"'.encode() in text for key in ("images", "annotations"))


def repeated_splits(files: Sequence[CocoFile]) -> Iterable[str]:
    """Names of splits that more than one file claims to be."""
    seen: set[str] = set()
    for file in files:
        if file.split in seen:
            yield file.split
        seen.add(file.split)

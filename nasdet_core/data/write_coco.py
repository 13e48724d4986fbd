"""Writes any dataset in COCO form: `annotations/instances_SPLIT.json`, and the pictures in `SPLIT/`.

Nothing is rounded: `bbox` is the exact (x, y, width, height) and `area` the area of the records, `iscrowd` is kept,
and `difficult` is added (1 where VOC says so; other readers of COCO do not know the key). Reading the result back
gives the same records, except for the files' new places.

Pictures are copied byte for byte or linked, never saved anew. One with an EXIF orientation keeps it: width, height and
boxes are those of the upright picture, as for every reader of ours.
"""

from __future__ import annotations

import errno
import glob
import json
import os
import re
import shutil
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from nasdet_core.data.in_memory import Dataset, ImageRecord, Progress
from nasdet_core.errors import DatasetError

Pictures = Literal["copy", "link", "none"]
"""What becomes of the pictures: copied, linked (hard links: no room is taken, and a change of one is a change of
both), or left where they are (`file_name` is then the path below the source's root)."""

_SPLIT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_NO_LINKS = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.EACCES})


def write_coco(
    dataset: Dataset,
    splits: Mapping[str, Sequence[ImageRecord]],
    out: Path,
    *,
    pictures: Pictures,
    progress: Progress | None = None,
) -> None:
    """Write records of `dataset`, given by split, below the new or empty directory `out`.

    Pictures are numbered through all splits from 1, in the order given, and objects alike. Where two pictures of a
    split have one base name, the pictures of the split keep their folders. "link" copies where the file system has no
    hard links. The same arguments give the same bytes.

    Written beside `out` and renamed at the end, so an interrupted run leaves nothing half done. Raises DatasetError
    when `out` is not empty or lies in the dataset, when a picture is missing, or when the disk cannot take it.
    """
    out = Path(out)
    check_target(out, dataset.root)
    for name in splits:
        if not _SPLIT_NAME.fullmatch(name) or name == "annotations":
            raise DatasetError(f"a split named {name!r} cannot be a folder in {out}; rename it")
    target = out.resolve()
    unfinished = target.parent / f".{target.name}.{os.getpid()}.part"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(target)
        _write(dataset, splits, unfinished, pictures, progress)
        if target.exists():
            target.rmdir()
        unfinished.rename(target)
    except OSError as error:
        raise DatasetError(
            f"cannot write the dataset to {out}: {error.strerror or error}; make room, or name another directory"
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _remove_abandoned(target: Path) -> None:
    """What a process that was killed has left beside the target."""
    for part in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
        number = part.name.split(".")[-2]
        if number.isdigit() and (int(number) == os.getpid() or not _lives(int(number))):
            shutil.rmtree(part, ignore_errors=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def check_target(out: Path, source: Path) -> None:
    """Raise DatasetError when a dataset read from `source` cannot be written to `out`."""
    if out.is_symlink() and not out.exists():
        raise DatasetError(f"expected a new directory at {out}, but it is a link that leads nowhere; remove it")
    if out.exists() and not out.is_dir():
        raise DatasetError(f"expected a directory for the dataset at {out}, but it is a file; name another one")
    try:
        full = out.is_dir() and any(out.iterdir())
    except OSError as error:
        raise DatasetError(f"cannot look into {out}: {error.strerror or error}; name another directory") from error
    if full:
        raise DatasetError(f"expected a new or an empty directory at {out}, but it is not empty; name another one")
    if out.resolve().is_relative_to(source.resolve()):
        raise DatasetError(f"{out} lies in the dataset {source}, which would then hold itself; name a folder outside")


def coco_category_ids(dataset: Dataset) -> tuple[int, ...]:
    """The `category_id` of each class as written: COCO's own are kept, classes of other formats count from 1."""
    if dataset.source_format == "coco":
        return dataset.category_ids
    return tuple(range(1, len(dataset.class_names) + 1))


def _write(
    dataset: Dataset,
    splits: Mapping[str, Sequence[ImageRecord]],
    root: Path,
    pictures: Pictures,
    progress: Progress | None,
) -> None:
    (root / "annotations").mkdir(parents=True)
    identities = coco_category_ids(dataset)
    categories = [
        {"id": identity, "name": name} for identity, name in zip(identities, dataset.class_names, strict=True)
    ]
    total = sum(len(records) for records in splits.values())
    images = objects = 0
    for split, records in splits.items():
        names = [record.file for record in records] if pictures == "none" else _names(records)
        path = root / "annotations" / f"instances_{split}.json"
        _write_json(
            path,
            f"converted from {dataset.source_format} by nasdet",
            {
                "images": _images(records, names, images),
                "annotations": _annotations(records, identities, images, objects),
                "categories": map(json.dumps, categories),
            },
        )
        objects += sum(len(record.annotation) for record in records)
        if pictures != "none":
            (root / split).mkdir()
        for number, (record, name) in enumerate(zip(records, names, strict=True), start=images + 1):
            if pictures != "none":
                _place(dataset.root, record.file, root / split / name, link=pictures == "link")
            if progress is not None:
                progress(number, total)
        images += len(records)


def _names(records: Sequence[ImageRecord]) -> list[str]:
    """A name for each picture below its split's folder; differs from every other on any file system."""
    paths = [PurePosixPath(record.file) for record in records]
    base_names = [path.name for path in paths]
    if len({_folded(name) for name in base_names}) == len(paths):
        return base_names
    shared = os.path.commonpath([str(path.parent) for path in paths]) if paths else ""
    names = [str(path.relative_to(shared)) if shared else str(path) for path in paths]
    if len({_folded(name) for name in names}) == len(paths):
        return names
    return [f"{number:06d}/{name}" for number, name in enumerate(base_names, start=1)]  # names that differ by case


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _place(source_root: Path, file: str, target: Path, *, link: bool) -> None:
    source = Path(os.path.realpath(source_root / file))
    if not source.is_file():
        raise DatasetError(f"picture {file} is no longer in {source_root}; put it back and start again")
    target.parent.mkdir(parents=True, exist_ok=True)
    if link:
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
        else:
            return
    shutil.copyfile(source, target)


def _images(records: Sequence[ImageRecord], names: Sequence[str], before: int) -> Iterator[str]:
    for number, (record, name) in enumerate(zip(records, names, strict=True), start=before + 1):
        yield json.dumps({"id": number, "file_name": name, "width": record.width, "height": record.height})


def _annotations(records: Sequence[ImageRecord], identities: Sequence[int], images: int, objects: int) -> Iterator[str]:
    for image, record in enumerate(records, start=images + 1):
        rows = record.annotation
        for row in range(len(rows)):
            objects += 1
            entry: dict[str, Any] = {
                "id": objects,
                "image_id": image,
                "category_id": identities[rows.labels[row]],
                "bbox": rows.exact_xywh[row].tolist(),
                "area": float(rows.area[row]),
                "iscrowd": int(rows.crowd[row]),
                "difficult": int(rows.difficult[row]),
            }
            yield json.dumps(entry)


def _write_json(path: Path, description: str, lists: Mapping[str, Iterable[str]]) -> None:
    """An object of lists with one entry a line, so that a file of any size is written as it comes and can be read."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(f'{{\n"info": {json.dumps({"description": description})}')
        for key, entries in lists.items():
            file.write(f',\n"{key}": [')
            separator = "\n"
            for entry in entries:
                file.write(f"{separator}{entry}")
                separator = ",\n"
            file.write("\n]")
        file.write("\n}\n")

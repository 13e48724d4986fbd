"""The generated demo dataset: scenes of real handwritten digits, written to disk in COCO format.

Three digits of 18 to 56 pixels (drawn evenly on a logarithmic scale), bright on a darker, textured and coloured
ground, among clutter, partly over one another. The digits are the 8x8 scans that come with scikit-learn (UCI
"Optical Recognition of Handwritten Digits"); a scan used in one split is used in no other. The same arguments give
the same bytes; each scene depends on (seed, split, number) alone.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from nasdet_core.data.demo_scene import Scans, draw_scene
from nasdet_core.data.in_memory import Progress
from nasdet_core.errors import DatasetError

CLASSES = {"zero": 0, "four": 4, "seven": 7}
IMAGE_SIZE = (128, 160)  # height, width
_RECIPE = 1  # goes up when the same arguments would give other pictures
_SPLITS = ("train", "val", "test")
_SHARES = {"train": (0, 1, 2), "val": (3,), "test": (4,)}  # of every five scans of a digit


def write_demo_dataset(
    directory: Path,
    seed: int = 0,
    *,
    train: int = 480,
    val: int = 160,
    test: int = 160,
    progress: Progress | None = None,
) -> Path:
    """Write the dataset and return its directory; a directory that already holds it is left as it is.

    Written beside the target and renamed at the end, so an interrupted run leaves nothing half done.
    """
    directory = Path(directory)
    counts = {"train": train, "val": val, "test": test}
    if min(counts.values()) < 1:
        raise DatasetError(f"expected at least one demo scene in each split, asked for {counts}")
    settings = {"recipe": _RECIPE, "seed": seed, **counts}
    if directory.exists() and _is_there(directory, settings):
        return directory
    scans = _load_scans()
    directory.parent.mkdir(parents=True, exist_ok=True)
    unfinished = directory.parent / f".{directory.name}.{os.getpid()}.part"
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        _write(unfinished, seed, counts, scans, progress)
        (unfinished / "demo.json").write_text(json.dumps(settings) + "\n", encoding="utf-8")
        if directory.exists():
            directory.rmdir()  # empty, or _is_there would have refused it
        unfinished.rename(directory)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return directory


def _is_there(directory: Path, settings: Mapping[str, int]) -> bool:
    if not directory.is_dir():
        raise DatasetError(f"expected a directory for the demo dataset at {directory}, but it is a file")
    marker = directory / "demo.json"
    if not any(directory.iterdir()):
        return False
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{directory} is not empty and holds no demo dataset; name an empty or a new directory"
        ) from error
    if found != settings:
        raise DatasetError(
            f"{directory} holds a demo dataset made with {found}, asked for {dict(settings)}; name another directory"
        )
    return True


def _load_scans() -> dict[str, Scans]:
    """8x8 scans of each class, 0..1, by split."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DatasetError(
            "the demo dataset is made of scikit-learn's digits, but scikit-learn is not installed; "
            "install it with: pip install 'nasdet[demo]'"
        ) from error
    digits = load_digits()
    scans: npt.NDArray[np.float32] = (digits.images / 16).astype(np.float32)
    by_split: dict[str, Scans] = {}
    for split in _SPLITS:
        by_class = []
        for digit in CLASSES.values():
            mine = scans[digits.target == digit]
            by_class.append(mine[np.isin(np.arange(len(mine)) % 5, _SHARES[split])])
        by_split[split] = tuple(by_class)
    return by_split


def _write(
    root: Path, seed: int, counts: Mapping[str, int], scans: Mapping[str, Scans], progress: Progress | None
) -> None:
    done, total = 0, sum(counts.values())
    (root / "annotations").mkdir(parents=True)
    for place, split in enumerate(_SPLITS):
        (root / split).mkdir()
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number in range(1, counts[split] + 1):
            rng = np.random.default_rng((seed, place, number))
            pixels, boxes, labels = draw_scene(rng, scans[split], IMAGE_SIZE)
            name = f"{number:06d}.png"
            Image.fromarray(pixels).save(root / split / name, "PNG", compress_level=6)
            images.append({"id": number, "file_name": name, "height": IMAGE_SIZE[0], "width": IMAGE_SIZE[1]})
            for (x, y, width, height), label in zip(boxes, labels, strict=True):
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": label + 1,
                        "bbox": [x, y, width, height],
                        "area": width * height,
                        "iscrowd": 0,
                    }
                )
            done += 1
            if progress is not None:
                progress(done, total)
        _write_json(root / "annotations" / f"instances_{split}.json", images, annotations)


def _write_json(path: Path, images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> None:
    body = {
        "info": {"description": "generated scenes of handwritten digits", "version": str(_RECIPE)},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in enumerate(CLASSES, start=1)],
    }
    path.write_text(json.dumps(body) + "\n", encoding="utf-8")

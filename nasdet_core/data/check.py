"""The report of a dataset check: counts by split and class, sizes, defects as sentences. Needs no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nasdet_core.data.defects import DefectLog
from nasdet_core.data.in_memory import Dataset, Defect, ImageRecord, Progress
from nasdet_core.data.manifest import Manifest, build_manifest, examine_pictures, without_bad_pictures
from nasdet_core.data.pictures import PictureFacts
from nasdet_core.data.read import read_dataset
from nasdet_core.data.splits import SplitPlan, assign_splits
from nasdet_core.errors import DatasetError

SCHEMA = 1
_SMALL, _MEDIUM = 32**2, 96**2  # COCO's borders of small, medium and large objects, by area in pixels


def check_dataset(root: Path, progress: Progress | None = None, *, seed: int = 0) -> dict[str, Any]:
    """Read and decode everything below `root` and say what is there and what is wrong with it (JSON).

    A defect is left out and listed, never a stop; a DatasetError comes only when nothing usable is left.
    """
    return _inspect(root, progress, seed=seed)[0]


def check_and_build_manifest(
    root: Path, progress: Progress | None = None, *, seed: int = 0
) -> tuple[dict[str, Any], Manifest]:
    """The report and the dataset version from one pass over the pictures, for registering a dataset."""
    report, dataset, plan, facts = _inspect(root, progress, seed=seed)
    if plan is None:
        raise DatasetError(report["splits_problem"])
    return report, build_manifest(dataset, plan, facts=facts)


def _inspect(
    root: Path, progress: Progress | None, *, seed: int
) -> tuple[dict[str, Any], Dataset, SplitPlan | None, dict[str, PictureFacts]]:
    dataset = read_dataset(root)
    facts = examine_pictures(dataset, progress)
    usable = without_bad_pictures(dataset, facts)
    log = DefectLog()
    log.extend(usable.defects)
    for message in _repeated_pictures(usable, facts):
        log.add("repeated_picture", message)
    for message in _untrained_classes(usable):
        log.add("class_without_training_boxes", message)
    plan: SplitPlan | None = None
    problem: str | None = None
    try:
        plan = assign_splits(usable, seed)
    except DatasetError as error:
        problem = str(error)
    report = {
        "schema": SCHEMA,
        "format": usable.source_format,
        "classes": list(usable.class_names),
        "splits": {name: _split_figures(records, usable.class_names) for name, records in usable.splits.items()},
        "planned_splits": _planned(plan) if plan is not None else None,
        "splits_problem": problem,
        "picture_sizes": _picture_sizes(usable),
        "defects": [_as_json(defect) for defect in log.defects()],
        "defect_counts": _counts(log.defects()),
    }
    return report, usable, plan, facts


def _split_figures(records: Sequence[ImageRecord], names: Sequence[str]) -> dict[str, Any]:
    annotations = [record.annotation for record in records]
    boxes: Counter[int] = Counter(label for item in annotations for label in item.labels.tolist())
    areas = np.concatenate([item.area for item in annotations]) if annotations else np.zeros(0)
    return {
        "pictures": len(records),
        "pictures_without_boxes": sum(len(item) == 0 for item in annotations),
        "boxes": sum(boxes.values()),
        "boxes_by_class": {name: boxes[label] for label, name in enumerate(names)},
        "crowd": sum(int(item.crowd.sum()) for item in annotations),
        "difficult": sum(int(item.difficult.sum()) for item in annotations),
        "boxes_over_the_border": sum(_over_the_border(record) for record in records),
        "small": int((areas < _SMALL).sum()),
        "medium": int(((areas >= _SMALL) & (areas < _MEDIUM)).sum()),
        "large": int((areas >= _MEDIUM).sum()),
        "most_boxes_in_a_picture": max((len(item) for item in annotations), default=0),
    }


def _over_the_border(record: ImageRecord) -> int:
    boxes = record.annotation.boxes_xyxy
    over = (boxes[:, :2] < 0).any(axis=1) | (boxes[:, 2] > record.width) | (boxes[:, 3] > record.height)
    return int(over.sum())


def _planned(plan: SplitPlan) -> dict[str, Any]:
    return {
        role: {"name": plan.names[role], "pictures": len(plan.files(role))}
        for role in ("train", "search", "report", "final")
    }


def _picture_sizes(dataset: Dataset) -> list[dict[str, int]]:
    """The most frequent sizes, at most ten."""
    sizes = Counter((record.width, record.height) for record in dataset.by_file().values())
    ranked = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:10]
    return [{"width": width, "height": height, "pictures": count} for (width, height), count in ranked]


def _repeated_pictures(dataset: Dataset, facts: Mapping[str, PictureFacts]) -> Iterable[str]:
    """The same picture in a split that trains and one that measures makes the measured AP too good."""
    first: dict[str, tuple[str, str]] = {}
    for split, records in dataset.splits.items():
        for record in records:
            digest = facts[record.file].sha256 or record.file
            file, other = first.setdefault(digest, (record.file, split))
            if file != record.file:
                where = f"both in {split}" if other == split else f"in {other} and {split}"
                yield f"pictures {file} and {record.file} have the same bytes ({where}); both are used"


def _untrained_classes(dataset: Dataset) -> Iterable[str]:
    records = dataset.splits.get("train")
    if records is None:
        return
    seen = {label for record in records for label in record.annotation.labels.tolist()}
    for label, name in enumerate(dataset.class_names):
        if label not in seen:
            yield f"class {name} has no box in train, so it cannot be learned"


def _as_json(defect: Defect) -> dict[str, Any]:
    return {"kind": defect.kind, "message": defect.message, "count": defect.count}


def _counts(defects: Iterable[Defect]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for defect in defects:
        counts[defect.kind] += defect.count
    return dict(sorted(counts.items()))

"""What a dataset holds, in figures (JSON): by split and class, sizes of objects and pictures, how far AP can be
trusted. Needs no torch."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from nasdet_core.data.expected_error import expected_ap_error, smallest_difference
from nasdet_core.data.in_memory import Dataset, Defect, ImageRecord
from nasdet_core.data.readers.raw import RawDataset, RawSplit
from nasdet_core.data.splits import SplitPlan

SCHEMA = 1
SMALL, MEDIUM = 32**2, 96**2  # COCO's borders of small, medium and large objects, by area in pixels
SIZE_BORDERS = (8, 16, 32, 64, 96, 128, 256, 512)  # of the histogram: square root of an object's area, pixels
MOST_PICTURE_SIZES = 10
LARGE_ERROR = 0.02
"""An expected error of AP over this hides the differences between good candidates (BCCD: 0.006 between the best)."""

_NUMBER = re.compile(r"(.*?)(\d+)\Z", re.DOTALL)
_Floats = npt.NDArray[np.float64]


def describe(
    raw: RawDataset, dataset: Dataset, defects: Sequence[Defect], plan: SplitPlan | None, problem: str | None
) -> dict[str, Any]:
    """The report of a check."""
    written = {split.name: split for split in raw.splits}
    counts: Counter[str] = Counter()
    for defect in defects:
        counts[defect.kind] += defect.count
    trust = _trust(dataset, plan)
    return {
        "schema": SCHEMA,
        "format": dataset.source_format,
        "layout": raw.layout,
        "classes": list(dataset.class_names),
        "class_map": [
            {"id": identity, "name": name, "label": label}
            for label, (identity, name) in enumerate(zip(dataset.category_ids, dataset.class_names, strict=True))
        ],
        "splits": {
            name: _split_figures(records, dataset.class_names, written[name])
            for name, records in dataset.splits.items()
        },
        "planned_splits": _planned(plan) if plan is not None else None,
        "splits_problem": problem,
        "trust": trust,
        "picture_sizes": _picture_sizes(dataset),
        "distinct_picture_sizes": len({(r.width, r.height) for r in dataset.by_file().values()}),
        "numbering": _numbering(dataset),
        "notes": dict(raw.notes or {}),
        "defects": [
            {"kind": defect.kind, "effect": defect.effect, "message": defect.message, "count": defect.count}
            for defect in defects
        ],
        "defect_counts": dict(sorted(counts.items())),
        "advice": list(_advice(trust, plan)),
    }


def unused_splits(dataset: Dataset) -> Iterator[str]:
    """Sentences about splits that no search can use; the other splits are then used by the rules for fewer."""
    for name, records in dataset.splits.items():
        if not any(len(record.annotation) for record in records):
            what = "has no usable box" if records else "has no usable picture"
            yield f"split {name} {what}; searches treat the dataset as if it had no such split"


def class_coverage(raw: RawDataset, dataset: Dataset) -> Iterator[tuple[str, str, int]]:
    """(kind, sentence, classes) for classes that are never used, and that have boxes in some splits only."""
    written = {int(label) for split in raw.splits for label in np.unique(split.objects.labels)}
    unused = [name for label, name in enumerate(dataset.class_names) if label not in written]
    if unused:
        listed = ", ".join(unused)
        yield (
            "unused_class",
            f"{len(unused)} of {len(dataset.class_names)} classes are never used: {listed}",
            len(unused),
        )
    if len(dataset.splits) < 2:
        return
    where: dict[tuple[str, ...], list[str]] = defaultdict(list)
    present = {name: _classes_of(records) for name, records in dataset.splits.items()}
    for label, class_name in enumerate(dataset.class_names):
        splits = tuple(name for name, labels in present.items() if label in labels)
        if 0 < len(splits) < len(present):
            where[splits].append(class_name)
    for splits, names in sorted(where.items()):
        listed = ", ".join(names)
        missing = ", ".join(name for name in present if name not in splits)
        if len(splits) == 1:
            so = "cannot be measured" if splits[0] == "train" else "cannot be learned"
            classes = f"{len(names)} classes have" if len(names) > 1 else "1 class has"
            yield "class_in_one_split_only", f"{classes} boxes in {splits[0]} only and {so}: {listed}", len(names)
        else:
            classes = f"{len(names)} classes have" if len(names) > 1 else "1 class has"
            yield "class_missing_in_a_split", f"{classes} no boxes in {missing}: {listed}", len(names)


def _classes_of(records: Sequence[ImageRecord]) -> set[int]:
    return set(np.unique(np.concatenate([r.annotation.labels for r in records])).tolist()) if records else set()


def _split_figures(records: Sequence[ImageRecord], names: Sequence[str], written: RawSplit) -> dict[str, Any]:
    annotations = [record.annotation for record in records]
    labels = np.concatenate([item.labels for item in annotations]) if annotations else np.zeros(0, dtype=np.int64)
    areas = np.concatenate([item.area for item in annotations]) if annotations else np.zeros(0)
    per_picture = [len(item) for item in annotations]
    boxes = np.bincount(labels, minlength=len(names))
    pictures: Counter[int] = Counter(label for item in annotations for label in set(item.labels.tolist()))
    as_written = np.bincount(written.objects.labels, minlength=len(names))
    return {
        "pictures": len(records),
        "pictures_listed": len(written.pictures),
        "pictures_without_boxes": sum(count == 0 for count in per_picture),
        "boxes": len(labels),
        "boxes_written": len(written.objects),
        "boxes_by_class": {name: int(boxes[label]) for label, name in enumerate(names)},
        "boxes_written_by_class": {name: int(as_written[label]) for label, name in enumerate(names)},
        "pictures_by_class": {name: pictures[label] for label, name in enumerate(names)},
        "classes_used": int((as_written > 0).sum()),
        "crowd": sum(int(item.crowd.sum()) for item in annotations),
        "difficult": sum(int(item.difficult.sum()) for item in annotations),
        "truncated": int(written.objects.truncated.sum()),
        "small": int((areas < SMALL).sum()),
        "medium": int(((areas >= SMALL) & (areas < MEDIUM)).sum()),
        "large": int((areas >= MEDIUM).sum()),
        "object_sizes": _size_histogram(areas),
        "boxes_in_a_picture": {"fewest": min(per_picture, default=0), "most": max(per_picture, default=0)},
    }


def _size_histogram(areas: _Floats) -> list[dict[str, Any]]:
    """Objects by the square root of their area in pixels: [from, below) and how many."""
    sides = np.sqrt(np.maximum(areas, 0))
    borders = [0.0, *SIZE_BORDERS, np.inf]
    counts, _ = np.histogram(sides, bins=borders)
    return [
        {"from": int(low), "below": None if np.isinf(high) else int(high), "objects": int(count)}
        for low, high, count in zip(borders[:-1], borders[1:], counts, strict=True)
    ]


def _planned(plan: SplitPlan) -> dict[str, Any]:
    return {
        role: {"name": plan.names[role], "pictures": len(plan.files(role))}
        for role in ("train", "search", "report", "final")
    }


def _trust(dataset: Dataset, plan: SplitPlan | None) -> dict[str, Any]:
    """By role that is measured: how far AP will move by the choice of its pictures alone."""
    if plan is None:
        return {}
    known = dataset.by_file()
    found: dict[str, Any] = {}
    for role in ("search", "report"):
        records = [known[file] for file in plan.files(role)]
        error = expected_ap_error([record.annotation for record in records], len(dataset.class_names))
        found[role] = {
            "split": plan.names[role],
            "pictures": len(records),
            "expected_ap_error": error,
            "smallest_difference": None if error is None else smallest_difference(error),
        }
    return found


def _advice(trust: Mapping[str, Any], plan: SplitPlan | None) -> Iterator[str]:
    if plan is not None and plan.unused:
        yield f"split {', '.join(plan.unused)} takes no part in a search; {plan.names['report']} is reported"
    for role, figures in trust.items():
        error = figures["expected_ap_error"]
        if error is not None and error > LARGE_ERROR:
            yield (
                f"{figures['pictures']} pictures ({figures['split']}) are too few for a trustworthy AP in the {role} "
                f"split: by their choice alone it is off by about ±{error:.3f}; four times as many would halve that"
            )


def _picture_sizes(dataset: Dataset) -> list[dict[str, int]]:
    """The most frequent sizes, at most ten."""
    sizes = Counter((record.width, record.height) for record in dataset.by_file().values())
    ranked = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:MOST_PICTURE_SIZES]
    return [{"width": width, "height": height, "pictures": count} for (width, height), count in ranked]


def _numbering(dataset: Dataset) -> dict[str, int] | None:
    """Where the pictures are numbered: first and last number, and how many between them are missing.

    None when the names do not share one beginning followed by a number.
    """
    matches = [_NUMBER.match(PurePosixPath(file).stem) for file in dataset.by_file()]
    found = [match for match in matches if match is not None and len(match[2]) <= 15]
    if len(found) < len(matches) or len({match[1] for match in found}) != 1:
        return None
    numbers = sorted({int(match[2]) for match in found})
    return {"first": numbers[0], "last": numbers[-1], "missing": numbers[-1] - numbers[0] + 1 - len(numbers)}

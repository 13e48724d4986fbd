"""The check of a dataset: everything is read and decoded once, and what is there and what is wrong becomes a report.

A defect is a sentence about a file, never a stop; what becomes of the thing is said with it (left out, repaired, or
only noted). The same pass yields the dataset version. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nasdet_core.data.defects import DefectLog
from nasdet_core.data.in_memory import Dataset
from nasdet_core.data.leaks import find_leaks
from nasdet_core.data.manifest import Manifest, build_manifest
from nasdet_core.data.pictures import PictureFacts, examine_all
from nasdet_core.data.read import picture_files, read_annotations
from nasdet_core.data.readers.assemble import assemble
from nasdet_core.data.readers.coco import read_coco
from nasdet_core.data.readers.coco_layout import CocoFiles
from nasdet_core.data.readers.layout import locate
from nasdet_core.data.readers.raw import RawDataset
from nasdet_core.data.report import class_coverage, describe, unused_splits
from nasdet_core.data.splits import SplitPlan, assign_splits
from nasdet_core.errors import DatasetError

StageProgress = Callable[[str, int, int], None]
"""Called with (what is being done, done, total)."""

READING, LOOKING, COMPARING = "reading annotations", "looking at pictures", "comparing pictures"


def check_dataset(root: Path, progress: StageProgress | None = None, *, seed: int = 0) -> dict[str, Any]:
    """Read and decode everything below `root` and say what is there and what is wrong with it (JSON).

    A defect is left out and listed, never a stop; a DatasetError comes only when nothing usable is left.
    """
    return _inspect(root, progress, seed=seed).report


def check_annotations(path: Path, progress: StageProgress | None = None, *, seed: int = 0) -> dict[str, Any]:
    """The check of COCO files alone: the pictures need not be there, and nothing is said about them."""
    files = locate(Path(path))
    if not isinstance(files, CocoFiles):
        raise DatasetError(
            f"a check without pictures needs COCO files, but {path} has another format; check it with its pictures"
        )
    log = DefectLog()
    raw = read_coco(files, log=log, progress=_stage(progress, READING), need_pictures=False)
    # The entries' own sizes stand for the pictures; without one, boxes cannot be outside.
    facts = {
        picture.file: PictureFacts(*(picture.size or (1 << 30, 1 << 30)))
        for split in raw.splits
        for picture in split.pictures
    }
    return _report(raw, assemble(raw, facts), seed=seed)[0]


def check_and_build_manifest(
    root: Path, progress: StageProgress | None = None, *, seed: int = 0
) -> tuple[dict[str, Any], Manifest]:
    """The report and the dataset version from one pass over the pictures, for registering a dataset."""
    found = _inspect(root, progress, seed=seed)
    if found.plan is None:
        raise DatasetError(found.report["splits_problem"])
    hashes = {file: fact.sha256 for file, fact in found.facts.items() if fact.sha256 is not None}
    used = found.dataset.by_file()
    left_out = {*found.raw.left_out, *(file for file in found.facts if file not in used)}
    return found.report, build_manifest(found.dataset, found.plan, picture_hashes=hashes, left_out=left_out)


class _Inspected:
    """What one pass over a dataset yields."""

    def __init__(
        self,
        raw: RawDataset,
        facts: dict[str, PictureFacts],
        dataset: Dataset,
        report: dict[str, Any],
        plan: SplitPlan | None,
    ) -> None:
        self.raw, self.facts, self.dataset, self.report, self.plan = raw, facts, dataset, report, plan


def _inspect(root: Path, progress: StageProgress | None, *, seed: int) -> _Inspected:
    raw = read_annotations(root, progress=_stage(progress, READING))
    facts = examine_all(raw.root, picture_files(raw), _stage(progress, LOOKING))
    dataset = assemble(raw, facts)
    if progress is not None:
        progress(COMPARING, 0, 1)
    report, plan = _report(raw, dataset, seed=seed, facts=facts)
    if progress is not None:
        progress(COMPARING, 1, 1)
    return _Inspected(raw, facts, dataset, report, plan)


def _report(
    raw: RawDataset, dataset: Dataset, *, seed: int, facts: Mapping[str, PictureFacts] | None = None
) -> tuple[dict[str, Any], SplitPlan | None]:
    log = DefectLog()
    log.extend(dataset.defects)
    if facts is not None:
        _add_leaks(dataset, facts, log)
    for sentence in unused_splits(dataset):
        log.add("empty_split", sentence)
    for kind, sentence, count in class_coverage(raw, dataset):
        log.add(kind, sentence, count)
    plan: SplitPlan | None = None
    problem: str | None = None
    try:
        plan = assign_splits(dataset, seed)
    except DatasetError as error:
        problem = str(error)
    return describe(raw, dataset, log.defects(), plan, problem), plan


def _add_leaks(dataset: Dataset, facts: Mapping[str, PictureFacts], log: DefectLog) -> None:
    """The same picture in a split that trains and one that measures makes the measured AP too good."""
    files = {name: [record.file for record in records] for name, records in dataset.splits.items()}
    used = dataset.by_file()
    hashes = {file: fact.sha256 for file, fact in facts.items() if file in used and fact.sha256 is not None}
    thumbnails = {file: fact.thumbnail for file, fact in facts.items() if file in used and fact.thumbnail is not None}
    for leak in find_leaks(files, hashes, thumbnails):
        log.add(leak.kind, leak.message)


def _stage(progress: StageProgress | None, name: str) -> Callable[[int, int], None]:
    def report(done: int, total: int) -> None:
        if progress is not None:
            progress(name, done, total)

    return report

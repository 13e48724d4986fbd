"""Datasets on this machine: what a check of them finds, another form of them, their place in a home."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nasdet_client.errors import CommandError
from nasdet_client.local.home import Home
from nasdet_client.sdk import ConnectionSettingError, NasdetClient, UnreachableError

if TYPE_CHECKING:  # the core is imported when a command runs, not when it is described
    from nasdet_core.data.in_memory import Dataset, ImageRecord

Json = dict[str, Any]
Progress = Callable[[str, int, int], None]
"""Called with (what is being done, how much of it is done, how much there is)."""

Pictures = Literal["copy", "link", "none"]
READING, LOOKING, WRITING = "reading annotations", "looking at pictures", "writing the dataset"


@dataclass(frozen=True)
class SplitRequest:
    """How pictures are dealt out: fractions of all of them, or a search split taken out of train, or neither."""

    fractions: Mapping[str, float] | None
    search: int | None
    seed: int
    stratified: bool


def check_directory(directory: Path, progress: Progress, *, annotations_only: bool = False) -> Json:
    """The check's report. Raises CommandError when nothing below the directory can be used, or a package is missing."""
    with _sentences():
        from nasdet_core.data.check import check_annotations, check_dataset

        return check_annotations(directory, progress) if annotations_only else check_dataset(directory, progress)


def convert_directory(directory: Path, out: Path, pictures: Pictures, progress: Progress) -> Json:
    """Write a dataset of any layout in COCO form; return what was written, and what was left out."""
    with _sentences():
        dataset = _read(directory, out, progress)
        return _write(dataset, dataset.splits, out, pictures, progress)


def split_directory(directory: Path, out: Path, request: SplitRequest, pictures: Pictures, progress: Progress) -> Json:
    """Write a dataset in COCO form with other splits; return what was written, and the splits that it had before."""
    with _sentences():
        from nasdet_core.data.draw_splits import divide, take_search_split

        dataset = _read(directory, out, progress)
        before = {name: len(records) for name, records in dataset.splits.items()}
        seed, stratified = request.seed, request.stratified
        if request.search is not None:
            splits = take_search_split(dataset, request.search, seed=seed, stratified=stratified)
        else:
            fractions = request.fractions or _default_fractions(dataset)
            splits = divide(dataset, fractions, seed=seed, stratified=stratified)
        dissolved = [] if request.search is not None or len(before) == 1 else sorted(before)
        written = _write(dataset, splits, out, pictures, progress)
        return {
            **written,
            "seed": seed,
            "stratified": stratified,
            "splits_before": before,
            "dissolved": dissolved,
        }


def register_directory(directory: Path, home: Home, name: str | None, progress: Progress) -> Json:
    """Check a dataset and make it known to a home, and to its platform where that is running.

    Raises CommandError when no search could use the dataset; it is not registered then.
    """
    if name is not None:
        home.check_dataset_name(name, directory)  # before the pictures are looked at, which takes long
    report = check_directory(directory, progress)
    if report["splits_problem"]:
        raise CommandError(f"{directory} is not registered: {report['splits_problem']}")
    registered = home.register_dataset(directory, name)
    return {"name": registered, "home": str(home.path), "platform": _tell_platform(home, registered), "check": report}


def _tell_platform(home: Home, name: str) -> str | None:
    """Make the dataset known to the home's platform; None where none is running. It reads the home when it starts."""
    address, token = home.address(), home.token()
    if address is None or token is None:
        return None
    try:
        with NasdetClient(address, token, patience_s=2.0) as client:
            client.create_dataset(name)
    except ConnectionSettingError as error:
        raise CommandError(f"{error}; {home.address_file} and {home.token_file} were read") from error
    except UnreachableError:
        return None  # an address left behind by a platform that was killed
    return address


def _default_fractions(dataset: Dataset) -> dict[str, float]:
    if len(dataset.splits) > 1:
        raise CommandError(
            f"{dataset.root} has the splits {', '.join(sorted(dataset.splits))} already; take a search split out of "
            "train with --search N, or draw all pictures anew with --train, --val and --test"
        )
    return {"train": 0.6, "val": 0.2, "test": 0.2}


def _read(directory: Path, out: Path, progress: Progress) -> Dataset:
    """The usable part of a dataset: every picture is decoded, so that a broken one is left out here."""
    from nasdet_core.data.pictures import examine_all
    from nasdet_core.data.read import picture_files, read_annotations
    from nasdet_core.data.readers.assemble import assemble
    from nasdet_core.data.write_coco import check_target

    check_target(out, directory)
    raw = read_annotations(directory, progress=lambda done, total: progress(READING, done, total))
    facts = examine_all(raw.root, picture_files(raw), lambda done, total: progress(LOOKING, done, total))
    return assemble(raw, facts)


def _write(
    dataset: Dataset, splits: Mapping[str, tuple[ImageRecord, ...]], out: Path, pictures: Pictures, progress: Progress
) -> Json:
    from nasdet_core.data.write_coco import coco_category_ids, write_coco

    write_coco(dataset, splits, out, pictures=pictures, progress=lambda done, total: progress(WRITING, done, total))
    return {
        "out": str(out),
        "source": str(dataset.root),
        "source_format": dataset.source_format,
        "pictures": pictures,
        "classes": [
            {"name": name, "source_id": source, "category_id": written}
            for name, source, written in zip(
                dataset.class_names, dataset.category_ids, coco_category_ids(dataset), strict=True
            )
        ],
        "splits": {name: _figures(records, dataset.class_names) for name, records in splits.items()},
        "defects": _defects_by_kind(dataset),
    }


def _figures(records: tuple[ImageRecord, ...], names: tuple[str, ...]) -> Json:
    boxes = Counter(label for record in records for label in record.annotation.labels.tolist())
    return {
        "pictures": len(records),
        "boxes": sum(boxes.values()),
        "boxes_by_class": {name: boxes[label] for label, name in enumerate(names)},
    }


def _defects_by_kind(dataset: Dataset) -> list[Json]:
    kinds: dict[str, Json] = {}
    for defect in dataset.defects:
        entry = kinds.setdefault(
            defect.kind, {"kind": defect.kind, "effect": defect.effect, "count": 0, "first": defect.message}
        )
        entry["count"] += defect.count
    return list(kinds.values())


@contextmanager
def _sentences() -> Iterator[None]:
    """What the core says about bad input, and a package that is missing, as one sentence."""
    try:
        from nasdet_core.errors import NasDetError

        try:
            yield
        except NasDetError as error:
            raise CommandError(str(error)) from error
    except ModuleNotFoundError as error:
        raise CommandError(
            f"reading pictures needs the package {error.name}; install it with: pip install 'nasdet[worker]'"
        ) from error

"""Which pictures train, which steer the search, which are reported.

* train + search + val (or test): taken as they are, search on search, report on val (or test). This is the form of
  DetNAS written out as files (`nasdet data split --search`). With train, search, val and test the report is on test,
  as it is wherever there is one; val then takes no part, so that no number in the report comes from pictures that
  anything was chosen by.
* train + val + test: search on val, report on test.
* train + val (or train + test): a seeded search split is taken out of train; the other set is reported. It
  has a fifth of the training pictures, at most 5000, which on COCO is the number of DetNAS (Chen et al.
  2019, arXiv:1903.10979, section 4).
* one set: train, search and report (60 : 20 : 20) are drawn by seed.

Whatever is drawn is drawn stratified by class (`stratify.draw_stratified`), as by `nasdet data split`: on a small
dataset a plain draw leaves rare classes without a single object to train or to measure on. DetNAS itself drew its
search split plainly; at the size of COCO both come to the same.

Finalists and baseline train on `final`: train, plus the search split when that came out of train. The seed
belongs to the dataset version, so two searches on one version see the same splits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nasdet_core.data.defects import DefectLog
from nasdet_core.data.draw_splits import draw
from nasdet_core.data.in_memory import Dataset, ImageRecord
from nasdet_core.errors import DatasetError

ROLES = ("train", "search", "report", "final")
SEARCH_SHARE = 0.2
SEARCH_MAXIMUM = 5000
SMALLEST_MEASURED = 2
"""Pictures with objects that a search or report split needs: one alone gives no standard error."""


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """Files of each role, and the name under which a result on that role is shown ('val', 'train:search')."""

    train: tuple[str, ...]
    search: tuple[str, ...]
    report: tuple[str, ...]
    final: tuple[str, ...]
    names: Mapping[str, str]
    seed: int
    unused: tuple[str, ...] = ()  # splits with boxes that take no part

    def files(self, role: str) -> tuple[str, ...]:
        return {"train": self.train, "search": self.search, "report": self.report, "final": self.final}[role]


def assign_splits(dataset: Dataset, seed: int = 0) -> SplitPlan:
    """Give every picture its role by the rules above, and check that AP can be measured on what is measured."""
    plan = _assign(dataset, seed)
    records = dataset.by_file()
    for role in ("search", "report"):
        measurable = sum(bool(records[file].annotation.trainable.any()) for file in plan.files(role))
        if measurable < SMALLEST_MEASURED:
            raise DatasetError(
                f"expected at least {SMALLEST_MEASURED} pictures with objects in the {role} split "
                f"({plan.names[role]}) of {dataset.root}, found {measurable}; add pictures to it"
            )
    return plan


def _assign(dataset: Dataset, seed: int) -> SplitPlan:
    usable = {name: records for name, records in dataset.splits.items() if _boxes(records)}
    measured = [name for name in ("val", "test") if name in usable]
    if len(usable) == 1:
        return _from_one_set(*next(iter(usable.items())), seed)
    if "train" not in usable or not measured:
        names = ", ".join(sorted(usable)) or "none"
        raise DatasetError(
            f"expected splits train and val, train, val and test, train, search and val, or a single set with boxes "
            f"in {dataset.root}, found {names}; rename the split files"
        )
    if "search" in usable:
        return _as_written(usable, search="search", report=measured[-1], seed=seed)
    if len(measured) == 2:
        return _as_written(usable, search="val", report="test", seed=seed)
    return _search_out_of_train(usable, measured[0], dataset, seed)


def _as_written(usable: Mapping[str, Sequence[ImageRecord]], *, search: str, report: str, seed: int) -> SplitPlan:
    train, held_out = _files(usable["train"]), _files(usable[search])
    came_from_train = search == "search"
    return SplitPlan(
        train=train,
        search=held_out,
        report=_files(usable[report]),
        final=tuple(sorted((*train, *held_out))) if came_from_train else train,
        names={
            "train": "train",
            "search": search,
            "report": report,
            "final": "train+search" if came_from_train else "train",
        },
        seed=seed,
        unused=tuple(sorted(set(usable) - {"train", search, report})),
    )


def _search_out_of_train(
    usable: Mapping[str, Sequence[ImageRecord]], report: str, dataset: Dataset, seed: int
) -> SplitPlan:
    train = _files(usable["train"])
    rest, search = _draw(usable["train"], (_share(len(train)),), seed, dataset)
    return SplitPlan(
        train=rest,
        search=search,
        report=_files(usable[report]),
        final=train,
        names={"train": "train:rest", "search": "train:search", "report": report, "final": "train"},
        seed=seed,
        unused=tuple(sorted(set(usable) - {"train", report})),
    )


def drop_repeated(splits: Mapping[str, tuple[ImageRecord, ...]], log: DefectLog) -> dict[str, tuple[ImageRecord, ...]]:
    """A picture named by two splits stays in the one that measures (test before val before search)."""
    order = sorted(splits, key=lambda name: {"test": 0, "val": 1, "search": 2}.get(name, 3))
    owner: dict[str, str] = {}
    for name in order:
        for record in splits[name]:
            first = owner.setdefault(record.file, name)
            if first != name:
                log.add(
                    "picture_in_two_splits",
                    f"picture {record.file} is in {name} and {first}; left out of {name}",
                )
    return {name: tuple(record for record in records if owner[record.file] == name) for name, records in splits.items()}


def no_boxes_left(splits: Mapping[str, tuple[ImageRecord, ...]]) -> bool:
    return not any(_boxes(records) for records in splits.values())


def _from_one_set(name: str, records: Sequence[ImageRecord], seed: int) -> SplitPlan:
    if len(records) < 2 * SMALLEST_MEASURED + 1:
        raise DatasetError(
            f"expected at least {2 * SMALLEST_MEASURED + 1} usable pictures to draw train, search and report "
            f"splits from {name!r}, found {len(records)}"
        )
    share = _share(len(records))
    train, search, report = _draw(records, (share, share), seed, None)
    return SplitPlan(
        train=train,
        search=search,
        report=report,
        final=tuple(sorted((*train, *search))),
        names={
            "train": f"{name}:train",
            "search": f"{name}:search",
            "report": f"{name}:report",
            "final": f"{name}:train+search",
        },
        seed=seed,
    )


def _share(pictures: int) -> int:
    return min(SEARCH_MAXIMUM, max(SMALLEST_MEASURED, round(SEARCH_SHARE * pictures)))


def _draw(
    records: Sequence[ImageRecord], shares: Sequence[int], seed: int, dataset: Dataset | None
) -> tuple[tuple[str, ...], ...]:
    """(what is left, first share, second share ...), each in file order."""
    if sum(shares) >= len(records):
        where = f" in {dataset.root}" if dataset is not None else ""
        raise DatasetError(
            f"expected more than {sum(shares)} usable training pictures to split{where}, found {len(records)}"
        )
    return tuple(_files(subset) for subset in draw(records, shares, seed))


def _files(records: Sequence[ImageRecord]) -> tuple[str, ...]:
    return tuple(record.file for record in records)


def _boxes(records: Sequence[ImageRecord]) -> int:
    return sum(len(record.annotation) for record in records)

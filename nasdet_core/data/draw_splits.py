"""Draws splits by seed: the one way in which pictures are dealt out, for a search and for files alike."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from nasdet_core.data.in_memory import Dataset, ImageRecord
from nasdet_core.data.stratify import draw_random, draw_stratified
from nasdet_core.errors import DatasetError

Records = tuple[ImageRecord, ...]
FRACTION_TOLERANCE = 1e-6  # 0.7 + 0.2 + 0.1 is not quite 1


def draw(
    records: Sequence[ImageRecord], shares: Sequence[int], seed: int, *, stratified: bool = True
) -> tuple[Records, ...]:
    """(what is left, first share, second share, ...) of pictures, each in the order of the file names.

    Depends on the pictures, their classes and the seed, not on the order in which they are given.
    """
    ordered = sorted(records, key=lambda record: record.file)
    rng = random.Random(f"nasdet-splits:{seed}")
    if stratified:
        subset_of = draw_stratified([classes_present(record) for record in ordered], shares, rng)
    else:
        subset_of = draw_random(len(ordered), shares, rng)
    subsets: list[list[ImageRecord]] = [[] for _subset in range(len(shares) + 1)]
    for record, subset in zip(ordered, subset_of.tolist(), strict=True):
        subsets[subset].append(record)
    return tuple(tuple(subset) for subset in subsets)


def classes_present(record: ImageRecord) -> frozenset[int]:
    """The classes by which pictures are stratified: those of objects that count in training and in AP."""
    objects = record.annotation
    return frozenset(objects.labels[objects.trainable].tolist())


def divide(
    dataset: Dataset, fractions: Mapping[str, float], *, seed: int, stratified: bool = True
) -> dict[str, Records]:
    """All pictures of the dataset dealt out anew, whatever splits they have; `fractions` sum to 1.

    A fraction of zero makes no split; the first split takes what rounding leaves. Raises DatasetError when the
    fractions do not sum to 1, name fewer than two splits, or leave a split without a picture.
    """
    wanted = {name: fraction for name, fraction in fractions.items() if fraction != 0}
    given = ", ".join(f"{name} {fraction:g}" for name, fraction in fractions.items())
    total = sum(wanted.values())
    if not abs(total - 1) <= FRACTION_TOLERANCE:  # also where one is not a number
        raise DatasetError(f"expected fractions that sum to 1, but {given} sum to {total:g}")
    if len(wanted) < 2 or min(wanted.values()) < 0:
        raise DatasetError(f"expected fractions between 0 and 1 for two or more splits, got {given}")
    records = [record for split in dataset.splits.values() for record in split]
    names = list(wanted)
    shares = [round(wanted[name] * len(records)) for name in names[1:]]
    sizes = [len(records) - sum(shares), *shares]
    if min(sizes) < 1:
        empty = names[sizes.index(min(sizes))]
        raise DatasetError(
            f"{given} of {len(records)} pictures leaves none for {empty}; give that split a larger fraction"
        )
    return dict(zip(names, draw(records, shares, seed, stratified=stratified), strict=True))


def take_search_split(dataset: Dataset, pictures: int, *, seed: int, stratified: bool = True) -> dict[str, Records]:
    """A split `search` taken out of train, DetNAS's form; the splits that are measured stay as they are.

    Raises DatasetError when there is no train, nothing to report on, a search split already, or not enough pictures.
    """
    found = ", ".join(sorted(dataset.splits)) or "none"
    train = dataset.splits.get("train")
    if train is None or not {"val", "test"} & set(dataset.splits):
        raise DatasetError(
            f"expected splits train and val (or test) in {dataset.root} to take a search split out of train, found "
            f"{found}; draw train, val and test from all pictures first"
        )
    if "search" in dataset.splits:
        raise DatasetError(f"{dataset.root} has a split search already; a search uses it as it is")
    if not 0 < pictures < len(train):
        raise DatasetError(
            f"expected fewer pictures for the search split than the {len(train)} of train in {dataset.root}, "
            f"asked for {pictures}"
        )
    rest, search = draw(train, (pictures,), seed, stratified=stratified)
    others = {name: records for name, records in dataset.splits.items() if name != "train"}
    return {"train": rest, "search": search, **others}

"""Draws subsets of pictures with exact sizes: stratified by class, or plainly at random.

Stratified: the iterative algorithm of Sechidis, Tsoumakas and Vlahavas 2011, "On the Stratification of Multi-label
Data" (ECML PKDD), figure 1. The class with the fewest pictures left is dealt out first, since later there would be no
room to correct it; each of its pictures goes to the subset that lacks most pictures of this class. We leave the paper
in three points: a full subset takes no more, so that the sizes are exact; among equal subsets the one that lacks most
over all classes of the picture comes before the one with most room and the lot; and pictures without objects are dealt
out before all others, so that they are spread in proportion too and do not fill up whatever is left.

Plainly at random: how DetNAS made its search split (Chen et al. 2019, arXiv:1903.10979, section 4).
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from nasdet_core.errors import DatasetError

Assignment = npt.NDArray[np.int64]
"""[N] subset of each picture: 0 is the rest, k the k-th share."""

_NO_OBJECT = -1


def draw_stratified(labels: Sequence[Collection[int]], shares: Sequence[int], rng: random.Random) -> Assignment:
    """Give each picture a subset so that every class is spread over the subsets in proportion to their sizes.

    `labels` holds the classes present in each picture (indices from 0; none for a picture without objects), `shares`
    the exact number of pictures of subset 1, 2, ...; what is left is subset 0. The same labels in the same order with
    the same state of `rng` give the same assignment, so callers put pictures into a fixed order first (by name).

    Raises DatasetError when the shares are negative or ask for more pictures than there are.
    """
    sizes = _sizes(len(labels), shares)
    present = [tuple(sorted(set(classes))) or (_NO_OBJECT,) for classes in labels]
    order = list(range(len(present)))
    rng.shuffle(order)
    pictures_of: dict[int, list[int]] = {}
    for picture in order:
        for label in present[picture]:
            pictures_of.setdefault(label, []).append(picture)
    # Scaled by the number of pictures, what a subset lacks is a whole number: no rounding decides who lacks most.
    total = max(len(present), 1)
    counts = {label: len(pictures) for label, pictures in pictures_of.items()}
    lacking = {label: [size * count for size in sizes] for label, count in counts.items()}
    waiting = dict(counts)
    room = list(sizes)
    assignment = np.full(len(present), -1, dtype=np.int64)
    while waiting:
        label = min(waiting, key=lambda item: (item != _NO_OBJECT, waiting[item], item))
        for picture in pictures_of[label]:
            if assignment[picture] >= 0:
                continue
            classes = present[picture]
            subset = _neediest(lacking, counts, label, classes, room, rng)
            assignment[picture] = subset
            room[subset] -= 1
            for other in classes:
                lacking[other][subset] -= total
                waiting[other] -= 1
        waiting = {item: count for item, count in waiting.items() if count}
    return assignment


def draw_random(pictures: int, shares: Sequence[int], rng: random.Random) -> Assignment:
    """Give each of `pictures` pictures a subset by lot alone; shares, order and errors as in `draw_stratified`."""
    sizes = _sizes(pictures, shares)
    order = list(range(pictures))
    rng.shuffle(order)
    assignment = np.zeros(pictures, dtype=np.int64)
    start = 0
    for subset, size in enumerate(sizes[1:], start=1):
        assignment[order[start : start + size]] = subset
        start += size
    return assignment


def _sizes(pictures: int, shares: Sequence[int]) -> list[int]:
    if any(share < 0 for share in shares) or sum(shares) > pictures:
        raise DatasetError(f"cannot draw subsets of {', '.join(map(str, shares))} pictures from {pictures} pictures")
    return [pictures - sum(shares), *shares]


def _neediest(
    lacking: Mapping[int, Sequence[int]],
    counts: Mapping[int, int],
    label: int,
    classes: Sequence[int],
    room: Sequence[int],
    rng: random.Random,
) -> int:
    free = [subset for subset, places in enumerate(room) if places]
    most = max(lacking[label][subset] for subset in free)
    equal = [subset for subset in free if lacking[label][subset] == most]
    if len(equal) == 1:
        return equal[0]
    needs = [(sum(lacking[item][subset] / counts[item] for item in classes), room[subset]) for subset in equal]
    best = [subset for subset, need in zip(equal, needs, strict=True) if need == max(needs)]
    return best[0] if len(best) == 1 else rng.choice(best)

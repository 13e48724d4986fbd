"""Other ways to number pictures or classes than the ground truth's ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Numbering:
    words: str
    meant: Mapping[int, int]  # number in the detections -> id in the ground truth


def fitting_numberings(ids: Sequence[int], used: set[int], *, from_0: str, from_1: str) -> list[Numbering]:
    """Ways under which every number that the detections use is an id, and some are others than they are as written.

    `from_0` and `from_1` name the places in `ids`, counted from 0 and from 1.
    """
    ways = (
        Numbering(from_0, dict(enumerate(ids))),
        Numbering(from_1, dict(enumerate(ids, start=1))),
        Numbering("ids that are one too low", {identity - 1: identity for identity in ids}),
        Numbering("ids that are one too high", {identity + 1: identity for identity in ids}),
    )
    return [way for way in ways if used <= set(way.meant) and any(way.meant[number] != number for number in used)]

"""Checks that necks and heads share: which levels exist, and whether they form a pyramid."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from nasdet_core.errors import IncompatiblePartsError
from nasdet_core.search_spaces.base import LevelSpec


def describe_levels(levels: Sequence[LevelSpec]) -> str:
    return ", ".join(f"{level.name} (stride {level.stride})" for level in levels) or "no levels"


def select_levels(what: str, wanted: Sequence[str], available: Sequence[LevelSpec]) -> tuple[LevelSpec, ...]:
    """The wanted levels in the wanted order; IncompatiblePartsError names the first that is missing."""
    by_name = {level.name: level for level in available}
    for name in wanted:
        if name not in by_name:
            raise IncompatiblePartsError(
                f"{what} needs level {name!r}, but the backbone gives {describe_levels(available)}; "
                "choose its levels among these"
            )
    return tuple(by_name[name] for name in wanted)


def check_doubling(what: str, levels: Sequence[LevelSpec]) -> None:
    """Raise IncompatiblePartsError unless each level has twice the stride of the one before it."""
    if not levels:
        raise IncompatiblePartsError(f"{what} needs at least one level, but got none")
    for finer, coarser in pairwise(levels):
        if coarser.stride != 2 * finer.stride:
            raise IncompatiblePartsError(
                f"{what} needs levels whose strides double, but {coarser.name} (stride {coarser.stride}) "
                f"follows {finer.name} (stride {finer.stride}); give consecutive levels from fine to coarse"
            )


def shared_channels(what: str, levels: Sequence[LevelSpec]) -> int:
    """The one channel count of all levels; a head shares its weights between them."""
    channels = levels[0].channels
    for level in levels:
        if level.channels != channels:
            raise IncompatiblePartsError(
                f"{what} needs the same channels on every level, but {levels[0].name} has {channels} and "
                f"{level.name} has {level.channels}; put a neck between backbone and head"
            )
    return channels

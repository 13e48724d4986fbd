"""What an executor keeps between jobs: decoded pictures, supernets, ground truths. Bounded, least recently
used.

Whatever is kept is read-only to the jobs: a candidate's score may not hang on who was scored before it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")

KEPT = 2


class LastUsed(Generic[T]):
    """A mapping that keeps the `limit` entries used last. One thread only."""

    def __init__(self, limit: int = KEPT) -> None:
        self._limit = limit
        self._entries: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable, build: Callable[[], T]) -> T:
        """The entry, built now if it is not there. An old one is dropped before the new one takes memory."""
        if key in self._entries:
            self._entries.move_to_end(key)
            return self._entries[key]
        while len(self._entries) >= self._limit:
            self._entries.popitem(last=False)
        value = build()
        self._entries[key] = value
        return value

    def clear(self) -> None:
        self._entries.clear()

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


class Resident:
    """Keys are hashes of contents, so that nothing here can be out of date."""

    def __init__(self, limit: int = KEPT) -> None:
        self.datasets: LastUsed[Any] = LastUsed(limit)  # (manifest digest, name)
        self.pictures: LastUsed[Any] = LastUsed(2 * limit)  # (manifest digest, role, image size)
        self.supernets: LastUsed[Any] = LastUsed(limit)  # weights digest
        self.evaluators: LastUsed[Any] = LastUsed(2 * limit)  # (manifest digest, role)
        self._hashes: OrderedDict[str, None] = OrderedDict()

    def note(self, digest: str) -> None:
        """Remember a hash that the next claim names as held here."""
        self._hashes[digest] = None
        self._hashes.move_to_end(digest)
        while len(self._hashes) > 2 * KEPT:
            self._hashes.popitem(last=False)

    def hashes(self) -> list[str]:
        return sorted(self._hashes)

    def clear(self) -> None:
        """Give all memory back, e.g. after an allocation failed."""
        for kept in (self.datasets, self.pictures, self.supernets, self.evaluators):
            kept.clear()
        self._hashes.clear()

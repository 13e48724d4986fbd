"""Collects defects without letting a badly broken dataset fill the report."""

from __future__ import annotations

from nasdet_core.data.in_memory import Defect

SENTENCES_PER_KIND = 20


class DefectLog:
    """Keeps the first sentences of each kind in full and counts the rest."""

    def __init__(self) -> None:
        self._sentences: dict[str, list[Defect]] = {}
        self._unsaid: dict[str, int] = {}

    def add(self, kind: str, message: str, count: int = 1) -> None:
        said = self._sentences.setdefault(kind, [])
        if len(said) < SENTENCES_PER_KIND:
            said.append(Defect(kind, message, count))
        else:
            self._unsaid[kind] = self._unsaid.get(kind, 0) + count

    def extend(self, defects: tuple[Defect, ...]) -> None:
        for defect in defects:
            self.add(defect.kind, defect.message, defect.count)

    def first(self) -> str | None:
        """The first sentence noted, to explain why nothing is left."""
        for defects in self._sentences.values():
            return defects[0].message
        return None

    def defects(self) -> tuple[Defect, ...]:
        found: list[Defect] = []
        for kind, said in self._sentences.items():
            found.extend(said)
            if kind in self._unsaid:
                found.append(Defect(kind, f"and {self._unsaid[kind]} more of this kind", self._unsaid[kind]))
        return tuple(found)

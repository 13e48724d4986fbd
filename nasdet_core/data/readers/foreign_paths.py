"""Paths of other people's computers in annotation files: told once, however many there are."""

from __future__ import annotations

from dataclasses import dataclass

from nasdet_core.data.defects import DefectLog


@dataclass(slots=True)
class ForeignPaths:
    """Counts them and keeps the first as example."""

    count: int = 0
    example: str = ""

    def add(self, message: str) -> None:
        self.count += 1
        self.example = self.example or message

    def tell(self, log: DefectLog, used: str) -> None:
        """One noted defect, if there is any; `used` says what is done instead."""
        if self.count:
            more = f" ({self.count:,} such paths)" if self.count > 1 else ""
            log.add("foreign_path", f"{self.example}{more}; {used}", count=self.count)

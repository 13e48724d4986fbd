"""What `nasdet doctor` says about one thing it looked at."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

Verdict = Literal["ok", "warning", "fails"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was seen and, where it is bad, what to do. `fails`: something will not work; `warning`: some things may."""

    subject: str
    verdict: Verdict
    text: str

    def to_json(self) -> dict[str, str]:
        return asdict(self)

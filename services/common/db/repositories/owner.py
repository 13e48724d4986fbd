"""Who a new row belongs to, and the hash by which a payload is known again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from services.common.db.models import Owned


@dataclass(frozen=True, slots=True)
class Owner:
    """A project and the account in whose name something is written."""

    project_id: int
    account_id: int

    @classmethod
    def of(cls, row: Owned) -> Owner:
        """The owner of what follows from `row`."""
        return cls(row.project_id, row.created_by)

    def columns(self) -> dict[str, int]:
        return {"project_id": self.project_id, "created_by": self.account_id}


def payload_digest(payload: Any) -> str:
    """SHA-256 of the canonical JSON: the same payload sent again is known by it."""
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()

"""What a search found, as JSON: the answer of `GET /v1/searches/{id}` and of `nasdet run --json`."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from services.common.db.models import Search


def build_summary(session: Session, search: Search) -> dict[str, Any]:
    """The summary of one search, as far as it has come."""
    del session
    state = {"id": search.id, "name": search.name, "state": search.state.value, "stage": search.stage.value}
    return {"search": {**state, "reason": search.reason}, "trials": {}, "best": None, "front": []}

"""Takes jobs back from workers that disappeared. Two reapers do no more than one."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from services.common.db.repositories import JobRepository


def reap(session: Session, *, lease_seconds: float, max_crashes: int) -> Sequence[int]:
    """Requeue every job whose lease has run out by the database's clock; returns their ids."""
    return JobRepository(session, lease_seconds=lease_seconds, max_crashes=max_crashes).reap()

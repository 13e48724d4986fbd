"""What the requests of one API process share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import select
from sqlalchemy.orm import Session

from services.api.artifacts.collector import Collector
from services.api.artifacts.store import ArtifactStore
from services.common.db.repositories import JobRepository
from services.common.db.session import Database
from services.common.db.types import db_now
from services.common.settings import ApiSettings


@dataclass(frozen=True)
class ApiState:
    """Sync endpoints open their transactions themselves, in their own thread, and close them before they return.

    A session handed in by a dependency would stay open while FastAPI waits for another thread to write the
    reply: with every thread waiting for a connection, nobody would ever give one back.
    """

    settings: ApiSettings
    database: Database
    store: ArtifactStore
    collector: Collector

    def jobs(self, session: Session) -> JobRepository:
        return JobRepository(session, lease_seconds=self.settings.lease_seconds, max_crashes=self.settings.max_crashes)

    def seconds_since(self, session: Session, moment: float) -> float:
        """By the database's clock."""
        return float(session.scalar(select(db_now())) or 0.0) - moment


def _state(request: Request) -> ApiState:
    state: ApiState = request.app.state.api
    return state


Api = Annotated[ApiState, Depends(_state)]

"""What the requests of one API process share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends, Request
from sqlalchemy import select
from sqlalchemy.orm import Session

from services.api.artifacts.collector import Collector
from services.api.artifacts.store import ArtifactStore
from services.api.datasets.finisher import UploadFinisher
from services.api.metrics import RequestMetrics
from services.api.readiness import ReadyChecks
from services.api.store_metrics import StoreCollector
from services.api.workers.pace import Pace
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
    finisher: UploadFinisher

    @cached_property
    def ready(self) -> ReadyChecks:
        """What /readyz asks."""
        return ReadyChecks(self.settings, self.database)

    @cached_property
    def metrics(self) -> RequestMetrics:
        """What /metrics tells on its own port."""
        metrics = RequestMetrics()
        metrics.registry.register(StoreCollector(self.database))
        return metrics

    @cached_property
    def transfers(self) -> CapacityLimiter:
        """Threads that move artifacts: a store that hangs takes these, and none that answer claims and heartbeats."""
        return CapacityLimiter(self.settings.transfers)

    @cached_property
    def pace(self) -> Pace:
        """How often workers send heartbeats."""
        return Pace(self.settings.lease_seconds)

    def jobs(self, session: Session) -> JobRepository:
        return JobRepository(session, lease_seconds=self.settings.lease_seconds, max_crashes=self.settings.max_crashes)

    def seconds_since(self, session: Session, moment: float) -> float:
        """By the database's clock."""
        return float(session.scalar(select(db_now())) or 0.0) - moment


async def _state(request: Request) -> ApiState:
    state: ApiState = request.app.state.api
    return state


Api = Annotated[ApiState, Depends(_state)]

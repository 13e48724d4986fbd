"""The application: routes, middleware, and what lives as long as the process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
import structlog
from fastapi import APIRouter, FastAPI, Request

from services.api import health, problems
from services.api.access import Reader
from services.api.artifacts import endpoints as artifacts
from services.api.artifacts.collector import Collector
from services.api.artifacts.store import ArtifactStore
from services.api.datasets import endpoints as datasets
from services.api.jobs import endpoints as jobs
from services.api.middleware import BodyLimitMiddleware, GuardMiddleware
from services.api.searches import endpoints as searches
from services.api.spaces import endpoints as spaces
from services.api.state import ApiState
from services.api.workers import endpoints as workers
from services.common.db.migrations import upgrade
from services.common.db.session import Database
from services.common.settings import ApiSettings
from services.common.tokens import ensure_tokens

log = structlog.get_logger()

meta = APIRouter(prefix="/v1", tags=["meta"])


@meta.get("/openapi.json")
def openapi(request: Request, _caller: Reader) -> dict[str, Any]:
    """This API's description."""
    app: FastAPI = request.app
    return app.openapi()


def create_app(settings: ApiSettings) -> FastAPI:
    """An application on the installation in `settings.home`; it migrates the database when it starts."""
    app = FastAPI(title="nasdet", version="1", lifespan=_lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    database = Database(settings.resolved_database_url, pool_size=settings.threads)
    store = ArtifactStore(settings.artifacts)
    collector = Collector(
        database, store, upload_seconds=settings.upload_seconds, every_seconds=settings.collect_seconds
    )
    app.state.api = ApiState(settings, database, store, collector)
    problems.install(app)
    app.add_middleware(BodyLimitMiddleware, limit=settings.max_body)
    app.add_middleware(GuardMiddleware)  # added last, so it comes first
    app.include_router(meta)
    for resource in (health, datasets, spaces, searches, workers, jobs, artifacts):
        app.include_router(resource.router)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    api: ApiState = app.state.api
    anyio.to_thread.current_default_thread_limiter().total_tokens = api.settings.threads
    await anyio.to_thread.run_sync(prepare, api)
    api.collector.start()
    log.info("api.started", home=str(api.settings.home))
    try:
        yield
    finally:
        await anyio.to_thread.run_sync(api.collector.stop)
        api.database.close()


def prepare(api: ApiState) -> None:
    """Bring the installation up to date: schema, folders, tokens. Safe when several processes start at once."""
    upgrade(api.database.write_engine)
    api.store.prepare()
    with api.database.write_session() as session:
        ensure_tokens(api.settings.home, session)
        if api.settings.platform is not None:
            api.jobs(session).release_other_platforms(api.settings.platform)

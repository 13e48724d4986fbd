"""The application: routes, middleware, and what lives as long as the process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio.to_thread
import structlog
from fastapi import APIRouter, Depends, FastAPI, Request
from starlette.types import ASGIApp

from services.api import health, problems
from services.api.access import Reader, opens_something
from services.api.artifacts import endpoints as artifacts
from services.api.artifacts.choose import artifact_store
from services.api.artifacts.collector import Collector
from services.api.audit import endpoints as audit
from services.api.binding import allowed_hosts
from services.api.datasets import endpoints as datasets
from services.api.datasets.finisher import UploadFinisher
from services.api.datasets.uploads import upload_folder
from services.api.fields import refuse_unknown_query
from services.api.jobs import endpoints as jobs
from services.api.middleware import BodyLimitMiddleware, GuardMiddleware
from services.api.problems import refusals
from services.api.requests import ObserveMiddleware
from services.api.searches import endpoints as searches
from services.api.spaces import endpoints as spaces
from services.api.state import ApiState
from services.api.tokens import endpoints as tokens
from services.api.workers import endpoints as workers
from services.common.db.migrations import upgrade
from services.common.db.session import Database
from services.common.db.waiting import wait_for_database
from services.common.settings import ApiSettings
from services.common.tokens import ensure_tokens

log = structlog.get_logger()

meta = APIRouter(prefix="/v1", tags=["meta"])


@meta.get("/openapi.json", responses=refusals())
def openapi(request: Request, _caller: Reader) -> dict[str, Any]:
    """This API's description."""
    app: FastAPI = request.app
    return app.openapi()


class Application(FastAPI):
    """Guarded and observed from outside: also what goes wrong is answered with headers, counted and told."""

    hosts: frozenset[str]

    def openapi(self) -> dict[str, Any]:
        """The description, which says that every request but those of the health checks needs a token."""
        if self.openapi_schema is None:
            described = super().openapi()
            described.setdefault("components", {})["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            described["security"] = [{"token": []}]
            for path in health.WITHOUT_TOKEN:
                for operation in described["paths"][path].values():
                    operation["security"] = []
        return super().openapi()

    def build_middleware_stack(self) -> ASGIApp:
        api: ApiState = self.state.api
        guarded = GuardMiddleware(super().build_middleware_stack(), self.hosts)
        return ObserveMiddleware(guarded, api.metrics)


def create_app(settings: ApiSettings) -> Application:
    """An application on the installation in `settings.home`; it migrates the database when it starts.

    Raises SettingError when a setting cannot be used.
    """
    hosts = allowed_hosts(settings)
    app = Application(
        title="nasdet",
        version="1",
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(refuse_unknown_query)],
    )
    database = Database(settings.resolved_database_url, pool_size=settings.threads)
    store = artifact_store(settings)
    collector = Collector(
        database, store, upload_seconds=settings.upload_seconds, every_seconds=settings.collect_seconds
    )
    finisher = UploadFinisher(
        database,
        store,
        upload_folder(store.drafts),
        unfinished_seconds=settings.unfinished_seconds,
        every_seconds=settings.collect_seconds,
        freed=collector.wake,
    )
    app.state.api = ApiState(settings, database, store, collector, finisher)
    problems.install(app)
    app.hosts = hosts
    app.add_middleware(BodyLimitMiddleware, limit=settings.max_body, is_known=partial(opens_something, database))
    app.include_router(meta)
    for resource in (health, datasets, spaces, searches, workers, jobs, artifacts, tokens, audit):
        app.include_router(resource.router)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    api: ApiState = app.state.api
    anyio.to_thread.current_default_thread_limiter().total_tokens = api.settings.threads
    await anyio.to_thread.run_sync(prepare, api)
    api.collector.start()
    api.finisher.start()
    log.info("api.started", home=str(api.settings.home))
    try:
        yield
    finally:
        await anyio.to_thread.run_sync(api.finisher.stop)
        await anyio.to_thread.run_sync(api.collector.stop)
        api.database.close()


def prepare(api: ApiState) -> None:
    """Bring the installation up to date: schema, folders, tokens. Safe when several processes start at once.

    A database server that is away is waited for; raises DatabaseAwayError when that takes too long.
    """
    wait_for_database(api.database, api.settings.database_wait_seconds)
    upgrade(api.database.write_engine)
    api.store.prepare()
    api.finisher.prepare()
    with api.database.write_session() as session:
        ensure_tokens(api.settings, session)
        if api.settings.platform is not None:
            api.jobs(session).release_other_platforms(api.settings.platform)

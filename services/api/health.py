"""Health: whether the process is there, and whether what it needs is."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from services.api.problems import refusals
from services.api.readiness import OK, NotReadyError
from services.api.state import Api

WITHOUT_TOKEN = ("/healthz", "/readyz")
router = APIRouter(tags=["health"])


class Health(BaseModel):
    status: str


class Readiness(Health):
    checks: dict[str, str]


@router.get("/healthz")
async def healthz() -> Health:
    """The process answers. Depends on nothing else, not even on a free thread: a sick database restarts nobody."""
    return Health(status=OK)


@router.get("/readyz", responses=refusals(503))
async def readyz(api: Api) -> Readiness:
    """Database, schema and broker answer; 503 with what each check found otherwise, within three seconds."""
    checks = await api.ready.results()
    if any(found != OK for found in checks.values()):
        raise NotReadyError(checks)
    return Readiness(status="ready", checks=checks)

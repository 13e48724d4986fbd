"""Health: whether the process is there, and whether its database is."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel
from sqlalchemy import text

from services.api.problems import refusals
from services.api.state import Api
from services.common.db.migrations import current_revision, head_revision
from services.common.errors import UnavailableError

router = APIRouter(tags=["health"])


class Health(BaseModel):
    status: str


@router.get("/healthz")
def healthz() -> Health:
    """The process answers. Depends on nothing else, so that a sick database restarts nobody."""
    return Health(status="ok")


@router.get("/readyz", responses=refusals(503))
def readyz(api: Api) -> Health:
    """The database answers and has the schema of this version."""
    with api.database.read_session() as session:
        session.execute(text("SELECT 1"))
    found, expected = current_revision(api.database.engine), head_revision()
    if found != expected:
        raise UnavailableError(f"the database is at schema revision {found}, this version needs {expected}")
    return Health(status="ready")

"""GET of search spaces."""

from __future__ import annotations

from fastapi import APIRouter

from services.api.access import Reader
from services.api.fields import Page, PathName
from services.api.problems import refusals
from services.api.spaces import service
from services.api.spaces.schemas import SpaceRead, SpaceSummary

router = APIRouter(prefix="/v1/spaces", tags=["spaces"])


@router.get("", responses=refusals())
def list_spaces(_caller: Reader) -> Page[SpaceSummary]:
    """Every search space and fixed part of this version."""
    return Page(items=service.summaries(), next_cursor=None)


@router.get("/{name}", responses=refusals(404))
def get_space(name: PathName, _caller: Reader) -> SpaceRead:
    """Choice blocks, candidates and default settings of one."""
    return service.get(name)

"""POST and GET of workers."""

from __future__ import annotations

from fastapi import APIRouter

from services.api.access import ReaderOrWorker, WorkerCaller
from services.api.fields import Cursor, Limit, Page, cursor_after, position
from services.api.problems import refusals
from services.api.state import Api
from services.api.workers import service
from services.api.workers.schemas import Registration, WorkerCreate, WorkerRead

router = APIRouter(prefix="/v1/workers", tags=["workers"])


@router.post("", responses=refusals(426))
def register_worker(body: WorkerCreate, api: Api, caller: WorkerCaller) -> Registration:
    """Make a worker known; what an older incarnation of the same name held is requeued at once."""
    return service.register(api, caller, body)


@router.get("", responses=refusals())
def list_workers(api: Api, caller: ReaderOrWorker, cursor: Cursor = None, limit: Limit = 100) -> Page[WorkerRead]:
    """Workers, and how long ago each was seen."""
    items = service.page(api, caller, position(cursor), limit)
    return Page(items=items, next_cursor=cursor_after(items[-1].id if items else None, len(items), limit))

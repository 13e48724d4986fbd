"""Workers: they register and say goodbye, people look at them, pause them and let them end."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from services.api.access import ReaderOrWorker, Writer
from services.api.fields import NO_NUL, WITHOUT_BODY, Cursor, Limit, Page, PathId, cursor_after, position
from services.api.problems import refusals
from services.api.state import Api
from services.api.workers import service
from services.api.workers.protocol import SpeakingWorker
from services.api.workers.schemas import DrainRequest, Registration, WorkerCreate, WorkerRead
from services.common.db.states import WorkerMode

router = APIRouter(prefix="/v1/workers", tags=["workers"])


@router.post("", responses=refusals(426))
def register_worker(body: WorkerCreate, api: Api, caller: SpeakingWorker) -> Registration:
    """Make a worker known; what an older incarnation of the same name held is requeued at once."""
    return service.register(api, caller, body)


@router.get("", responses=refusals())
def list_workers(api: Api, caller: ReaderOrWorker, cursor: Cursor = None, limit: Limit = 100) -> Page[WorkerRead]:
    """Workers, what each holds, what it was told, and how long ago it was seen. Those that are gone are left out."""
    items = service.page(api, caller, position(cursor), limit)
    return Page(items=items, next_cursor=cursor_after(items[-1].id if items else None, len(items), limit))


@router.post("/{worker_id}/pause", dependencies=WITHOUT_BODY, responses=refusals(404))
def pause_worker(worker_id: PathId, api: Api, caller: Writer) -> WorkerRead:
    """It finishes the job that it holds and gets no other until it is resumed, or started anew."""
    return service.set_mode(api, caller, worker_id, WorkerMode.PAUSED)


@router.post("/{worker_id}/resume", dependencies=WITHOUT_BODY, responses=refusals(404))
def resume_worker(worker_id: PathId, api: Api, caller: Writer) -> WorkerRead:
    """It gets jobs again. Also takes back a drain that it has not yet heard of."""
    return service.set_mode(api, caller, worker_id, WorkerMode.ACTIVE)


@router.post("/{worker_id}/drain", responses=refusals(404))
def drain_worker(worker_id: PathId, api: Api, caller: Writer, body: DrainRequest | None = None) -> WorkerRead:
    """It finishes the job that it holds and ends; with `now` it gives the job back, uncharged, and ends."""
    now = body is not None and body.now
    return service.set_mode(api, caller, worker_id, WorkerMode.LEAVING if now else WorkerMode.DRAINING)


@router.delete("/{worker_id}", status_code=204, responses=refusals(404, 409, 426))
def worker_leaves(
    worker_id: PathId,
    incarnation: Annotated[str, Query(pattern=NO_NUL, min_length=1, max_length=64)],
    api: Api,
    caller: SpeakingWorker,
) -> Response:
    """Said by a worker that ends: it is not listed any more. Only its present incarnation may say so."""
    service.goodbye(api, caller, worker_id, incarnation)
    return Response(status_code=204)

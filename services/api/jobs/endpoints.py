"""What workers do with jobs, and GET for everybody."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import PlainTextResponse

from services.api.access import ReaderOrWorker
from services.api.fields import MAX_INTEGER, Cursor, Limit, Page, PathId, cursor_after, position
from services.api.jobs import schemas, service
from services.api.problems import refusals
from services.api.state import Api
from services.api.workers.protocol import SpeakingWorker

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

OptionalId = Annotated[int | None, Query(ge=1, le=MAX_INTEGER)]


@router.post("/claim", responses=refusals(404, 409, 426))
def claim_job(body: schemas.ClaimRequest, api: Api, caller: SpeakingWorker) -> schemas.ClaimReply:
    """Get the job that the server chooses for this worker, or null. Counts an attempt: the fencing token."""
    return service.claim(api, caller, body)


@router.post("/{job_id}/heartbeat", responses=refusals(404, 409, 426))
def heartbeat(
    job_id: PathId, body: schemas.HeartbeatRequest, api: Api, caller: SpeakingWorker
) -> schemas.HeartbeatReply:
    """Renew the lease, show progress, hear whether to stop. 409: the job is no longer this attempt's."""
    return service.heartbeat(api, caller, job_id, body)


@router.post("/{job_id}/results", responses=refusals(404, 409, 426))
def land_result(job_id: PathId, body: schemas.ResultRequest, api: Api, caller: SpeakingWorker) -> schemas.ResultReply:
    """Land the result of one trial as soon as it is there. The same body again is success, another is 409."""
    return service.land_result(api, caller, job_id, body)


@router.post("/{job_id}/checkpoint", status_code=204, responses=refusals(404, 409, 426))
def save_checkpoint(job_id: PathId, body: schemas.CheckpointRequest, api: Api, caller: SpeakingWorker) -> Response:
    """The next attempt resumes from this artifact."""
    service.save_checkpoint(api, caller, job_id, body)
    return Response(status_code=204)


@router.post("/{job_id}/done", responses=refusals(404, 409, 426))
def finish_job(job_id: PathId, body: schemas.DoneRequest, api: Api, caller: SpeakingWorker) -> schemas.JobRead:
    """End the job. The same body again is success, another is 409."""
    return service.done(api, caller, job_id, body)


@router.post("/{job_id}/release", responses=refusals(404, 409, 426))
def release_job(job_id: PathId, body: schemas.ReleaseRequest, api: Api, caller: SpeakingWorker) -> schemas.JobRead:
    """Give the job back before its end: at once, instead of letting the lease run out."""
    return service.release(api, caller, job_id, body)


@router.post("/{job_id}/log", status_code=204, responses=refusals(404, 426))
def write_log(job_id: PathId, body: schemas.LogRequest, api: Api, caller: SpeakingWorker) -> Response:
    """Replace the end of an attempt's log; may come after the attempt's end."""
    service.write_log(api, caller, job_id, body)
    return Response(status_code=204)


@router.get("", responses=refusals())
def list_jobs(
    api: Api, caller: ReaderOrWorker, search: OptionalId = None, cursor: Cursor = None, limit: Limit = 100
) -> Page[schemas.JobRead]:
    """Jobs in the order in which they were queued."""
    items = service.page(api, caller, after=position(cursor), limit=limit, search_id=search)
    return Page(items=items, next_cursor=cursor_after(items[-1].id if items else None, len(items), limit))


@router.get("/{job_id}", responses=refusals(404))
def get_job(job_id: PathId, api: Api, caller: ReaderOrWorker) -> schemas.JobDetail:
    """One job with its attempts."""
    return service.get(api, caller, job_id)


@router.get("/{job_id}/log", responses=refusals(404), response_class=PlainTextResponse)
def get_log(job_id: PathId, api: Api, caller: ReaderOrWorker, attempt: OptionalId = None) -> PlainTextResponse:
    """The end of the log of an attempt (the last one), its traceback included."""
    return PlainTextResponse(service.log(api, caller, job_id, attempt))

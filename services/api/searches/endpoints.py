"""POST, GET and cancel of searches."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from services.api.access import Reader, Writer
from services.api.fields import (
    MAX_INTEGER,
    Cursor,
    JsonObject,
    Limit,
    Page,
    PathId,
    cursor_after,
    position,
)
from services.api.problems import refusals
from services.api.searches import schemas, service
from services.api.state import Api

router = APIRouter(prefix="/v1/searches", tags=["searches"])

IdempotencyKey = Annotated[
    str | None,
    Header(pattern="^[!-~]{1,200}$", description="the same key with the same body gives the search there is"),
]
KnownTag = Annotated[str | None, Header(max_length=1000)]
Metric = Annotated[str | None, Query(min_length=1, max_length=60)]
After = Annotated[int, Query(ge=0, le=MAX_INTEGER, description="id of the last event seen")]


@router.post("", status_code=201, responses=refusals(409))
def submit_search(
    body: JsonObject, response: Response, api: Api, caller: Writer, idempotency_key: IdempotencyKey = None
) -> schemas.SearchRead:
    """Start a search from its specification; 200 when the idempotency key brought it before."""
    search, created = service.submit(api, caller, body, idempotency_key)
    if not created:
        response.status_code = 200
    response.headers["Location"] = f"/v1/searches/{search.search['id']}"
    return search


@router.get("", responses=refusals())
def list_searches(api: Api, caller: Reader, cursor: Cursor = None, limit: Limit = 100) -> Page[schemas.SearchListItem]:
    """Searches in the order in which they were submitted."""
    items = service.page(api, caller, position(cursor), limit)
    return Page(items=items, next_cursor=cursor_after(items[-1].id if items else None, len(items), limit))


@router.get(
    "/{search_id}", response_model=schemas.SearchRead, responses={**refusals(404), 304: {"description": "as before"}}
)
def get_search(
    search_id: PathId, response: Response, api: Api, caller: Reader, if_none_match: KnownTag = None
) -> schemas.SearchRead | Response:
    """The summary of a search. The ETag is its revision: 304 as long as nothing that shows has changed."""
    search, tag = service.get(api, caller, search_id, if_none_match)
    if search is None:
        return Response(status_code=304, headers={"ETag": tag})
    response.headers["ETag"] = tag
    return search


@router.post("/{search_id}/cancel", responses=refusals(404, 409))
def cancel_search(search_id: PathId, api: Api, caller: Writer) -> schemas.SearchRead:
    """Stop a running search: queued work ends now, running work at its next heartbeat."""
    return service.cancel(api, caller, search_id)


@router.get("/{search_id}/trials", responses=refusals(404))
def list_trials(
    search_id: PathId, api: Api, caller: Reader, cursor: Cursor = None, limit: Limit = 100
) -> Page[schemas.TrialRead]:
    """Candidates in the order in which they were proposed, with their measurements."""
    items = service.trials(api, caller, search_id, position(cursor, first=-1), limit)
    return Page(items=items, next_cursor=cursor_after(items[-1].number if items else None, len(items), limit))


@router.get("/{search_id}/front", responses=refusals(404))
def get_front(search_id: PathId, api: Api, caller: Reader) -> schemas.FrontRead:
    """Candidates that no other beats in both AP and MACs."""
    return service.front(api, caller, search_id)


@router.get("/{search_id}/measurements", responses=refusals(404))
def list_measurements(
    search_id: PathId,
    api: Api,
    caller: Reader,
    metric: Metric = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Page[schemas.MeasurementRead]:
    """Measured numbers, each with what it was measured with."""
    items = service.measurements(api, caller, search_id, metric=metric, after=position(cursor), limit=limit)
    return Page(items=items, next_cursor=cursor_after(items[-1].id if items else None, len(items), limit))


@router.get("/{search_id}/events", responses=refusals(404))
def list_events(
    search_id: PathId, api: Api, caller: Reader, after: After = 0, cursor: Cursor = None, limit: Limit = 200
) -> Page[schemas.EventRead]:
    """The whole story, in the order in which it happened."""
    items = service.events(api, caller, search_id, position(cursor, first=after), limit)
    return Page(items=items, next_cursor=cursor_after(items[-1].id if items else None, len(items), limit))

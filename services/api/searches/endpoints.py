"""Searches: submit, look, steer."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from services.api.access import Reader, Writer
from services.api.conditional import NOT_MODIFIED, KnownTag, answer
from services.api.fields import (
    MAX_INTEGER,
    MAX_NUMBER,
    WITHOUT_BODY,
    Cursor,
    JsonObject,
    Limit,
    Page,
    PathId,
    cursor_after,
    position,
)
from services.api.problems import refusals
from services.api.searches import control, schemas, service
from services.api.state import Api

router = APIRouter(prefix="/v1/searches", tags=["searches"])

IdempotencyKey = Annotated[
    str | None,
    Header(pattern="^[!-~]{1,200}$", description="the same key with the same body gives the search there is"),
]
Metric = Annotated[str | None, Query(min_length=1, max_length=60, pattern="^[^\x00]*$")]
After = Annotated[int, Query(ge=0, le=MAX_INTEGER, description="id of the last event seen")]
PriorityQuery = Annotated[int, Query(ge=-100, le=100, description="searches of a higher priority go first")]
TAGGED = {**refusals(404), **NOT_MODIFIED}


@router.post("", status_code=201, responses={**refusals(409), 200: {"description": "the key brought it before"}})
def submit_search(
    body: JsonObject,
    response: Response,
    api: Api,
    caller: Writer,
    priority: PriorityQuery = 0,
    idempotency_key: IdempotencyKey = None,
) -> schemas.SearchRead:
    """Start a search from its specification; 200 when the idempotency key brought it before."""
    search, created = service.submit(api, caller, body, priority=priority, idempotency_key=idempotency_key)
    return _submitted(response, search, created)


@router.get("", response_model=Page[schemas.SearchListItem], responses={**refusals(), **NOT_MODIFIED})
def list_searches(
    response: Response,
    api: Api,
    caller: Reader,
    cursor: Cursor = None,
    limit: Limit = 100,
    if_none_match: KnownTag = None,
) -> Page[schemas.SearchListItem] | Response:
    """Searches in the order in which they were submitted."""
    return answer(response, service.page(api, caller, position(cursor), limit, if_none_match))


@router.get("/{search_id}", response_model=schemas.SearchRead, responses=TAGGED)
def get_search(
    search_id: PathId, response: Response, api: Api, caller: Reader, if_none_match: KnownTag = None
) -> schemas.SearchRead | Response:
    """The summary of a search. The ETag is its revision: 304 as long as nothing that shows has changed."""
    return answer(response, service.get(api, caller, search_id, if_none_match))


@router.patch("/{search_id}", responses=refusals(404))
def change_search(search_id: PathId, body: schemas.SearchChange, api: Api, caller: Writer) -> schemas.SearchRead:
    """Change a search's priority: at the next claim the higher one goes first."""
    return control.set_priority(api, caller, search_id, body.priority)


@router.post("/{search_id}/cancel", dependencies=WITHOUT_BODY, responses=refusals(404, 409))
def cancel_search(search_id: PathId, api: Api, caller: Writer) -> schemas.SearchRead:
    """Stop a search for good: queued work ends now, running work at its next heartbeat."""
    return control.cancel(api, caller, search_id)


@router.post("/{search_id}/pause", dependencies=WITHOUT_BODY, responses=refusals(404, 409))
def pause_search(search_id: PathId, api: Api, caller: Writer) -> schemas.SearchRead:
    """Hand out nothing more of a search; what runs goes on to its end."""
    return control.pause(api, caller, search_id)


@router.post("/{search_id}/resume", dependencies=WITHOUT_BODY, responses=refusals(404, 409))
def resume_search(search_id: PathId, api: Api, caller: Writer) -> schemas.SearchRead:
    """Go on with a paused search."""
    return control.resume(api, caller, search_id)


@router.post("/{search_id}/retry", responses=refusals(404, 409))
def retry_search(
    search_id: PathId, api: Api, caller: Writer, body: schemas.SearchRetry | None = None
) -> schemas.SearchRead:
    """Run a failed or cancelled search again from where it ended, with a larger budget where one is given."""
    return control.retry(api, caller, search_id, body or schemas.SearchRetry())


@router.post(
    "/{search_id}/clone",
    status_code=201,
    responses={**refusals(404, 409), 200: {"description": "the key brought it before"}},
)
def clone_search(
    search_id: PathId,
    body: schemas.SearchClone,
    response: Response,
    api: Api,
    caller: Writer,
    idempotency_key: IdempotencyKey = None,
) -> schemas.SearchRead:
    """Submit a search's specification again, with changes."""
    search, created = control.clone(api, caller, search_id, body, idempotency_key)
    return _submitted(response, search, created)


@router.get("/{search_id}/trials", response_model=Page[schemas.TrialRead], responses=TAGGED)
def list_trials(
    search_id: PathId,
    response: Response,
    api: Api,
    caller: Reader,
    cursor: Cursor = None,
    limit: Limit = 100,
    if_none_match: KnownTag = None,
) -> Page[schemas.TrialRead] | Response:
    """Candidates in the order in which they were proposed, with their measurements."""
    after = min(position(cursor, first=-1), MAX_NUMBER)
    return answer(response, service.trials(api, caller, search_id, after, limit, if_none_match))


@router.get("/{search_id}/front", response_model=schemas.FrontRead, responses=TAGGED)
def get_front(
    search_id: PathId, response: Response, api: Api, caller: Reader, if_none_match: KnownTag = None
) -> schemas.FrontRead | Response:
    """Candidates that no other beats in both AP and MACs."""
    return answer(response, service.front(api, caller, search_id, if_none_match))


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


@router.get("/{search_id}/events", response_model=Page[schemas.EventRead], responses=TAGGED)
def list_events(
    search_id: PathId,
    response: Response,
    api: Api,
    caller: Reader,
    after: After = 0,
    cursor: Cursor = None,
    limit: Limit = 200,
    if_none_match: KnownTag = None,
) -> Page[schemas.EventRead] | Response:
    """The whole story, in the order in which it happened. `after` gives what is new since the last look."""
    first = position(cursor, first=after)
    return answer(response, service.events(api, caller, search_id, first, limit, if_none_match))


def _submitted(response: Response, search: schemas.SearchRead, created: bool) -> schemas.SearchRead:
    if not created:
        response.status_code = 200
    response.headers["Location"] = f"/v1/searches/{search.search['id']}"
    return search

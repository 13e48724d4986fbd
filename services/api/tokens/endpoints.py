"""POST, GET and DELETE of tokens."""

from __future__ import annotations

from fastapi import APIRouter, Response

from services.api.access import Admin
from services.api.fields import Cursor, Limit, Page, PathId, cursor_after, position
from services.api.problems import refusals
from services.api.state import Api
from services.api.tokens import service
from services.api.tokens.schemas import TokenCreate, TokenCreated, TokenRead

router = APIRouter(prefix="/v1/tokens", tags=["tokens"])


@router.post("", status_code=201, responses=refusals(409))
def create_token(body: TokenCreate, response: Response, api: Api, caller: Admin) -> TokenCreated:
    """Make a token. This answer is the only place where it is ever shown."""
    response.headers["Cache-Control"] = "no-store"
    return service.create(api, caller, body)


@router.get("", responses=refusals())
def list_tokens(api: Api, caller: Admin, cursor: Cursor = None, limit: Limit = 100) -> Page[TokenRead]:
    """Tokens in the order in which they were made, revoked ones too; never the tokens themselves."""
    items = service.page(api, caller, position(cursor), limit)
    return Page(items=items, next_cursor=cursor_after(items[-1].id if items else None, len(items), limit))


@router.delete("/{token_id}", status_code=204, responses=refusals(404, 409))
def revoke_token(token_id: PathId, api: Api, caller: Admin) -> Response:
    """Revoke a token: the next request with it is refused. Once more is no error."""
    service.revoke(api, caller, token_id)
    return Response(status_code=204)

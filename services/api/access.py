"""Who may do what. Every route but the health checks has an AccessRule; a test walks the routes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import structlog
from fastapi import Depends, Request

from services.api.requests import facts
from services.api.state import ApiState
from services.common.db.repositories import Owner, TokenRepository
from services.common.db.repositories.tokens import ValidToken, find_token
from services.common.db.session import DATABASE_AWAY, Database
from services.common.errors import ForbiddenError, UnauthorizedError

MAX_TOKEN_LENGTH = 512
NOTE_USE_SECONDS = 60.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Caller:
    """The account behind a request, the token that it came with, and the request's number."""

    owner: Owner
    scopes: frozenset[str]
    token_id: int
    request_id: str

    @property
    def project_id(self) -> int:
        return self.owner.project_id


class AccessRule:
    """Lets a request pass whose token has one of these scopes."""

    def __init__(self, *scopes: str) -> None:
        self.scopes = frozenset(scopes)

    def __call__(self, request: Request) -> Caller:
        state: ApiState = request.app.state.api
        told = facts(request.scope)
        token = _find(state, _bearer(request.headers.get("authorization", "")))
        told.token, told.account = token.name, token.account_id
        if not self.scopes & token.scopes:
            raise ForbiddenError(
                f"this needs a token with the scope {' or '.join(sorted(self.scopes))}, "
                f"but '{token.name}' has {', '.join(sorted(token.scopes))}"
            )
        return Caller(Owner(token.project_id, token.account_id), token.scopes, token.id, told.id)


def opens_something(database: Database, header: str) -> bool:
    """Whether an Authorization header holds a valid token, of whatever scope; the route asks for more.

    While the database is away nobody can tell, and the route says so.
    """
    try:
        return find_token(database, _bearer(header)) is not None
    except UnauthorizedError:
        return False
    except DATABASE_AWAY as error:
        log.warning("token.not_looked_up", error=str(error))
        return True


def _bearer(header: str) -> str:
    scheme, _, value = header.partition(" ")
    value = value.strip()
    if scheme.lower() != "bearer" or not value or len(value) > MAX_TOKEN_LENGTH:
        raise UnauthorizedError(
            "send the header 'Authorization: Bearer TOKEN'; an embedded platform keeps its token in HOME/token, "
            "another one's operator makes one with `nasdet token create`"
        )
    return value


def _find(state: ApiState, value: str) -> ValidToken:
    token = find_token(state.database, value)
    if token is None:
        raise UnauthorizedError("this token is not known here, or was revoked")
    if token.unused_seconds is None or token.unused_seconds > NOTE_USE_SECONDS:
        _note_use(state, token.id)
    return token


def _note_use(state: ApiState, token_id: int) -> None:
    try:
        with state.database.write_session() as session:
            TokenRepository(session).used(token_id, NOTE_USE_SECONDS)
    except DATABASE_AWAY as error:  # e.g. a full disk: no reason to refuse a request that only reads
        log.warning("token.use_not_noted", error=str(error))


Reader = Annotated[Caller, Depends(AccessRule("read"))]
Writer = Annotated[Caller, Depends(AccessRule("write"))]
WorkerCaller = Annotated[Caller, Depends(AccessRule("worker"))]
Admin = Annotated[Caller, Depends(AccessRule("admin"))]
ReaderOrWorker = Annotated[Caller, Depends(AccessRule("read", "worker"))]

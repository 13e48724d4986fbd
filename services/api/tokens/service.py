"""Rules of tokens: shown once, revoked for good; the two of the installation's files are changed there."""

from __future__ import annotations

from sqlalchemy.orm import Session

from services.api.access import Caller
from services.api.audit.change import change
from services.api.state import ApiState
from services.api.tokens.schemas import TokenCreate, TokenCreated, TokenRead
from services.common.db.models import Account, Token
from services.common.db.repositories import TokenRepository
from services.common.errors import ConflictError
from services.common.tokens import is_installed, new_token


def create(api: ApiState, caller: Caller, body: TokenCreate) -> TokenCreated:
    secret = new_token()
    with change(api, caller, "token.create") as made:
        row = TokenRepository(made.session).create(caller.owner, body.name, secret, list(body.scopes))
        made.target = f"token {row.id}"
        made.data = {"name": row.name, "scopes": row.scopes}
        return TokenCreated(**read(made.session, row).model_dump(), token=secret)


def page(api: ApiState, caller: Caller, after: int, limit: int) -> list[TokenRead]:
    with api.database.read_session() as session:
        rows = TokenRepository(session).page(caller.project_id, after=after, limit=limit)
        return [read(session, row) for row in rows]


def revoke(api: ApiState, caller: Caller, token_id: int) -> None:
    """An installed token stays: so there always is one with the scope admin, and nobody locks everybody out."""
    with change(api, caller, "token.revoke", f"token {token_id}") as made:
        tokens = TokenRepository(made.session)
        row = tokens.get(caller.project_id, token_id)
        if row.revoked_at is None and is_installed(row, _account(made.session, row)):
            raise ConflictError(
                f"token {token_id} ('{row.name}') is the one of the installation's token file; write another token "
                "into that file (in a home: delete it) and start the API anew, which ends this one"
            )
        made.data = {"name": row.name}
        if not tokens.revoke(row, caller.owner):
            made.nothing_changed()


def read(session: Session, row: Token) -> TokenRead:
    return TokenRead(
        id=row.id,
        name=row.name,
        account=_account(session, row),
        scopes=row.scopes,
        created_at=row.created_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
    )


def _account(session: Session, row: Token) -> str:
    account = session.get_one(Account, row.account_id)
    return account.name

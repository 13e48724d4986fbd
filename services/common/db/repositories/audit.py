"""The audit: one row for each change that somebody asked for, written with the change or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.common.db.models import Account, Audit, JsonDict, Token
from services.common.db.repositories.owner import Owner

MOST_CHARACTERS = 200  # of a target


@dataclass(frozen=True, slots=True)
class Audited:
    """A row with the names of who asked."""

    row: Audit
    account: str
    token: str


class AuditRepository:
    def __init__(self, session: Session) -> None:
        self.session = session

    def add(
        self, owner: Owner, token_id: int, *, action: str, target: str, request_id: str, data: JsonDict | None = None
    ) -> None:
        """`action` is e.g. "search.cancel", `target` what was changed, e.g. "search 12"."""
        self.session.add(
            Audit(
                **owner.columns(),
                token_id=token_id,
                action=action,
                target=target[:MOST_CHARACTERS],
                request_id=request_id,
                data=data or {},
            )
        )
        self.session.flush()

    def page(self, project_id: int, *, after: int, limit: int) -> Sequence[Audited]:
        """In the order in which it happened."""
        rows = self.session.execute(
            select(Audit, Account.name, Token.name)
            .join(Account, Account.id == Audit.created_by)
            .join(Token, Token.id == Audit.token_id)
            .where(Audit.project_id == project_id, Audit.id > after)
            .order_by(Audit.id)
            .limit(limit)
        )
        return [Audited(row, account, token) for row, account, token in rows]

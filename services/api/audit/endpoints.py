"""GET of the audit."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from services.api.access import Admin
from services.api.fields import Cursor, Limit, Page, cursor_after, position
from services.api.problems import refusals
from services.api.state import Api
from services.common.db.repositories import AuditRepository

router = APIRouter(prefix="/v1/audit", tags=["audit"])


class AuditRead(BaseModel):
    id: int
    created_at: float
    account: str
    token: int
    token_name: str
    action: str
    target: str
    request_id: str
    data: dict[str, Any]


@router.get("", responses=refusals())
def list_audit(api: Api, caller: Admin, cursor: Cursor = None, limit: Limit = 100) -> Page[AuditRead]:
    """Every change that somebody asked for, in the order in which it happened."""
    with api.database.read_session() as session:
        items = [
            AuditRead(
                id=found.row.id,
                created_at=found.row.created_at,
                account=found.account,
                token=found.row.token_id,
                token_name=found.token,
                action=found.row.action,
                target=found.row.target,
                request_id=found.row.request_id,
                data=found.row.data,
            )
            for found in AuditRepository(session).page(caller.project_id, after=position(cursor), limit=limit)
        ]
    return Page(items=items, next_cursor=cursor_after(items[-1].id if items else None, len(items), limit))

"""Tokens over HTTP."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from services.api.fields import NAME_PATTERN, Body

Scope = Literal["read", "write", "worker", "admin"]


def _each_once(scopes: list[Scope]) -> list[Scope]:
    if len(set(scopes)) != len(scopes):
        raise ValueError("each scope may be named once")
    return scopes


Scopes = Annotated[
    list[Scope],
    Field(min_length=1, max_length=4, json_schema_extra={"uniqueItems": True}),
    AfterValidator(_each_once),
]


class TokenCreate(Body):
    name: Annotated[str, Field(pattern=NAME_PATTERN, max_length=200, description="who will use it; also its account")]
    scopes: Scopes


class TokenRead(BaseModel):
    """What is known of a token; the token itself is nowhere."""

    id: int
    name: str
    account: str
    scopes: list[str]
    created_at: float
    last_used_at: float | None = Field(description="to the minute")
    revoked_at: float | None


class TokenCreated(TokenRead):
    token: str = Field(description="shown this once, and stored as a hash only")

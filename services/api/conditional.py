"""Answers with an ETag: 304 and no body as long as the caller knows what there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Header, Response

Body = TypeVar("Body")

KnownTag = Annotated[str | None, Header(max_length=1000, description="ETag of the answer that is known already")]
NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "as before"}}


@dataclass(frozen=True, slots=True)
class Tagged(Generic[Body]):
    """A body with its tag; no body where the caller knows the tag."""

    tag: str
    body: Body | None = None


def is_known(known: str | None, tag: str) -> bool:
    """Whether an If-None-Match header names this tag (RFC 9110, 13.1.2: weakly compared)."""
    return known is not None and tag in (part.strip().removeprefix("W/") for part in known.split(","))


def answer(response: Response, tagged: Tagged[Body]) -> Body | Response:
    """What an endpoint returns: the body, or 304 without one."""
    if tagged.body is None:
        return Response(status_code=304, headers={"ETag": tagged.tag})
    response.headers["ETag"] = tagged.tag
    return tagged.body

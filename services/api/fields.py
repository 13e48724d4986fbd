"""Field types that several resources share: every integer, length and depth has a bound."""

from __future__ import annotations

import math
from typing import Annotated, Any, Generic, Self, TypeVar

from fastapi import Depends, Path, Query, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from services.common.errors import InvalidRequestError

MAX_INTEGER = 2**63 - 1
MAX_ATTEMPT = 2**31 - 1
MAX_NUMBER = 2**31 - 1 - 500  # of a trial, with a page after it: the column has 32 bits
MAX_DEPTH = 32
DIGEST_PATTERN = "^[0-9a-f]{64}$"
NUL = "\x00"
NO_NUL = r"^[^\x00]*$"  # a database's text has no place for it
NAME_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9._-]*$"

Item = TypeVar("Item")


class Body(BaseModel):
    """What a client sends: an unknown key is an error, not a silent default. No text in it holds a NUL character."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="after")
    def _without_nul(self) -> Self:
        for name in type(self).model_fields:
            value = getattr(self, name)
            texts = value if isinstance(value, list) else [value]
            if any(isinstance(text, str) and NUL in text for text in texts):
                raise ValueError(f"the text of {name} must not hold a NUL character")
        return self


class Page(BaseModel, Generic[Item]):
    """One page of a list; `next_cursor` is null on the last one."""

    items: list[Item]
    next_cursor: str | None


def _check_json(value: dict[str, Any]) -> dict[str, Any]:
    """Free-form JSON: bounded depth, finite numbers, text that can be written down."""
    stack: list[tuple[Any, int]] = [(value, 1)]
    while stack:
        item, depth = stack.pop()
        if depth > MAX_DEPTH:
            raise ValueError(f"JSON may be nested {MAX_DEPTH} deep at most")
        if isinstance(item, dict):
            stack.extend((key, depth) for key in item)
            stack.extend((inner, depth + 1) for inner in item.values())
        elif isinstance(item, list):
            stack.extend((inner, depth + 1) for inner in item)
        elif isinstance(item, float) and not math.isfinite(item):
            raise ValueError("numbers must be finite")
        elif isinstance(item, int) and abs(item) > MAX_INTEGER:
            raise ValueError("integers must fit into 64 bits")
        elif isinstance(item, str) and NUL in item:
            raise ValueError("text must not hold a NUL character")
        elif isinstance(item, str) and not item.isascii():
            item.encode()  # a lone surrogate is a UnicodeEncodeError, which is a ValueError
    return value


def _without_nul(text: str) -> str:
    return text.replace(NUL, "\N{REPLACEMENT CHARACTER}")


JsonObject = Annotated[dict[str, Any], AfterValidator(_check_json)]
Whole = Annotated[int, Field(strict=True, ge=0, le=MAX_INTEGER)]
Identifier = Annotated[int, Field(strict=True, ge=1, le=MAX_INTEGER)]
Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Digest = Annotated[str, Field(pattern=DIGEST_PATTERN)]
Attempt = Annotated[int, Field(strict=True, ge=1, le=MAX_ATTEMPT)]
ShortText = Annotated[str, Field(pattern=NO_NUL, min_length=1, max_length=200)]
# What a program wrote: kept without its NULs, since an end of a job that is refused for one helps nobody.
Reason = Annotated[str, AfterValidator(_without_nul), Field(max_length=20_000)]
LogText = Annotated[str, AfterValidator(_without_nul), Field(max_length=1 << 20)]

PathId = Annotated[int, Path(ge=1, le=MAX_INTEGER)]
PathDigest = Annotated[str, Path(pattern=DIGEST_PATTERN)]
PathName = Annotated[str, Path(pattern=NAME_PATTERN, max_length=200)]
Limit = Annotated[int, Query(ge=1, le=500)]
Cursor = Annotated[str | None, Query(pattern="^[0-9]{1,18}$", description="next_cursor of the page before")]


async def refuse_body(request: Request) -> None:
    """For routes that take no body: what is sent all the same was meant to do something, and would not."""
    if await request.body() not in (b"", b"{}"):
        raise InvalidRequestError("body: this route takes none, but one came; leave it out")


WITHOUT_BODY = [Depends(refuse_body)]


async def refuse_unknown_query(request: Request) -> None:
    """For every route: a query's key that it does not take was meant to do something, and would not; nor would a
    second one of the same name."""
    given = [key for key, _ in request.query_params.multi_items()]
    if not given:
        return
    route = request.scope["route"]
    operation = request.app.openapi()["paths"][route.path][request.method.lower()]
    known = [parameter["name"] for parameter in operation.get("parameters", []) if parameter["in"] == "query"]
    takes = f"this route takes {', '.join(known)}" if known else "this route takes none"
    for key in given:
        if key not in known:
            raise InvalidRequestError(f"{shown(key)} is no key of this query; {takes}")
        if given.count(key) > 1:
            raise InvalidRequestError(f"{key} is given {given.count(key)} times in this query; send it once")


def shown(text: str) -> str:
    """What somebody sent, as it may stand in a sentence."""
    return repr(text if len(text) <= 60 else text[:60] + "…")


def position(cursor: str | None, first: int = 0) -> int:
    """Where a page begins: after this id."""
    return first if cursor is None else int(cursor)


def cursor_after(last: int | None, count: int, limit: int) -> str | None:
    """The cursor of the next page; none when this one was not full."""
    return str(last) if last is not None and count == limit else None

"""Workers over HTTP."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from services.api.fields import NAME_PATTERN, NO_NUL, Body, JsonObject, ShortText, Whole

DeviceClass = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$", max_length=40)]
Incarnation = Annotated[str, Field(pattern=NO_NUL, min_length=1, max_length=64)]


class WorkerCreate(Body):
    name: Annotated[str, Field(pattern=NAME_PATTERN, max_length=200)]
    incarnation: Incarnation
    protocol: Whole
    device_class: DeviceClass
    device_name: ShortText
    facts: JsonObject = Field(default_factory=dict)


class Registration(BaseModel):
    id: int
    lease_seconds: float
    heartbeat_seconds: float
    protocol: int


class DrainRequest(Body):
    """With `now` the worker gives back what it holds instead of finishing it; nobody is charged."""

    now: Annotated[bool, Field(strict=True)] = False


class WorkerRead(BaseModel):
    """`mode`: active, paused, draining (ends after what it holds) or leaving (gives it back and ends)."""

    id: int
    name: str
    incarnation: str
    device_class: str
    device_name: str
    facts: dict[str, Any]
    resident: list[str]
    mode: str
    jobs: list[int]
    last_seen_at: float
    seconds_since_seen: float

"""Search spaces over HTTP."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class SpaceSummary(BaseModel):
    name: str
    role: str
    kind: str  # space: searched; model: fixed
    summary: str


class BlockRead(BaseModel):
    name: str
    stride: int
    candidates: list[str]


class SpaceRead(SpaceSummary):
    version: int
    settings: dict[str, Any]
    size: float  # number of genotypes; a float, because 4**40 is no 64-bit integer
    blocks: list[BlockRead]

"""Artifacts over HTTP."""

from __future__ import annotations

from pydantic import BaseModel


class ArtifactRead(BaseModel):
    digest: str
    size: int

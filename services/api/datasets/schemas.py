"""Datasets over HTTP."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from services.api.fields import NAME_PATTERN, Body


class DatasetCreate(Body):
    name: Annotated[str, Field(pattern=NAME_PATTERN, max_length=200)]


class DatasetVersionRead(BaseModel):
    id: int
    digest: str
    created_at: float
    class_names: list[str]
    splits: dict[str, Any]
    split_names: dict[str, Any]
    report: dict[str, Any]


class DatasetRead(BaseModel):
    id: int
    name: str
    created_at: float
    versions: list[DatasetVersionRead]

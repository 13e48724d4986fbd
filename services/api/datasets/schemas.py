"""Datasets over HTTP."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from services.api.fields import MAX_INTEGER, NAME_PATTERN, Body, Digest


class DatasetCreate(Body):
    name: Annotated[str, Field(pattern=NAME_PATTERN, max_length=200)]


class DatasetVersionRead(BaseModel):
    id: int
    digest: str
    created_at: float
    archive: str | None = Field(description="the archive that it was read from; null for a folder of the installation")
    class_names: list[str]
    splits: dict[str, Any]
    split_names: dict[str, Any]
    report: dict[str, Any]


class DatasetRead(BaseModel):
    id: int
    name: str
    created_at: float
    archive: str | None = Field(description="the uploaded archive that new searches use; null for a folder")
    versions: list[DatasetVersionRead]


SourceKind = Literal["registered", "data_root", "archive"]


class SourceRead(BaseModel):
    name: str
    kind: SourceKind


class SourceList(BaseModel):
    """What a specification may name as `dataset`."""

    items: list[SourceRead]


class UploadCreate(Body):
    size: Annotated[int, Field(strict=True, ge=1, le=MAX_INTEGER, description="bytes of the whole archive")]
    sha256: Digest


UploadState = Literal["receiving", "checking", "finished", "refused"]


class UploadRead(BaseModel):
    """An archive on its way. Go on with the byte at `offset`; when all are there they are checked."""

    id: int
    name: str
    size: int
    sha256: str
    offset: int
    state: UploadState
    reason: str | None

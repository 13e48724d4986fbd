"""Datasets: names, versions, and the upload of archives."""

from __future__ import annotations

import asyncio
from typing import Annotated

import structlog
from fastapi import APIRouter, Depends, Header, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from services.api.access import AccessRule, Caller, Reader, Writer
from services.api.artifacts.draft import CHUNK
from services.api.datasets import service, uploads
from services.api.datasets.schemas import DatasetCreate, DatasetRead, SourceList, UploadCreate, UploadRead
from services.api.fields import MAX_INTEGER, Cursor, Limit, Page, PathId, PathName, cursor_after, position
from services.api.problems import refusals
from services.api.state import Api

STALLED_SECONDS = 60.0  # without a byte: a connection that died unnoticed may not hold an upload

log = structlog.get_logger()
router = APIRouter(prefix="/v1", tags=["datasets"])

Uploader = Annotated[Caller, Depends(AccessRule("read", "write"))]
UploadOffset = Annotated[
    int, Header(alias="Upload-Offset", ge=0, le=MAX_INTEGER, description="which byte of the archive comes first")
]
_RAW = {"content": {"application/offset+octet-stream": {"schema": {"type": "string", "format": "binary"}}}}


@router.post("/datasets", status_code=201, responses={200: {"model": DatasetRead}, **refusals(404)})
def create_dataset(body: DatasetCreate, response: Response, api: Api, caller: Writer) -> DatasetRead:
    """Make a dataset of the installation known to the platform; 200 when it already was."""
    dataset, new = service.register(api, caller, body.name)
    if not new:
        response.status_code = 200
    return dataset


@router.get("/datasets", responses=refusals())
def list_datasets(api: Api, caller: Reader, cursor: Cursor = None, limit: Limit = 100) -> Page[DatasetRead]:
    """Datasets with their versions."""
    items = list(service.page(api, caller, position(cursor), limit))
    return Page(items=items, next_cursor=cursor_after(items[-1].id if items else None, len(items), limit))


@router.get("/dataset-sources", responses=refusals())
def list_sources(api: Api, caller: Reader) -> SourceList:
    """Every name that a specification may give as `dataset`, whether it was used before or not."""
    return service.sources(api, caller)


@router.get("/datasets/{name}", responses=refusals(404))
def get_dataset(name: PathName, api: Api, caller: Reader) -> DatasetRead:
    """One dataset with its versions and what their checks found."""
    return service.get(api, caller, name)


@router.post("/datasets/{name}/uploads", status_code=201, responses={200: {"model": UploadRead}, **refusals(409, 413)})
def begin_upload(name: PathName, body: UploadCreate, response: Response, api: Api, caller: Writer) -> UploadRead:
    """Begin to send an archive (tar, tar.gz or zip) that becomes the dataset of this name.

    200 when the same archive is on its way already, or is there: go on at its `offset`.
    """
    upload, new = uploads.begin(api, caller, name, body)
    if not new:
        response.status_code = 200
    return upload


@router.get("/uploads/{upload_id}", responses=refusals(404))
def get_upload(upload_id: PathId, api: Api, caller: Uploader) -> UploadRead:
    """How far an upload is; whoever was cut off goes on at `offset`."""
    return uploads.get(api, caller, upload_id)


@router.patch(
    "/uploads/{upload_id}", responses=refusals(404, 409, 413), openapi_extra={"requestBody": {"required": True, **_RAW}}
)
async def send_piece(upload_id: PathId, offset: UploadOffset, request: Request, api: Api, caller: Writer) -> UploadRead:
    """Bytes of the archive from `Upload-Offset` on. 409 says where it goes on when they do not fit.

    What came before a connection broke counts.
    """
    receiving = await run_in_threadpool(uploads.Receiving, api, caller, upload_id, offset)
    try:
        await _receive(request, receiving)
        await run_in_threadpool(receiving.count)
    finally:
        await run_in_threadpool(receiving.close)
    return await run_in_threadpool(uploads.get, api, caller, upload_id)


async def _receive(request: Request, receiving: uploads.Receiving) -> None:
    waiting, received = bytearray(), 0
    stream = request.stream()
    try:
        while True:
            async with asyncio.timeout(STALLED_SECONDS):
                chunk = await anext(stream, None)
            if chunk is None:
                break
            waiting += chunk
            received += len(chunk)
            if len(waiting) >= CHUNK:
                await run_in_threadpool(receiving.write, bytes(waiting), received)
                waiting.clear()
    except (ClientDisconnect, TimeoutError):
        log.info("upload.cut_off", received=received)  # nobody hears an answer; what came is kept
    await run_in_threadpool(receiving.write, bytes(waiting), received)

"""PUT, HEAD and GET of artifacts."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Annotated, BinaryIO

from anyio import CancelScope, CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from services.api.access import ReaderOrWorker, WorkerCaller
from services.api.artifacts import service
from services.api.artifacts.draft import CHUNK, Draft
from services.api.artifacts.schemas import ArtifactRead
from services.api.fields import PathDigest
from services.api.problems import refusals
from services.api.state import Api
from services.common.errors import PayloadTooLargeError

router = APIRouter(prefix="/v1/artifacts", tags=["artifacts"])

_FROM = re.compile(r"bytes=([0-9]{1,18})-\Z")
RangeHeader = Annotated[
    str | None, Header(alias="Range", max_length=200, description="bytes=N-: what follows byte N; others are ignored")
]
_CONTENT = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


@router.put("/{digest}", responses={201: {"model": ArtifactRead, "description": "it is new"}, **refusals(413)})
async def put_artifact(
    digest: PathDigest, request: Request, response: Response, api: Api, caller: WorkerCaller
) -> ArtifactRead:
    """Store the bytes of the body, which must hash to the name; 201 when they are new, 200 when known.

    The upload is kept for an hour; a checkpoint or a result that names it keeps it for good.
    """
    draft = await run_in_threadpool(api.store.draft)
    try:
        await _receive(request, draft, api.settings.max_artifact)
        new = await run_sync(service.keep, api, caller, draft, digest, limiter=api.transfers)
    finally:
        await run_in_threadpool(draft.abandon)
    response.status_code = 201 if new else 200
    return ArtifactRead(digest=digest, size=draft.size)


async def _receive(request: Request, draft: Draft, limit: int) -> None:
    waiting = bytearray()
    async for chunk in request.stream():
        waiting += chunk
        if draft.size + len(waiting) > limit:
            raise PayloadTooLargeError(f"an artifact may have {limit} bytes at most")
        if len(waiting) >= CHUNK:
            await run_in_threadpool(draft.write, bytes(waiting))
            waiting.clear()
    await run_in_threadpool(draft.write, bytes(waiting))


@router.head("/{digest}", responses=refusals(404), response_class=Response)
def head_artifact(digest: PathDigest, api: Api, caller: ReaderOrWorker) -> Response:
    """Whether it is there. To a worker it is kept as if it had just been uploaded, so that it may be used next."""
    artifact = service.look_up(api, caller, digest)
    return Response(headers={"Content-Length": str(artifact.size), "ETag": f'"{digest}"'})


@router.get(
    "/{digest}",
    responses={**refusals(404), 206: {"description": "Partial Content", "content": _CONTENT}},
    response_class=StreamingResponse,
)
async def get_artifact(
    digest: PathDigest, api: Api, caller: ReaderOrWorker, byte_range: RangeHeader = None
) -> StreamingResponse:
    """The bytes, or the rest of them for one whose transfer was cut off (`Range: bytes=N-`)."""
    artifact = await run_in_threadpool(service.find, api, caller, digest)
    asked = _FROM.match(byte_range or "")
    start = int(asked[1]) if asked is not None and int(asked[1]) < artifact.size else 0
    file = await run_sync(api.store.open, digest, start, limiter=api.transfers)
    headers = {"Content-Length": str(artifact.size - start), "ETag": f'"{digest}"', "Accept-Ranges": "bytes"}
    if start:
        headers["Content-Range"] = f"bytes {start}-{artifact.size - 1}/{artifact.size}"
    return StreamingResponse(
        _chunks(file, api.transfers), 206 if start else 200, headers=headers, media_type="application/octet-stream"
    )


async def _chunks(file: BinaryIO, limiter: CapacityLimiter) -> AsyncIterator[bytes]:
    try:
        while chunk := await run_sync(file.read, CHUNK, limiter=limiter):
            yield chunk
    finally:
        with CancelScope(shield=True):  # also for somebody who left in the middle
            await run_sync(file.close, limiter=limiter)

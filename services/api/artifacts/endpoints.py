"""PUT, HEAD and GET of artifacts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from services.api.access import ReaderOrWorker, WorkerCaller
from services.api.artifacts import service
from services.api.artifacts.schemas import ArtifactRead
from services.api.artifacts.store import CHUNK, Draft
from services.api.fields import PathDigest
from services.api.problems import refusals
from services.api.state import Api
from services.common.errors import PayloadTooLargeError

router = APIRouter(prefix="/v1/artifacts", tags=["artifacts"])


@router.put("/{digest}", responses=refusals(413))
async def put_artifact(
    digest: PathDigest, request: Request, response: Response, api: Api, caller: WorkerCaller
) -> ArtifactRead:
    """Store the bytes of the body, which must hash to the name; 201 when they are new, 200 when known.

    The upload is kept for an hour; a checkpoint or a result that names it keeps it for good.
    """
    draft = await run_in_threadpool(api.store.draft)
    try:
        await _receive(request, draft, api.settings.max_artifact)
        new = await run_in_threadpool(service.keep, api, caller, draft, digest)
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


@router.head("/{digest}", responses=refusals(404))
def head_artifact(digest: PathDigest, api: Api, caller: ReaderOrWorker) -> Response:
    """Whether it is there. To a worker it is kept as if it had just been uploaded, so that it may be used next."""
    artifact = service.look_up(api, caller, digest)
    return Response(headers={"Content-Length": str(artifact.size), "ETag": f'"{digest}"'})


@router.get("/{digest}", responses=refusals(404), response_class=StreamingResponse)
def get_artifact(digest: PathDigest, api: Api, caller: ReaderOrWorker) -> StreamingResponse:
    """The bytes."""
    artifact = service.find(api, caller, digest)
    file = api.store.open(digest)
    headers = {"Content-Length": str(artifact.size), "ETag": f'"{digest}"'}
    return StreamingResponse(_chunks(file), headers=headers, media_type="application/octet-stream")


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while chunk := file.read(CHUNK):
            yield chunk

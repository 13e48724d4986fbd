"""Sending an archive in pieces. Cut off anywhere, the same call goes on where the platform's disk ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from nasdet_client.sdk.client import NasdetClient
from nasdet_client.sdk.errors import ApiError, NasdetClientError

PIECE = 8 << 20  # bytes of one request
BUSY_S = 120.0  # how long another request on the same upload is waited for
LOOK_S = 0.3

Json = dict[str, Any]


class Source(Protocol):
    """Bytes that can be read from any place."""

    size: int

    def read(self, offset: int, count: int) -> bytes: ...


class UploadRefusedError(NasdetClientError):
    """All bytes came, but they are not those that were announced."""


def send_archive(
    client: NasdetClient,
    name: str,
    source: Source,
    sha256: str,
    *,
    piece: int = PIECE,
    progress: Callable[[Json], object] = lambda _upload: None,
) -> Json:
    """Send what the platform does not have yet; return the finished upload, whose archive is the dataset `name` then.

    `progress` gets the upload as it is after each piece (offset, size, state). Raises UploadRefusedError when the
    source has changed meanwhile, ApiError when the platform refuses the archive or the name.
    """
    upload = client.begin_upload(name, source.size, sha256)
    busy_until: float | None = None
    while upload["state"] in ("receiving", "checking"):
        progress(upload)
        if upload["state"] == "checking":
            time.sleep(LOOK_S)
            upload = client.upload(upload["id"])
            continue
        offset = upload["offset"]
        try:
            upload = client.send_piece(upload["id"], offset, source.read(offset, piece))
        except ApiError as error:
            if error.status != 409:
                raise
            upload = client.upload(upload["id"])
        if upload["state"] != "receiving" or upload["offset"] != offset:
            busy_until = None
            continue
        # Somebody else holds it: a second client, or a request of ours whose connection is dead and not yet given up.
        busy_until = busy_until or time.monotonic() + BUSY_S
        if time.monotonic() > busy_until:
            raise NasdetClientError(
                f"upload {upload['id']} of '{name}' does not go on at byte {offset}: another client is sending the "
                "same archive; wait for that one, or stop it and try again"
            )
        time.sleep(LOOK_S)
    progress(upload)
    if upload["state"] == "refused":
        raise UploadRefusedError(str(upload["reason"]))
    return upload

"""Artifacts as streams: from and to files, in bounded memory, going on where a connection broke. Imports no torch."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

import httpx

from services.worker.errors import ApiRefusedError, ApiUnreachableError

CHUNK = 1 << 20

Answer = Callable[[httpx.Response], httpx.Response]
"""Gives the response back, or raises the API's own sentence."""


class Patience:
    """Waits between attempts at one request, longer and longer, and gives up after `seconds` without any progress."""

    def __init__(
        self, what: str, seconds: float, *, first_wait: float, longest_wait: float, on_wait: Callable[[], None] | None
    ) -> None:
        self._what = what
        self._seconds = seconds
        self._first, self._longest = first_wait, longest_wait
        self._on_wait = on_wait
        self.renew()

    def renew(self) -> None:
        """Something came: the time counts from now."""
        self._deadline = time.monotonic() + self._seconds
        self._wait = self._first

    def wait(self, problem: str) -> None:
        """Raises ApiUnreachableError when the time is over."""
        if time.monotonic() + self._wait > self._deadline:
            raise ApiUnreachableError(f"no answer to {self._what} for {self._seconds:g} s ({problem}); is it running?")
        if self._on_wait is not None:
            self._on_wait()
        time.sleep(self._wait)
        self._wait = min(2 * self._wait, self._longest)


def download(
    http: httpx.Client,
    digest: str,
    place: Path,
    *,
    patience: Patience,
    away: frozenset[int],
    accepted: Answer,
    room: Callable[[int], None],
    tick: Callable[[], object],
) -> None:
    """Write an artifact to a new file. `room` is told its size before anything is written; it may raise.

    Raises ApiRefusedError when it is not there, or when what came is something else.
    """
    path, found, have, size = f"/v1/artifacts/{digest}", hashlib.sha256(), 0, -1
    with place.open("xb") as file:
        while have != size:
            problem = "the connection ended early"
            headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
            try:
                with http.stream("GET", path, headers=headers) as response:
                    if response.status_code in away:
                        problem = f"it answered {response.status_code}"
                    else:
                        have, found = _begin(response, accepted, file, have, found)
                        size = have + _length(response)
                        room(size)
                        for chunk in response.iter_raw(CHUNK):
                            file.write(chunk)
                            found.update(chunk)
                            have += len(chunk)
                            patience.renew()
                            tick()
            except httpx.TransportError as error:
                problem = f"{type(error).__name__}: {error}"
            if have != size:
                patience.wait(problem)
    if found.hexdigest() != digest:
        place.unlink()
        raise ApiRefusedError(
            f"expected artifact {digest} from the API, got {size} bytes of SHA-256 {found.hexdigest()}; "
            f"its file is damaged: restore the artifact folder from a backup",
            status=HTTPStatus.BAD_GATEWAY,
        )


def _begin(
    response: httpx.Response, accepted: Answer, file: BinaryIO, have: int, found: hashlib._Hash
) -> tuple[int, hashlib._Hash]:
    """Where this answer goes on; from the start where the API sends the whole again."""
    if not response.is_success:
        response.read()
    accepted(response)
    if response.status_code == HTTPStatus.PARTIAL_CONTENT:
        return have, found
    file.seek(0)
    file.truncate()
    return 0, hashlib.sha256()


def _length(response: httpx.Response) -> int:
    length = response.headers.get("Content-Length", "")
    if not length.isdigit():
        raise ApiRefusedError(
            f"expected the length of {response.request.url.path} from the API, but it sent none; let no proxy between "
            "worker and API change its answers",
            status=HTTPStatus.BAD_GATEWAY,
        )
    return int(length)


def upload(
    http: httpx.Client,
    file: Path,
    *,
    patience: Patience,
    away: frozenset[int],
    accepted: Answer,
    tick: Callable[[], object],
) -> str:
    """Store a file under its SHA-256 and return that."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        size = stream.seek(0, 2)
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
    while True:
        try:
            response = http.request("PUT", f"/v1/artifacts/{digest}", content=_chunks(file, tick), headers=headers)
            problem = f"it answered {response.status_code}"
            if response.status_code not in away:
                accepted(response)
                return digest
        except httpx.TransportError as error:
            problem = f"{type(error).__name__}: {error}"
        patience.wait(problem)


def _chunks(file: Path, tick: Callable[[], object]) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            yield chunk
            tick()

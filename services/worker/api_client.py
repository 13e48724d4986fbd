"""The worker's side of the REST API. Imports no torch.

Every request may be repeated: the API knows a repeated result, checkpoint or end of a job again. While the
API is away a request waits and tries again, so that nothing finished is lost.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

import httpx

from services.common.settings import PROTOCOL, PROTOCOL_HEADER
from services.worker.errors import (
    ApiRefusedError,
    ApiUnreachableError,
    ProtocolRefusedError,
    StaleAttemptError,
)
from services.worker.transfers import Patience, download, upload

FIRST_WAIT_SECONDS = 0.2
LONGEST_WAIT_SECONDS = 3.0
PATIENCE_SECONDS = 600.0
_AWAY = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)

Json = dict[str, Any]


class ApiClient:
    """One connection pool; safe to use from several threads.

    `on_wait` is called before each wait for an API that is away: it may raise to give up early.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        request_seconds: float = 30.0,
        on_wait: Callable[[], None] | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._patience = patience_seconds
        self._on_wait = on_wait
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}", PROTOCOL_HEADER: str(PROTOCOL)},
            timeout=httpx.Timeout(request_seconds, connect=5.0),
            transport=transport,
            trust_env=False,  # a proxy between the worker and the API of its own machine helps nobody
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # workers and claims

    def register(self, body: Mapping[str, Any]) -> Json:
        return self._post("/v1/workers", body)

    def claim(self, body: Mapping[str, Any]) -> Json:
        """`job`, the one the server chose for us, or none; and `directive`: work, hold (no job for now) or end.

        Raises StaleAttemptError when the API does not know this worker any more: register again.
        """
        return self._post("/v1/jobs/claim", body)

    def goodbye(self, worker_id: int, incarnation: str, *, patience_seconds: float | None = None) -> None:
        """This worker ends: it is not listed any more, and what it still held is queued again."""
        query = {"incarnation": incarnation}
        self._request("DELETE", f"/v1/workers/{worker_id}", params=query, patience_seconds=patience_seconds)

    # jobs we hold; all raise StaleAttemptError once they are not ours any more

    def heartbeat(self, job_id: int, body: Mapping[str, Any], *, seconds: float) -> Json:
        """Sent once: whoever beats tries again, and must know within `seconds` whether the lease was renewed."""
        return self._post(f"/v1/jobs/{job_id}/heartbeat", body, patience_seconds=0, timeout=seconds)

    def land_result(self, job_id: int, body: Mapping[str, Any]) -> None:
        self._post(f"/v1/jobs/{job_id}/results", body)

    def save_checkpoint(self, job_id: int, *, attempt: int, digest: str, step: int) -> None:
        self._post(f"/v1/jobs/{job_id}/checkpoint", {"attempt": attempt, "digest": digest, "step": step})

    def done(self, job_id: int, body: Mapping[str, Any]) -> None:
        self._post(f"/v1/jobs/{job_id}/done", body)

    def release(self, job_id: int, body: Mapping[str, Any], *, patience_seconds: float | None = None) -> None:
        self._post(f"/v1/jobs/{job_id}/release", body, patience_seconds=patience_seconds)

    def save_log(self, job_id: int, *, attempt: int, text: str) -> None:
        self._post(f"/v1/jobs/{job_id}/log", {"attempt": attempt, "text": text})

    # artifacts

    def put_artifact(self, data: bytes) -> str:
        """Store bytes under their SHA-256 and return it.

        Sent even if they are there already: unless somebody refers to it soon, an old file may be collected.
        """
        digest = hashlib.sha256(data).hexdigest()
        headers = {"Content-Type": "application/octet-stream"}
        self._request("PUT", f"/v1/artifacts/{digest}", content=data, headers=headers)
        return digest

    def put_file(self, file: Path, tick: Callable[[], object] = lambda: None) -> str:
        """Like `put_artifact`, streamed from a file."""
        patience = self._new_patience(f"PUT /v1/artifacts of {file.name}")
        return upload(self._http, file, patience=patience, away=_AWAY, accepted=_accepted, tick=tick)

    def download(
        self, digest: str, place: Path, room: Callable[[int], None], tick: Callable[[], object] = lambda: None
    ) -> None:
        """Stream an artifact to a new file; a transfer that is cut off goes on. `room` is told its size first.

        Raises ApiRefusedError when it is not there, or when what came is something else.
        """
        patience = self._new_patience(f"GET /v1/artifacts/{digest}")
        download(self._http, digest, place, patience=patience, away=_AWAY, accepted=_accepted, room=room, tick=tick)

    def _new_patience(self, what: str) -> Patience:
        return Patience(
            f"{what} from the API at {self._http.base_url}",
            self._patience,
            first_wait=FIRST_WAIT_SECONDS,
            longest_wait=LONGEST_WAIT_SECONDS,
            on_wait=self._on_wait,
        )

    def get_artifact(self, digest: str) -> bytes:
        """Raises ApiRefusedError when it is not there, or when what came is something else."""
        data = self._request("GET", f"/v1/artifacts/{digest}").content
        found = hashlib.sha256(data).hexdigest()
        if found != digest:
            raise ApiRefusedError(
                f"expected artifact {digest} from the API, got {len(data)} bytes of SHA-256 {found}; "
                f"its file is damaged: restore the artifact folder from a backup",
                status=HTTPStatus.BAD_GATEWAY,
            )
        return data

    # one request, repeated while the API is away

    def _post(
        self, path: str, body: Mapping[str, Any], *, patience_seconds: float | None = None, **arguments: Any
    ) -> Json:
        response = self._request("POST", path, json=dict(body), patience_seconds=patience_seconds, **arguments)
        if not response.content:
            return {}
        answer: Json = response.json()
        return answer

    def _request(
        self,
        method: str,
        path: str,
        *,
        patience_seconds: float | None = None,
        **arguments: Any,
    ) -> httpx.Response:
        patience = self._patience if patience_seconds is None else patience_seconds
        deadline = time.monotonic() + patience
        wait = FIRST_WAIT_SECONDS
        while True:
            try:
                response = self._http.request(method, path, **arguments)
                problem = f"it answered {response.status_code}"
                if response.status_code not in _AWAY:
                    return _accepted(response)
            except httpx.TransportError as error:
                problem = f"{type(error).__name__}: {error}"
            if time.monotonic() + wait > deadline:
                raise ApiUnreachableError(
                    f"no answer to {method} {path} from the API at {self._http.base_url} for {patience:g} s "
                    f"({problem}); is it running?"
                )
            if self._on_wait is not None:
                self._on_wait()
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)


def _accepted(response: httpx.Response) -> httpx.Response:
    """The response, or the API's own sentence as an error."""
    if response.is_success:
        return response
    status = response.status_code
    slug, sentence = _problem(response)
    if status == HTTPStatus.UPGRADE_REQUIRED:
        raise ProtocolRefusedError(sentence, status=status)
    if slug == "stale-attempt" or (status == HTTPStatus.NOT_FOUND and response.request.method == "POST"):
        raise StaleAttemptError(sentence, status=status)
    raise ApiRefusedError(sentence, status=status)


def _problem(response: httpx.Response) -> tuple[str, str]:
    """Stable name and sentence of a problem+json body (RFC 9457)."""
    place = f"{response.request.method} {response.request.url.path}"
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict) or not isinstance(body.get("detail"), str):
        return "", f"the API refused {place} with status {response.status_code}"
    slug = str(body.get("type", "")).rpartition(":")[2].rpartition("/")[2]
    errors = body.get("errors")
    return slug, f"{body['detail']} ({errors})" if errors else str(body["detail"])


def read_token(path: Path) -> str:
    """The worker's token; the API writes the file when it makes a home."""
    try:
        return path.read_text().strip()
    except OSError as error:
        raise ApiUnreachableError(
            f"expected the worker's token in {path}, but it cannot be read ({error.strerror}); "
            f"start the API with the same home first"
        ) from error

"""One method per route of the REST API, JSON in and out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx

from nasdet_client.sdk.errors import (
    ApiError,
    ConnectionSettingError,
    FieldError,
    ForeignAnswerError,
    UnreachableError,
)

Json = dict[str, Any]

FINISHED_STATES = ("succeeded", "failed", "cancelled")


class NasdetClient:
    """A connection to one nasdet API. Not shared between threads.

    `patience_s` is how long a request that gets no answer is repeated before UnreachableError: an API that is
    restarted within it is not noticed. Only requests that may safely be sent twice are repeated.

    Raises ConnectionSettingError when no request can be made with the address or the token.
    """

    def __init__(self, url: str, token: str, *, timeout_s: float = 30.0, patience_s: float = 0.0) -> None:
        _check_address(url)
        _check_token(token)
        self.url = url.rstrip("/")
        self._patience_s = patience_s
        self._http = httpx.Client(
            base_url=self.url,
            timeout=timeout_s,
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
        )
        self._cached: dict[str, tuple[str, Json]] = {}  # path -> (ETag, body)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # --- the platform ---------------------------------------------------------------------------------------------

    def ready(self) -> bool:
        """Whether the API answers and its database does."""
        try:
            return self._http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def workers(self) -> list[Json]:
        return list(self._pages("/v1/workers"))

    def pause_worker(self, worker_id: int) -> Json:
        """It finishes the job that it holds and gets no other until `resume_worker`."""
        return self._json("POST", f"/v1/workers/{worker_id}/pause", repeatable=True)

    def resume_worker(self, worker_id: int) -> Json:
        return self._json("POST", f"/v1/workers/{worker_id}/resume", repeatable=True)

    def drain_worker(self, worker_id: int, *, now: bool = False) -> Json:
        """It finishes the job that it holds, or with `now` gives it back uncharged, and ends."""
        return self._json("POST", f"/v1/workers/{worker_id}/drain", json={"now": now}, repeatable=True)

    def spaces(self) -> list[Json]:
        return list(self._pages("/v1/spaces"))

    # --- datasets -------------------------------------------------------------------------------------------------

    def create_dataset(self, name: str) -> Json:
        """Make a dataset of the installation known to the platform; the same name again is no error."""
        return self._json("POST", "/v1/datasets", json={"name": name}, repeatable=True)

    def dataset(self, name: str) -> Json:
        return self._json("GET", f"/v1/datasets/{name}", repeatable=True)

    def dataset_sources(self) -> list[Json]:
        """Every name that a specification may give as `dataset`."""
        return list(self._json("GET", "/v1/dataset-sources", repeatable=True)["items"])

    def begin_upload(self, name: str, size: int, sha256: str) -> Json:
        """The upload of this archive to go on with (`send_archive` does all of it)."""
        body = {"size": size, "sha256": sha256}
        return self._json("POST", f"/v1/datasets/{name}/uploads", json=body, repeatable=True)

    def upload(self, upload_id: int) -> Json:
        return self._json("GET", f"/v1/uploads/{upload_id}", repeatable=True)

    def send_piece(self, upload_id: int, offset: int, data: bytes) -> Json:
        """Bytes of an archive from `offset` on; ApiError 409 when it goes on elsewhere."""
        headers = {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
        return self._json("PATCH", f"/v1/uploads/{upload_id}", content=data, headers=headers, repeatable=True)

    # --- searches -------------------------------------------------------------------------------------------------

    def submit_search(
        self, specification: Mapping[str, Any], *, priority: int = 0, idempotency_key: str | None = None
    ) -> Json:
        """Start a search. With a key, the same body sent again gives the search that is there already."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return self._json(
            "POST",
            "/v1/searches",
            params={"priority": priority} if priority else {},
            json=dict(specification),
            headers=headers,
            repeatable=bool(idempotency_key),
        )

    def searches(self) -> list[Json]:
        return list(self._pages("/v1/searches"))

    def search(self, search_id: int) -> Json:
        """The search's summary; a summary that did not change is not sent again (ETag)."""
        return self._json("GET", f"/v1/searches/{search_id}", repeatable=True, cached=True)

    def cancel_search(self, search_id: int) -> Json:
        return self._json("POST", f"/v1/searches/{search_id}/cancel", repeatable=True)

    def pause_search(self, search_id: int) -> Json:
        return self._json("POST", f"/v1/searches/{search_id}/pause", repeatable=True)

    def resume_search(self, search_id: int) -> Json:
        return self._json("POST", f"/v1/searches/{search_id}/resume", repeatable=True)

    def retry_search(self, search_id: int, *, gpu_hours: float | None = None, wall_hours: float | None = None) -> Json:
        """Run a failed or cancelled search again from where it ended; hours given here replace its budget's."""
        given = {"gpu_hours": gpu_hours, "wall_hours": wall_hours}
        body = {key: hours for key, hours in given.items() if hours is not None}
        return self._json("POST", f"/v1/searches/{search_id}/retry", json=body, repeatable=False)

    def clone_search(self, search_id: int, changes: Mapping[str, Any], *, priority: int | None = None) -> Json:
        """Submit a search's specification again; each section in `changes` replaces the old one, None removes it."""
        body: Json = {"changes": dict(changes)}
        if priority is not None:
            body["priority"] = priority
        return self._json("POST", f"/v1/searches/{search_id}/clone", json=body, repeatable=False)

    def set_priority(self, search_id: int, priority: int) -> Json:
        return self._json("PATCH", f"/v1/searches/{search_id}", json={"priority": priority}, repeatable=True)

    def trials(self, search_id: int) -> list[Json]:
        return list(self._pages(f"/v1/searches/{search_id}/trials"))

    def events(self, search_id: int) -> list[Json]:
        return list(self._pages(f"/v1/searches/{search_id}/events"))

    def watch_search(self, search_id: int, *, every_s: float = 1.0) -> Iterator[Json]:
        """Yield the summary at once and then every `every_s` seconds; the last one is of a finished search."""
        while True:
            summary = self.search(search_id)
            yield summary
            if summary["search"]["state"] in FINISHED_STATES:
                return
            time.sleep(every_s)

    # --- jobs -----------------------------------------------------------------------------------------------------

    def jobs(self, *, search_id: int | None = None) -> list[Json]:
        return list(self._pages("/v1/jobs", {} if search_id is None else {"search": search_id}))

    def job(self, job_id: int) -> Json:
        return self._json("GET", f"/v1/jobs/{job_id}", repeatable=True)

    def job_log(self, job_id: int) -> str:
        return self._send("GET", f"/v1/jobs/{job_id}/log", repeatable=True).text

    # --- tokens -------------------------------------------------------------------------------------------------------

    def tokens(self) -> list[Json]:
        """What is known of every token, revoked ones too; never the tokens themselves."""
        return list(self._pages("/v1/tokens"))

    def create_token(self, name: str, scopes: Sequence[str]) -> Json:
        """Make a token; `token` in the answer is shown this once. Scopes: read, write, worker, admin."""
        return self._json("POST", "/v1/tokens", json={"name": name, "scopes": list(scopes)}, repeatable=False)

    def revoke_token(self, token_id: int) -> None:
        """From now on it opens nothing; once more is no error."""
        self._send("DELETE", f"/v1/tokens/{token_id}", repeatable=True)

    # --- plumbing -------------------------------------------------------------------------------------------------

    def _pages(self, path: str, query: Mapping[str, Any] | None = None) -> Iterator[Json]:
        cursor: str | None = None
        while True:
            params = {**(query or {}), **({"cursor": cursor} if cursor else {})}
            page = self._json("GET", path, params=params, repeatable=True)
            if not isinstance(page.get("items"), list):
                raise ForeignAnswerError(200, "no nasdet API", f"{self.url}{path} {_FOREIGN}: it sent no list of items")
            yield from page["items"]
            cursor = page.get("next_cursor")
            if cursor is None:
                return

    def _json(self, method: str, path: str, *, repeatable: bool, cached: bool = False, **request: Any) -> Json:
        known = self._cached.get(path) if cached else None
        if known:
            request["headers"] = {**request.get("headers", {}), "If-None-Match": known[0]}
        response = self._send(method, path, repeatable=repeatable, **request)
        if response.status_code == 304 and known:
            return known[1]
        body = _json_object(response)
        if body is None:
            raise _foreign(response)
        if cached and "ETag" in response.headers:
            self._cached[path] = (response.headers["ETag"], body)
        return body

    def _send(self, method: str, path: str, *, repeatable: bool, **request: Any) -> httpx.Response:
        give_up_at = time.monotonic() + (self._patience_s if repeatable else 0.0)
        pause_s = 0.1
        while True:
            try:
                response = self._http.request(method, path, **request)
            except httpx.DecodingError as error:
                raise UnreachableError(
                    f"the answer of {self.url} cannot be decoded ({_one_line(str(error))})"
                ) from error
            except httpx.TransportError as error:
                if time.monotonic() >= give_up_at:
                    raise UnreachableError(
                        f"no answer from {self.url} ({str(error) or type(error).__name__}); "
                        "start the platform with `nasdet up`, or name another address with --url"
                    ) from error
            else:
                if response.status_code != 503 or time.monotonic() >= give_up_at:
                    return _checked(response)
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, 2.0)


def _checked(response: httpx.Response) -> httpx.Response:
    if response.is_success or response.status_code == 304:
        return response
    problem = _json_object(response)
    if problem is None or not isinstance(problem.get("title"), str):
        raise _foreign(response)
    errors = problem.get("errors")
    fields = tuple(
        FieldError(_location(entry.get("loc", "")), str(entry.get("msg", "")))
        for entry in (errors if isinstance(errors, list) else [])
        if isinstance(entry, dict)
    )
    raise ApiError(response.status_code, problem["title"], str(problem.get("detail") or problem["title"]), fields)


_FOREIGN = "does not look like a nasdet API"
_SHOWN_CHARACTERS = 200  # of an answer that is not the API's


def _json_object(response: httpx.Response) -> Json | None:
    try:
        body = response.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _foreign(response: httpx.Response) -> ForeignAnswerError:
    said = f"HTTP {response.status_code} {_one_line(response.text)}".rstrip()
    return ForeignAnswerError(
        response.status_code,
        f"HTTP {response.status_code}",
        f"{response.url} {_FOREIGN}; check the address given with --url or in NASDET_URL; it answered: {said}",
    )


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARACTERS else f"{line[:_SHOWN_CHARACTERS]}..."


def _check_address(url: str) -> None:
    reason = "it is none"
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        reason = _one_line(str(error))
    else:
        if parsed.scheme in ("http", "https") and parsed.host and (parsed.port is None or 0 < parsed.port < 65536):
            return
    raise ConnectionSettingError(
        f"expected an address such as http://127.0.0.1:8765, but got {url!r} ({reason}); check --url and NASDET_URL"
    )


def _check_token(token: str) -> None:
    if not token or not all("!" <= character <= "~" for character in token):  # what a header can carry
        what = "other characters" if token else "an empty one"
        raise ConnectionSettingError(
            f"expected a token of visible ASCII characters, but got {what}; check --token and NASDET_TOKEN"
        )


def _location(parts: Any) -> str:
    return ".".join(str(part) for part in parts) if isinstance(parts, list) else str(parts)

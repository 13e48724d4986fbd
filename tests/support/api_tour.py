"""A tour through every operation of the API that ends well: what people and workers send, in an order that works.

`Send` takes method, path template, the scope whose token to use, and the parts of the request; it returns an answer
that was a success.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx

from services.common.db.session import Database
from services.common.settings import PROTOCOL
from tests.support import stores
from tests.support.api_platform import SPECIFICATION

ARCHIVE = b"an archive, or nearly"
WEIGHTS = b"weights of something"
ME = {"incarnation": "a", "device_class": "cpu", "protocol": PROTOCOL}


class Send(Protocol):
    def __call__(
        self,
        method: str,
        path: str,
        scope: str = "read",
        *,
        place: dict[str, Any] | None = None,
        query: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        body: Any = None,
    ) -> httpx.Response: ...


@dataclass
class Known:
    """Rows that are there after the tour, by the name of the path's parameter; several where they differ in state."""

    place: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, **found: Any) -> None:
        for name, value in found.items():
            self.place.setdefault(name, []).append(value)


def take_tour(send: Send, database: Database) -> Known:
    """Visit every operation; returns what is there now, jobs that run and searches in every state included."""
    known = Known()
    _look_around(send)
    _datasets(send, known)
    _searches(send, known)
    _workers(send, known)
    _jobs(send, known, database)
    _tokens(send, known)
    return known


def _look_around(send: Send) -> None:
    for path in ("/healthz", "/readyz", "/v1/openapi.json", "/v1/spaces", "/v1/dataset-sources"):
        send("GET", path)
    send("GET", "/v1/spaces/{name}", place={"name": "detnas-300m"})
    send("GET", "/v1/audit", "admin")


def _datasets(send: Send, known: Known) -> None:
    send("POST", "/v1/datasets", "write", body={"name": "cells"})
    send("GET", "/v1/datasets")
    send("GET", "/v1/datasets/{name}", place={"name": "cells"})
    body = {"size": len(ARCHIVE), "sha256": hashlib.sha256(ARCHIVE).hexdigest()}
    upload = send("POST", "/v1/datasets/{name}/uploads", "write", place={"name": "sent"}, body=body).json()["id"]
    place = {"upload_id": upload}
    send("GET", "/v1/uploads/{upload_id}", place=place)
    send("PATCH", "/v1/uploads/{upload_id}", "write", place=place, headers={"Upload-Offset": "0"}, body=ARCHIVE[:5])
    known.add(name="cells", upload_id=upload)
    known.add(name="detnas-300m")


def _searches(send: Send, known: Known) -> None:
    def submitted(name: str) -> dict[str, int]:
        answer = send("POST", "/v1/searches", "write", body={**SPECIFICATION, "name": name})
        known.add(search_id=answer.json()["search"]["id"])
        return {"search_id": answer.json()["search"]["id"]}

    one = "/v1/searches/{search_id}"
    steered, ended = submitted("steered"), submitted("ended")
    send("GET", "/v1/searches")
    for path in (one, *(f"{one}/{part}" for part in ("trials", "front", "measurements", "events"))):
        send("GET", path, place=steered)
    send("PATCH", one, "write", place=steered, body={"priority": 7})
    for action in ("pause", "resume"):
        send("POST", f"{one}/{action}", "write", place=steered)
    send("POST", f"{one}/cancel", "write", place=ended)
    send("POST", f"{one}/retry", "write", place=ended, body={"gpu_hours": 3})
    send("POST", f"{one}/cancel", "write", place=ended)
    send("POST", f"{one}/clone", "write", place=steered, body={"changes": {"seed": 5}})


def _workers(send: Send, known: Known) -> None:
    def registered(name: str) -> int:
        answer = send("POST", "/v1/workers", "worker", body={**ME, "name": name, "device_name": "test"})
        return int(answer.json()["id"])

    told, leaves = registered("told"), registered("leaves")
    known.add(worker_id=told)
    send("GET", "/v1/workers")
    for action, body in (("pause", None), ("resume", None), ("drain", {"now": False}), ("resume", None)):
        send("POST", f"/v1/workers/{{worker_id}}/{action}", "write", place={"worker_id": told}, body=body)
    query = {"incarnation": ME["incarnation"]}
    send("DELETE", "/v1/workers/{worker_id}", "worker", place={"worker_id": leaves}, query=query)


def _jobs(send: Send, known: Known, database: Database) -> None:
    with database.write_session() as session:
        rows = stores.new_rows(session, "toured")
        for first in (0, 2, 4):
            stores.new_evaluation(session, rows, 2, first=first)
    known.add(search_id=rows.search_id)
    worker = known.place["worker_id"][0]

    def claimed() -> dict[str, Any]:
        answer = send("POST", "/v1/jobs/claim", "worker", body={**ME, "worker": worker, "resident": []})
        job: dict[str, Any] = answer.json()["job"]
        known.add(job_id=job["id"], attempt=job["attempt"], trial=job["trials"][0]["id"])
        return job

    def say(job: dict[str, Any], action: str, **said: Any) -> None:
        body = {"attempt": job["attempt"], **said}
        send("POST", f"/v1/jobs/{{job_id}}/{action}", "worker", place={"job_id": job["id"]}, body=body)

    digest, kept = hashlib.sha256(WEIGHTS).hexdigest(), hashlib.sha256(ARCHIVE).hexdigest()
    for name, content in ((digest, WEIGHTS), (kept, ARCHIVE)):
        for method, scope, body in (("PUT", "worker", content), ("HEAD", "read", None), ("GET", "read", None)):
            send(method, "/v1/artifacts/{digest}", scope, place={"digest": name}, body=body)
    known.add(digest=kept)  # the other one goes with the job that it is a checkpoint of
    done = claimed()
    say(done, "heartbeat", counter=1, progress={"step": 1}, log="it begins")
    say(done, "checkpoint", digest=digest, step=10)
    for trial in done["trials"]:
        say(done, "results", trial=trial["id"], **stores.success())
    say(done, "log", text="it ends")
    say(done, "done", outcome="succeeded", result={})
    say(claimed(), "release", kind="graceful")
    claimed()
    send("GET", "/v1/jobs")
    for path in ("/v1/jobs/{job_id}", "/v1/jobs/{job_id}/log"):
        send("GET", path, place={"job_id": done["id"]})


def _tokens(send: Send, known: Known) -> None:
    def made(name: str) -> int:
        return int(send("POST", "/v1/tokens", "admin", body={"name": name, "scopes": ["read"]}).json()["id"])

    send("DELETE", "/v1/tokens/{token_id}", "admin", place={"token_id": made("toured")})
    known.add(token_id=made("kept"))
    send("GET", "/v1/tokens", "admin")

"""Who asked for what: every change that a person asks for leaves a row, in the same transaction or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import httpx

from services.api.access import AccessRule
from services.common.db.repositories import AuditRepository, TokenRepository
from services.common.tokens import new_token
from tests.support import stores
from tests.support.api_platform import SPECIFICATION, Platform, register
from tests.support.api_routes import guarded_routes

UNSAFE = ("POST", "PUT", "PATCH", "DELETE")
ARCHIVE = b"an archive, or nearly"
# A piece of an archive goes on with what "dataset.upload" told: it begins nothing and ends nothing.
TOLD_BEFORE = {("PATCH", "/v1/uploads/{upload_id}")}


def changes() -> dict[tuple[str, str], AccessRule]:
    """Every route by which a person may change something."""
    return {
        key: rule for key, rule in guarded_routes().items() if key[0] in UNSAFE and rule.scopes & {"write", "admin"}
    }


def submitted(platform: Platform, name: str) -> int:
    answer = platform.user.post("/v1/searches", json={**SPECIFICATION, "name": name})
    assert answer.status_code == 201, answer.text
    number: int = answer.json()["search"]["id"]
    return number


def steer(action: str, *before: str, body: dict[str, Any] | None = None) -> Callable[[Platform], httpx.Response]:
    """Do something to a search of its own, after other things."""

    def send(platform: Platform) -> httpx.Response:
        url = f"/v1/searches/{submitted(platform, action)}"
        for earlier in before:
            assert platform.user.post(f"{url}/{earlier}").is_success
        return platform.user.post(f"{url}/{action}", json=body)

    return send


def tell_worker(action: str, *before: str, body: dict[str, Any] | None = None) -> Callable[[Platform], httpx.Response]:
    def send(platform: Platform) -> httpx.Response:
        url = f"/v1/workers/{register(platform, f'told-to-{action}')}"
        for earlier in before:
            assert platform.user.post(f"{url}/{earlier}").is_success
        return platform.user.post(f"{url}/{action}", json=body)

    return send


def revoke(platform: Platform) -> httpx.Response:
    made = platform.user.post("/v1/tokens", json={"name": "short-lived", "scopes": ["read"]})
    return platform.user.delete(f"/v1/tokens/{made.json()['id']}")


# One request that changes something for each route, and the action that the audit calls it.
REQUESTS: dict[tuple[str, str], tuple[str, Callable[[Platform], httpx.Response]]] = {
    ("POST", "/v1/datasets"): ("dataset.register", lambda p: p.user.post("/v1/datasets", json={"name": "cells"})),
    ("POST", "/v1/datasets/{name}/uploads"): (
        "dataset.upload",
        lambda p: p.user.post(
            "/v1/datasets/sent/uploads",
            json={"size": len(ARCHIVE), "sha256": hashlib.sha256(ARCHIVE).hexdigest()},
        ),
    ),
    ("POST", "/v1/searches"): ("search.submit", lambda p: p.user.post("/v1/searches", json=SPECIFICATION)),
    ("PATCH", "/v1/searches/{search_id}"): (
        "search.priority",
        lambda p: p.user.patch(f"/v1/searches/{submitted(p, 'raised')}", json={"priority": 5}),
    ),
    ("POST", "/v1/searches/{search_id}/cancel"): ("search.cancel", steer("cancel")),
    ("POST", "/v1/searches/{search_id}/pause"): ("search.pause", steer("pause")),
    ("POST", "/v1/searches/{search_id}/resume"): ("search.resume", steer("resume", "pause")),
    ("POST", "/v1/searches/{search_id}/retry"): ("search.retry", steer("retry", "cancel", body={"gpu_hours": 3})),
    ("POST", "/v1/searches/{search_id}/clone"): ("search.clone", steer("clone", body={"changes": {"seed": 5}})),
    ("POST", "/v1/workers/{worker_id}/pause"): ("worker.pause", tell_worker("pause")),
    ("POST", "/v1/workers/{worker_id}/resume"): ("worker.resume", tell_worker("resume", "pause")),
    ("POST", "/v1/workers/{worker_id}/drain"): ("worker.drain", tell_worker("drain", body={})),
    ("POST", "/v1/tokens"): (
        "token.create",
        lambda p: p.user.post("/v1/tokens", json={"name": "alice", "scopes": ["read", "write"]}),
    ),
    ("DELETE", "/v1/tokens/{token_id}"): ("token.revoke", revoke),
}


def audit(platform: Platform) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = platform.user.get("/v1/audit", params={"limit": 7, **({"cursor": cursor} if cursor else {})}).json()
        rows += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return rows


def test_every_change_leaves_a_row(platform: Platform) -> None:
    """Whoever adds a route for people adds a request here, and an audit there."""
    assert set(changes()) - TOLD_BEFORE == set(REQUESTS)
    (operator,) = {token["id"] for token in platform.user.get("/v1/tokens").json()["items"] if token["name"] == "token"}
    for (method, path), (action, send) in REQUESTS.items():
        answer = send(platform)
        assert answer.is_success, f"{method} {path}: {answer.text}"
        row = audit(platform)[-1]
        assert row["request_id"] == answer.headers["x-request-id"], f"{method} {path} left no row"
        assert row["action"] == action
        assert (row["account"], row["token"], row["token_name"]) == ("operator", operator, "token")
        kind, _, which = row["target"].partition(" ")
        assert kind == action.partition(".")[0]
        assert which
    assert "nasdet_" not in str(audit(platform))


def test_a_repeated_request_that_changes_nothing_leaves_none(platform: Platform) -> None:
    number = submitted(platform, "twice")
    worker = register(platform)
    made = platform.user.post("/v1/tokens", json={"name": "bob", "scopes": ["read"]}).json()
    headers = {"Idempotency-Key": "once"}
    upload = {"size": len(ARCHIVE), "sha256": hashlib.sha256(ARCHIVE).hexdigest()}
    for method, url, body in (
        ("POST", f"/v1/searches/{number}/pause", None),
        ("POST", f"/v1/searches/{number}/resume", None),
        ("PATCH", f"/v1/searches/{number}", {"priority": 3}),
        ("POST", f"/v1/searches/{number}/cancel", None),
        ("POST", f"/v1/workers/{worker}/pause", None),
        ("POST", f"/v1/workers/{worker}/drain", {}),
        ("DELETE", f"/v1/tokens/{made['id']}", None),
        ("POST", "/v1/searches", {**SPECIFICATION, "name": "keyed"}),
        ("POST", "/v1/datasets/sent/uploads", upload),
    ):
        assert platform.user.request(method, url, json=body, headers=headers).is_success
        before = audit(platform)
        again = platform.user.request(method, url, json=body, headers=headers)
        assert again.is_success, again.text
        assert audit(platform) == before, f"{method} {url} changed nothing, but left a row"
    before = audit(platform)
    assert platform.user.post("/v1/datasets", json={"name": "cells"}).status_code == 200
    assert audit(platform) == before


def test_a_refusal_leaves_neither_change_nor_row(platform: Platform) -> None:
    before = audit(platform)
    for answer in (
        platform.user.post("/v1/searches", json={**SPECIFICATION, "dataset": "unknown"}),
        platform.user.post("/v1/searches/999/cancel"),
        platform.user.post("/v1/datasets", json={"name": "unknown"}),
        platform.user.post("/v1/tokens", json={"name": "x", "scopes": []}),
        platform.user.delete("/v1/tokens/1"),
        platform.worker.post("/v1/searches", json=SPECIFICATION),
    ):
        assert answer.is_client_error
    assert audit(platform) == before


def test_another_projects_rows_are_not_shown(platform: Platform) -> None:
    with platform.api.database.write_session() as session:
        tokens = TokenRepository(session)
        stranger = tokens.ensure_owner("stranger", "elsewhere")
        theirs = tokens.add(stranger, "theirs", new_token(), ["admin"])
        AuditRepository(session).add(stranger, theirs.id, action="x.y", target="x 1", request_id="r")
    assert audit(platform) == []
    assert theirs.id not in [token["id"] for token in platform.user.get("/v1/tokens").json()["items"]]
    assert platform.user.delete(f"/v1/tokens/{theirs.id}").status_code == 404


def test_the_row_and_the_change_are_one_transaction(platform: Platform) -> None:
    """Where the audit cannot be written, nothing is changed."""
    number = submitted(platform, "kept")
    with platform.api.database.write_session() as session:
        stores.forbid_inserts(session, "audit")
    assert platform.user.post(f"/v1/searches/{number}/cancel").status_code >= 500
    assert platform.user.get(f"/v1/searches/{number}").json()["search"]["state"] == "running"

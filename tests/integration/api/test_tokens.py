"""Tokens over REST: shown once, listed without, revoked for good."""

from __future__ import annotations

import json

import pytest

from services.common.db.repositories import TokenRepository
from tests.support.api_platform import Platform


def create(platform: Platform, name: str, *scopes: str) -> dict[str, object]:
    answer = platform.user.post("/v1/tokens", json={"name": name, "scopes": list(scopes)})
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    made: dict[str, object] = answer.json()
    return made


def status(platform: Platform, token: object, path: str = "/v1/searches") -> int:
    return platform.anonymous.get(path, headers={"Authorization": f"Bearer {token}"}).status_code


def test_a_token_is_shown_once_and_opens_what_it_says(platform: Platform) -> None:
    made = create(platform, "alice", "read")
    assert str(made["token"]).startswith("nasdet_")
    assert len(str(made["token"])) >= 50  # 256 bits
    assert status(platform, made["token"]) == 200
    assert status(platform, made["token"], "/v1/tokens") == 403
    listed = platform.user.get("/v1/tokens")
    assert str(made["token"]) not in listed.text
    (entry,) = [item for item in listed.json()["items"] if item["id"] == made["id"]]
    assert entry["last_used_at"] is not None
    assert (entry["name"], entry["account"], entry["scopes"], entry["revoked_at"]) == ("alice", "alice", ["read"], None)
    stored = b"".join(file.read_bytes() for file in platform.home.glob("nasdet.db*"))
    assert str(made["token"]).encode() not in stored


def test_two_tokens_differ_and_a_name_is_taken_until_it_is_revoked(platform: Platform) -> None:
    first = create(platform, "node-3", "worker")
    taken = platform.user.post("/v1/tokens", json={"name": "node-3", "scopes": ["worker"]})
    assert taken.status_code == 409
    assert "revoke it first" in taken.json()["detail"]
    assert platform.user.delete(f"/v1/tokens/{first['id']}").status_code == 204
    assert create(platform, "node-3", "worker")["token"] != first["token"]


def test_a_revoked_token_opens_nothing_at_once(platform: Platform) -> None:
    made = create(platform, "bob", "read", "write")
    assert status(platform, made["token"]) == 200
    for _ in range(2):
        assert platform.user.delete(f"/v1/tokens/{made['id']}").status_code == 204
    assert status(platform, made["token"]) == 401
    assert platform.user.delete("/v1/tokens/999").status_code == 404


def test_nobody_can_lock_the_platform(platform: Platform) -> None:
    """The two tokens of the installation's files stay, so there always is an admin."""
    admin = create(platform, "second-admin", "admin")
    headers = {"Authorization": f"Bearer {admin['token']}"}
    for entry in platform.anonymous.get("/v1/tokens", headers=headers).json()["items"]:
        answer = platform.anonymous.delete(f"/v1/tokens/{entry['id']}", headers=headers)
        assert answer.status_code == (409 if entry["account"] in ("operator", "workers") else 204)
    assert platform.user.get("/v1/tokens").status_code == 200
    assert platform.worker.get("/v1/jobs").status_code == 200


def test_pages_follow_each_other(platform: Platform) -> None:
    for number in range(5):
        create(platform, f"t{number}", "read")
    names: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        query = {"limit": "2", **({"cursor": cursor} if cursor else {})}
        page = platform.user.get("/v1/tokens", params=query).json()
        names += [item["name"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert names == ["token", "worker-token", "t0", "t1", "t2", "t3", "t4"]


@pytest.mark.parametrize(
    "body",
    [
        {"name": "x", "scopes": []},
        {"name": "x", "scopes": ["read", "read"]},
        {"name": "x", "scopes": ["root"]},
        {"name": "", "scopes": ["read"]},
        {"name": "a b", "scopes": ["read"]},
        {"name": "x\0", "scopes": ["read"]},
        {"name": "x" * 201, "scopes": ["read"]},
        {"name": "x", "scopes": ["read"], "token": "mine"},
        {"name": "x"},
    ],
)
def test_what_is_no_token_is_422(shared: Platform, body: dict[str, object]) -> None:
    answer = shared.user.post("/v1/tokens", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code == 422


def test_an_admin_of_another_project_sees_and_revokes_nothing_here(platform: Platform) -> None:
    made = create(platform, "bob", "read")
    with platform.api.database.write_session() as session:
        stranger = TokenRepository(session).ensure_owner("stranger", "another project")
        TokenRepository(session).add(stranger, "theirs", "t" * 40, ["admin"])
    theirs = {"Authorization": "Bearer " + "t" * 40}
    listed = platform.anonymous.get("/v1/tokens", headers=theirs).json()["items"]
    assert [item["name"] for item in listed] == ["theirs"]
    assert platform.anonymous.delete(f"/v1/tokens/{made['id']}", headers=theirs).status_code == 404
    assert status(platform, made["token"]) == 200

"""Who gets in, and how far."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from services.api.access import AccessRule
from services.common.db.repositories import TokenRepository
from tests.support.api_platform import Platform

WITHOUT_TOKEN = {"/healthz", "/readyz"}
# The worker's token reaches these resources and no other.
OF_WORKERS = ("/v1/workers", "/v1/jobs", "/v1/artifacts")


def rules(dependant: Dependant) -> Iterator[AccessRule]:
    for inner in dependant.dependencies:
        if isinstance(inner.call, AccessRule):
            yield inner.call
        yield from rules(inner)


def routes(platform: Platform) -> list[APIRoute]:
    app = platform.anonymous.app  # type: ignore[attr-defined]  # a TestClient
    assert isinstance(app, FastAPI)
    found = list(walk(app.router))
    assert len(found) > 20
    return found


def walk(router: APIRouter) -> Iterator[APIRoute]:
    """Routes, those of included routers too: this FastAPI keeps them as routers."""
    for route in router.routes:
        included = getattr(route, "original_router", None)
        if isinstance(included, APIRouter):
            yield from walk(included)
        else:
            assert isinstance(route, APIRoute), f"{route} cannot have an access rule"
            yield route


def test_every_route_has_an_access_rule(shared: Platform) -> None:
    for route in routes(shared):
        found = list(rules(route.dependant))
        if route.path in WITHOUT_TOKEN:
            assert found == []
        else:
            assert len(found) == 1, f"{route.methods} {route.path} has no access rule"
            if "worker" in found[0].scopes:
                assert route.path.startswith(OF_WORKERS)


def test_every_route_refuses_a_request_without_a_token(shared: Platform) -> None:
    for route in routes(shared):
        if route.path in WITHOUT_TOKEN:
            continue
        path = route.path.replace("{digest}", "a" * 64).replace("{name}", "x")
        for name in ("{search_id}", "{job_id}"):
            path = path.replace(name, "1")
        for method in route.methods or ():
            response = shared.anonymous.request(method, path)
            assert response.status_code == 401, f"{method} {path}"
            assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic abc", "Bearer wrong", "Bearer " + "x" * 5000])
def test_a_wrong_token_is_401(shared: Platform, header: str) -> None:
    response = shared.anonymous.get("/v1/searches", headers={"Authorization": header})
    assert response.status_code == 401
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == "urn:nasdet:problem:unauthorized"


def test_the_workers_token_reaches_no_searches_and_the_users_claims_nothing(shared: Platform) -> None:
    assert shared.worker.get("/v1/searches").status_code == 403
    assert shared.worker.post("/v1/searches", json={}).status_code == 403
    assert shared.user.post("/v1/jobs/claim", json={}).status_code == 403
    assert shared.user.get("/v1/jobs").status_code == 200


def test_a_revoked_token_is_refused(platform: Platform) -> None:
    with platform.api.database.write_session() as session:
        owner = TokenRepository(session).ensure_owner("operator")
        TokenRepository(session).revoke_others(owner, "token", "another one")
    assert platform.user.get("/v1/searches").status_code == 401


def test_token_files_are_the_users_alone_and_the_database_holds_no_token(shared: Platform) -> None:
    for name in ("token", "worker-token"):
        path = shared.home / name
        assert path.stat().st_mode & 0o777 == 0o600
        secret = path.read_text().strip().encode()
        assert not any(secret in file.read_bytes() for file in shared.home.glob("nasdet.db*"))


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[::1"])
def test_a_foreign_host_header_is_refused(shared: Platform, host: str) -> None:
    response = shared.user.get("/v1/searches", headers={"Host": host})
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example"])
def test_unsafe_methods_from_another_origin_are_refused(shared: Platform, method: str, origin: str) -> None:
    assert shared.user.request(method, "/v1/searches", headers={"Origin": origin}).status_code == 403


def test_the_same_origin_and_safe_methods_pass(platform: Platform) -> None:
    assert platform.user.get("/v1/searches", headers={"Origin": "https://evil.example"}).status_code == 200
    response = platform.user.post("/v1/datasets", json={"name": "cells"}, headers={"Origin": "http://127.0.0.1:9999"})
    assert response.status_code == 201


def test_every_reply_carries_the_security_headers(shared: Platform) -> None:
    for response in (shared.anonymous.get("/healthz"), shared.anonymous.get("/v1/searches")):
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["x-frame-options"] == "DENY"

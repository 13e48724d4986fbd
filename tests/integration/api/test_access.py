"""Who gets in, and how far."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from fastapi import APIRouter, Depends, FastAPI, WebSocket

from services.api.access import AccessRule
from services.common.db.repositories import TokenRepository
from services.common.db.repositories.tokens import SCOPES
from services.common.tokens import new_token
from tests.support.api_platform import Platform
from tests.support.api_routes import WITHOUT_TOKEN, NoRuleError, check_rules

# The worker's token reaches these resources and no other.
OF_WORKERS = ("/v1/workers", "/v1/jobs", "/v1/artifacts")
UNKNOWN = {"digest": "a" * 64, "name": "nobody"}  # for the parameters of a path; a number otherwise


def application(platform: Platform) -> FastAPI:
    app = platform.anonymous.app  # type: ignore[attr-defined]  # a TestClient
    assert isinstance(app, FastAPI)
    return app


def example(path: str) -> str:
    """The path with something in the place of each parameter."""
    return re.sub(r"\{(\w+)\}", lambda match: UNKNOWN.get(match[1], "999999"), path)


def test_every_route_has_an_access_rule(shared: Platform) -> None:
    app = application(shared)
    found = check_rules(app)
    assert len(found) > 30
    for (method, path), rule in found.items():
        if "worker" in rule.scopes:
            assert path.startswith(OF_WORKERS), f"{method} {path}"
        if method in ("POST", "PUT", "PATCH", "DELETE"):
            assert "read" not in rule.scopes, f"a token that may look may change something: {method} {path}"
    # What the walk found is what is served: no prefix was added when a router was included.
    documented = {(method.upper(), path) for path, methods in app.openapi()["paths"].items() for method in methods}
    served = {*found, *(("GET", path) for path in WITHOUT_TOKEN)}
    assert served == documented


@pytest.mark.parametrize("planted", ["bare", "nested", "mounted", "plain", "websocket", "two rules", "no scope"])
def test_the_walk_finds_an_unguarded_route(planted: str) -> None:
    app, outer, inner = FastAPI(openapi_url=None, docs_url=None, redoc_url=None), APIRouter(), APIRouter()

    def endpoint() -> None:
        """Anybody's."""

    async def accept(socket: WebSocket) -> None:
        await socket.accept()

    rule = Depends(AccessRule("read"))
    if planted == "bare":
        app.add_api_route("/open", endpoint)
    elif planted == "nested":
        inner.add_api_route("/open", endpoint)
    elif planted == "mounted":
        app.mount("/static", FastAPI())
    elif planted == "plain":
        outer.add_route("/open", lambda _request: None)  # type: ignore[arg-type, return-value]
    elif planted == "websocket":
        inner.add_api_websocket_route("/open", accept)
    elif planted == "two rules":
        app.add_api_route("/open", endpoint, dependencies=[rule, Depends(AccessRule("admin"))])
    else:
        app.add_api_route("/open", endpoint, dependencies=[Depends(AccessRule())])
    app.add_api_route("/closed", endpoint, dependencies=[rule])
    outer.include_router(inner, prefix="/inner")
    app.include_router(outer, prefix="/outer")
    with pytest.raises(NoRuleError):
        check_rules(app)


def test_every_route_refuses_a_request_without_a_token(shared: Platform) -> None:
    for method, path in check_rules(application(shared)):
        response = shared.anonymous.request(method, example(path))
        assert response.status_code == 401, f"{method} {path}"
        assert response.headers["www-authenticate"] == "Bearer"


def test_no_other_method_gets_past_the_rule(shared: Platform) -> None:
    """HEAD and OPTIONS, which frameworks like to answer by themselves, tell nobody anything."""
    served = check_rules(application(shared))
    for path in {path for _, path in served}:
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"):
            if (method, path) not in served:
                response = shared.anonymous.request(method, example(path))
                assert response.status_code in (401, 405), f"{method} {path}"
                assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize("scope", SCOPES)
def test_a_token_opens_what_its_scope_says_and_nothing_else(shared: Platform, scope: str) -> None:
    token = new_token()
    with shared.api.database.write_session() as session:
        tokens = TokenRepository(session)
        tokens.add(tokens.ensure_owner("operator"), f"only {scope}", token, [scope])
    headers = {"Authorization": f"Bearer {token}"}
    for (method, path), rule in check_rules(application(shared)).items():
        # An unknown number or an empty body: whoever passes the rule gets no further than that.
        status = shared.anonymous.request(method, example(path), headers=headers).status_code
        if scope in rule.scopes:
            assert status not in (401, 403), f"{method} {path} refuses a token with the scope {scope}"
        else:
            assert status == 403, f"{method} {path} answered {status} to a token with the scope {scope}"


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
        TokenRepository(session).install(owner, "token", new_token(), ["read"])
    assert platform.user.get("/v1/searches").status_code == 401


def test_token_files_are_the_users_alone_and_the_database_holds_no_token(shared: Platform) -> None:
    for name in ("token", "worker-token"):
        path = shared.home / name
        assert path.stat().st_mode & 0o777 == 0o600
        secret = path.read_text().strip().encode()
        assert not any(secret in file.read_bytes() for file in shared.home.glob("nasdet.db*"))


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "127.0.0.1.evil.example", "", "[::1", "evil.example@127.0.0.1", "127.0.0.1/evil.example",
        "127.0.0.1:port", "127.0.0.1:80:80", "127.0.0.1 evil.example", "0.0.0.0",
    ],
)  # fmt: skip
def test_a_foreign_host_header_is_refused(shared: Platform, host: str) -> None:
    response = shared.user.get("/v1/searches", headers={"Host": host})
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8765", "LOCALHOST", "[::1]:8765", "gpu-node.example", "10.0.0.5:1", "[fd00::1]"]
)
def test_this_machine_and_allowed_names_are_answered(start: Callable[..., Platform], host: str) -> None:
    platform = start(allowed_hosts="GPU-node.example, 10.0.0.5,[fd00::1],")
    assert platform.user.get("/v1/searches", headers={"Host": host}).status_code == 200
    assert platform.user.get("/v1/searches", headers={"Host": "other.example"}).status_code == 400


FOREIGN = [
    "https://evil.example", "null", "http://127.0.0.1.evil.example", "http://127.0.0.1:9999", "http://localhost",
    "127.0.0.1", "//127.0.0.1", "file://127.0.0.1", "http://127.0.0.1/", "http://evil@127.0.0.1", "",
]  # fmt: skip


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("origin", FOREIGN)
def test_unsafe_methods_from_another_origin_are_refused(shared: Platform, method: str, origin: str) -> None:
    for path in ("/v1/searches", "/v1/tokens/1", "/no/route"):
        assert shared.user.request(method, path, headers={"Origin": origin}).status_code == 403


def test_a_second_origin_or_host_does_not_hide_the_first(shared: Platform) -> None:
    for headers, status in (
        ([("Origin", "http://127.0.0.1"), ("Origin", "https://evil.example")], 403),
        ([("Host", "127.0.0.1"), ("Host", "evil.example")], 400),
    ):
        assert shared.user.post("/v1/datasets", json={"name": "cells"}, headers=headers).status_code == status


def test_the_same_origin_and_safe_methods_pass(platform: Platform) -> None:
    assert platform.user.get("/v1/searches", headers={"Origin": "https://evil.example"}).status_code == 200
    for origin, host in (("http://127.0.0.1", "127.0.0.1"), ("https://LOCALHOST:8765", "localhost:8765")):
        headers = {"Origin": origin, "Host": host}
        assert platform.user.post("/v1/datasets", json={"name": "cells"}, headers=headers).is_success


def test_every_reply_carries_the_security_headers(platform: Platform) -> None:
    tag = platform.user.get("/v1/searches").headers["etag"]
    answers = {
        200: platform.anonymous.get("/healthz"),
        304: platform.user.get("/v1/searches", headers={"If-None-Match": tag}),
        400: platform.user.get("/v1/searches", headers={"Host": "evil.example"}),
        401: platform.anonymous.get("/v1/searches"),
        403: platform.worker.get("/v1/searches"),
        404: platform.user.get("/no/route"),
        405: platform.user.put("/v1/searches"),
        413: platform.user.post("/v1/searches", content=b"x" * (17 << 20)),
        422: platform.user.post("/v1/searches", json={}),
    }
    platform.api.database.write_session = lambda: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    answers[500] = platform.user.post("/v1/datasets", json={"name": "cells"})
    for status, response in answers.items():
        assert response.status_code == status
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert response.headers["referrer-policy"] == "no-referrer"
        assert response.headers["cache-control"] == "no-cache"
        assert response.headers["x-request-id"]

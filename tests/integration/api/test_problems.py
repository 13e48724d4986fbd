"""What goes wrong is one sentence as problem+json, and never a stack trace."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import text

from services.api.artifacts.local import LocalStore
from tests.support import stores
from tests.support.api_platform import SPECIFICATION, Platform


def deep(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


def test_an_unknown_route_or_method_is_named(shared: Platform) -> None:
    response = shared.user.get("/v1/models")
    assert (response.status_code, response.json()["detail"]) == (404, "this version has no route GET /v1/models")
    assert shared.user.delete("/v1/searches/1").status_code == 405


@pytest.mark.parametrize(
    "path", ["/v1/searches/0", "/v1/searches/-1", "/v1/searches/x", f"/v1/searches/{2**63}", "/v1/jobs/1e3"]
)
def test_an_id_out_of_range_is_422(shared: Platform, path: str) -> None:
    response = shared.user.get(path)
    assert response.status_code == 422
    assert response.json()["errors"]


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "cursor=-1", "cursor=9999999999999999999", "limit=true"])
def test_paging_is_bounded(shared: Platform, query: str) -> None:
    assert shared.user.get(f"/v1/searches?{query}").status_code == 422


def test_no_route_takes_a_key_of_a_query_that_it_does_not_know(shared: Platform) -> None:
    """A misspelled key would otherwise do nothing, and nobody would know."""
    for path, operations in shared.user.get("/v1/openapi.json").json()["paths"].items():
        for method in operations:
            place = path.format(search_id=1, job_id=1, worker_id=1, token_id=1, upload_id=1, name="a", digest="a" * 64)
            response = shared.user.request(method, place, params={"surprise": "1"})
            assert response.status_code == 422, f"{method} {path}"
            assert method == "head" or "'surprise' is no key of this query" in response.json()["detail"], path


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("limits=5", "'limits' is no key of this query; this route takes cursor, limit"),
        ("limit=5&limit=6", "limit is given 2 times in this query; send it once"),
        ("Limit=5", "'Limit' is no key"),
        ("=5", "'' is no key"),
        ("x" * 5000, "x…' is no key"),
    ],
)
def test_what_is_wrong_with_a_query_is_said(shared: Platform, query: str, said: str) -> None:
    response = shared.user.get(f"/v1/searches?{query}")
    assert (response.status_code, response.headers["content-type"]) == (422, "application/problem+json")
    assert said in response.json()["detail"]
    assert len(response.json()["detail"]) < 300


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{",
        b"nonsense",
        b'{"name": 1}',
        b"[" * 100_000,
        b'{"seed": NaN}',
        b'{"a": "\\ud800"}',
        json.dumps(deep(40)).encode(),
        b'{"a": ' + b"9" * 400 + b"}",
        b'{"seed": 1e999}',
    ],
)
def test_a_malformed_body_is_refused_with_a_sentence(shared: Platform, content: bytes) -> None:
    response = shared.user.post("/v1/searches", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code in (400, 422)
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["detail"]


@pytest.mark.parametrize("path", ["/v1/searches", "/no/such/route"])
@pytest.mark.parametrize("token", ["", "Bearer nasdet_nobody", "Basic abc"])
def test_a_strangers_body_is_not_read_to_its_end(shared: Platform, path: str, token: str) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(50):
            yield b" " * (32 << 10)

    headers = {"Authorization": token} if token else {}
    response = shared.anonymous.post(path, content=chunks(), headers=headers)
    assert (response.status_code, response.headers["content-type"]) == (401, "application/problem+json")
    assert shared.user.post(path, content=b" " * (1 << 20)).status_code in (404, 422)  # with a token it is read


def test_a_large_body_is_413_whatever_its_header_says(start: Callable[..., Platform]) -> None:
    platform = start(max_body=2000)

    def chunks() -> Any:
        for _ in range(10):
            yield b" " * 1000

    assert platform.user.post("/v1/searches", content=b" " * 3000).status_code == 413
    assert platform.user.post("/v1/searches", content=chunks()).status_code == 413
    assert platform.user.post("/v1/datasets", json={"name": "cells"}).status_code == 201


def test_an_accident_says_nothing_about_the_inside(platform: Platform) -> None:
    app = platform.anonymous.app  # type: ignore[attr-defined]  # a TestClient
    assert isinstance(app, FastAPI)

    @app.get("/accident")
    def accident() -> None:
        raise RuntimeError("secret detail")

    response = platform.user.get("/accident")
    assert response.status_code == 500
    assert response.json()["type"] == "urn:nasdet:problem:internal"
    assert "secret" not in response.text
    assert "Traceback" not in response.text


class TestFullDisk:
    # A file of SQLite can be limited in its size; the code of Postgres is told by its SQLSTATE (test_session.py).
    @pytest.mark.parametrize("store", ["sqlite"], indirect=True)
    def test_a_full_database_is_507_and_nothing_half_written_counts(self, platform: Platform) -> None:
        platform.user.get("/v1/searches")  # the use of the token is noted while there is room
        engine = platform.api.database.engine
        with engine.connect() as connection:
            pages = connection.execute(text("PRAGMA page_count")).scalar_one()
        from sqlalchemy import event

        def limit(connection: sqlite3.Connection, *_: object) -> None:
            connection.execute(f"PRAGMA max_page_count={pages}")

        event.listen(engine, "checkout", limit)
        big = {**SPECIFICATION, "name": "x" * 190}
        statuses = [platform.user.post("/v1/searches", json=big).status_code for _ in range(12)]
        assert statuses[-1] == 507, statuses
        response = platform.user.post("/v1/searches", json=big)
        assert response.json()["type"] == "urn:nasdet:problem:storage-full"
        assert "make room" in response.json()["detail"]
        listed = platform.user.get("/v1/searches").json()["items"]  # reading goes on
        assert len(listed) == statuses.count(201)
        event.remove(engine, "checkout", limit)

    def test_a_full_artifact_folder_is_507_and_leaves_nothing(
        self, platform: Platform, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(_descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        digest = stores.digest_of("weights")
        with monkeypatch.context() as patch:
            patch.setattr("services.api.artifacts.draft.os.fsync", full)
            response = platform.worker.put(f"/v1/artifacts/{digest}", content=b"weights")
        assert response.status_code == 507
        assert platform.worker.get(f"/v1/artifacts/{digest}").status_code == 404
        store = platform.api.store
        assert isinstance(store, LocalStore)
        assert list(store.drafts.iterdir()) == []
        assert list(store.digests()) == []
        assert platform.worker.put(f"/v1/artifacts/{digest}", content=b"weights").status_code == 201


def test_readiness_notices_a_schema_of_another_version(platform: Platform) -> None:
    ready = {"status": "ready", "checks": {"database": "ok", "schema": "ok"}}
    assert platform.anonymous.get("/readyz").json() == ready
    with platform.api.database.write_session() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    response = platform.anonymous.get("/readyz")
    assert response.status_code == 503
    assert "9999" in response.json()["detail"]
    assert platform.anonymous.get("/healthz").status_code == 200


def test_the_description_bounds_every_integer_and_text(shared: Platform) -> None:
    description = shared.user.get("/v1/openapi.json").json()
    loose: list[str] = []

    def check(schema: Any, place: str) -> None:
        if isinstance(schema, list):
            for index, inner in enumerate(schema):
                check(inner, f"{place}[{index}]")
        if not isinstance(schema, dict):
            return
        if schema.get("type") == "integer" and not {"maximum", "exclusiveMaximum"} & set(schema):
            loose.append(place)
        if schema.get("type") == "string" and not {"maxLength", "pattern", "enum", "const"} & set(schema):
            loose.append(place)
        if schema.get("type") == "array" and "maxItems" not in schema:
            loose.append(place)
        for key, inner in schema.items():
            check(inner, f"{place}.{key}")

    for path, methods in description["paths"].items():
        for method, route in methods.items():
            for parameter in route.get("parameters", []):
                check(parameter["schema"], f"{method} {path} {parameter['name']}")
    sent = ("Request", "Create", "Body")
    for name, schema in description["components"]["schemas"].items():
        if name.endswith(sent):
            check(schema.get("properties", {}), name)
    assert loose == []

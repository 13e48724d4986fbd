"""The API does what its description says: Schemathesis, with a token of each scope, on both stores.

Every operation is reached with a success first (a tour), then with generated requests, right ones and wrong ones; into
half of them go numbers of rows that are there. A server error, a status or a body that is not described fails.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.core.failures import FailureGroup

from services.common.db.repositories import TokenRepository
from services.common.db.repositories.tokens import SCOPES
from services.common.db.session import Database
from services.common.settings import PROTOCOL, PROTOCOL_HEADER
from services.common.tokens import new_token
from tests.support.api_process import ApiProcess, started_api
from tests.support.api_routes import guarded_routes
from tests.support.api_tour import Known, take_tour

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

load_all_checks()


@schemathesis.serializer("application/offset+octet-stream")
def bytes_of_an_archive(_context: object, value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


CHECKED = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
           "response_headers_conformance")  # fmt: skip
CHECKS: list[Any] = [getattr(schemathesis.checks, "CHECKS").get_one(name) for name in CHECKED]  # noqa: B009
EXAMPLES, MANY_EXAMPLES = 4, 100  # of each mode, for each operation and each scope that may call it


@dataclass
class Described:
    """A running API and its own description of itself."""

    process: ApiProcess
    schema: Any
    tokens: dict[str, str]
    known: Known
    visited: set[tuple[str, str]]
    answered: Counter[tuple[str, int]]
    session: requests.Session

    def send(
        self,
        method: str,
        path: str,
        scope: str = "read",
        *,
        place: dict[str, Any] | None = None,
        query: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        body: Any = None,
    ) -> httpx.Response:
        """For the tour: a request that succeeds, and whose answer is as described."""
        parts: dict[str, Any] = {"path_parameters": place or {}, "query": query or {}, "headers": headers or {}}
        if body is not None:
            kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
            parts |= {"body": body, "media_type": kind}
        case = self.schema[path][method].Case(**parts)
        answer = self.call(case, scope)
        assert 200 <= answer.status_code < 300, f"{method} {path}: {answer.status_code} {answer.text}"
        case.validate_response(answer, checks=CHECKS)
        self.visited.add((method, path))
        return httpx.Response(answer.status_code, content=answer.content)

    def call(self, case: Case[Any], scope: str, *, speaks: bool = True) -> Any:
        """`speaks`: a worker says which protocol it speaks, whatever was generated."""
        headers = {"Authorization": f"Bearer {self.tokens[scope]}"}
        if scope == "worker" and speaks:
            headers[PROTOCOL_HEADER] = str(PROTOCOL)
        return case.call(base_url=self.process.url, headers=headers, session=self.session, timeout=30)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def described(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Described]:
    home: Path = tmp_path_factory.mktemp("described") / "home"
    (home / "datasets").mkdir(parents=True)
    (home / "datasets" / "cells.json").write_text('{"path": "/nowhere"}')
    url = f"sqlite:///{home / 'nasdet.db'}"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_server").create()
    with started_api(home, database_url=url, log_level="info", lease_seconds=600) as process:
        database = Database(url)
        tokens = {scope: new_token() for scope in SCOPES}
        with database.write_session() as session:
            for scope, token in tokens.items():
                repository = TokenRepository(session)
                repository.add(repository.ensure_owner("operator"), f"only-{scope}", token, [scope])
        with process.client(tokens["read"]) as client:
            schema: Any = schemathesis.openapi.from_dict(client.get("/v1/openapi.json").json())
        known, visited = Known(), set[tuple[str, str]]()
        with requests.Session() as session_of_requests:
            session_of_requests.trust_env = False
            found = Described(process, schema, tokens, known, visited, Counter(), session_of_requests)
            found.known = take_tour(found.send, database)
            yield found
        database.close()


def operations(described: Described) -> Iterator[Any]:
    for result in described.schema.get_all_operations():
        yield result.ok()


def test_every_operation_is_reached_with_a_success(described: Described) -> None:
    every = {(operation.method.upper(), operation.path) for operation in operations(described)}
    assert described.visited == every
    assert {key for key in guarded_routes() if key[0] != "HEAD"} <= every


@pytest.mark.timeout(600)
def test_no_request_is_answered_otherwise_than_described(described: Described) -> None:
    explore(described, EXAMPLES)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_no_request_is_answered_otherwise_than_described_at_length(described: Described) -> None:
    explore(described, MANY_EXAMPLES)


def explore(described: Described, examples: int) -> None:
    rules = guarded_routes()
    failures: list[BaseException] = []
    for operation in operations(described):
        rule = rules.get((operation.method.upper(), operation.path))
        passes = [scope for scope in SCOPES if rule is None or scope in rule.scopes]
        for mode in GenerationMode:
            try:
                ask(described, operation, mode, passes, examples)
            except (Exception, FailureGroup) as error:  # all of them are told at once
                error.add_note(f"{operation.label}, {mode.value} requests")
                failures.append(error)
    if failures:
        raise BaseExceptionGroup("answers that are not as described", failures)


def ask(described: Described, operation: Any, mode: GenerationMode, passes: list[str], examples: int) -> None:
    """Each request with a token that may, and with one that may not."""
    others = [scope for scope in SCOPES if scope not in passes]

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), draw=st.randoms(use_true_random=False))
    def run(case: Case[Any], draw: random.Random) -> None:
        put_known_rows(described.known, case, draw)
        for scopes in (passes, others):
            if scopes:
                answer = described.call(case, draw.choice(scopes), speaks=draw.random() < 0.9)
                case.validate_response(answer, checks=CHECKS)
                described.answered[operation.label, answer.status_code] += 1

    try:
        run()
    except Unsatisfiable:
        if mode is GenerationMode.POSITIVE:
            raise  # where nothing is sent, nothing of it can be wrong; but a right request there always is


def put_known_rows(known: Known, case: Case[Any], draw: random.Random) -> None:
    """In three of four requests. Never a token's number that was generated: it may be that of the one we use."""
    place = case.path_parameters or {}
    for name in place:
        if name in known.place and (name == "token_id" or draw.random() < 0.75):
            place[name] = draw.choice(known.place[name])
    body = case.body
    if isinstance(body, dict):
        for name in ("attempt", "trial", "digest"):
            if name in body and draw.random() < 0.75:
                body[name] = draw.choice(known.place[name])
        if "worker" in body and draw.random() < 0.75:
            body["worker"] = draw.choice(known.place["worker_id"])

"""Whatever stands in the place of a value, the answer is a refusal and never an error of the server.

A tour's requests are sent again, each with one of its values replaced: by numbers that no column holds, by text that
Postgres cannot store, by values of another kind.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.api_platform import Platform
from tests.support.api_tour import take_tour

NUMBERS: list[Any] = [2**31, 2**63 - 1, 2**63, -1, 1e308]
TEXTS: list[Any] = ["a\0b", "\ud800", "\u00fc" * 300, "'; --%s%%(x)s", 2**63]
OTHERS: list[Any] = [None, "a\0b", [{}]]
MOST_SEARCH_VALUES = 4  # a specification has many values and one parser, which has tests of its own


class Recorded:
    """Sends what the tour sends, and keeps it."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.requests: list[dict[str, Any]] = []

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
    ) -> httpx.Response:
        request = {"place": place or {}, "query": query or {}, "headers": headers or {}, "body": body}
        answer = self.send(method, path, scope, request)
        assert answer.is_success, answer.text
        self.requests.append({"method": method, "path": path, "scope": scope, **request})
        return answer

    def send(self, method: str, path: str, scope: str, request: dict[str, Any]) -> httpx.Response:
        client = self.platform.worker if scope == "worker" else self.platform.user
        for name, value in request["place"].items():
            path = path.replace(f"{{{name}}}", escaped(value))
        body, headers = request["body"], dict(request["headers"])
        if body is not None and not isinstance(body, bytes):
            # The standard library's JSON carries lone surrogates and numbers of any size.
            body, headers["Content-Type"] = json.dumps(body), "application/json"
        query = "&".join(f"{name}={escaped(value)}" for name, value in request["query"].items())
        return client.request(method, f"{path}?{query}", content=body, headers=headers)


def escaped(value: Any) -> str:
    return "".join(f"%{byte:02X}" for byte in str(value).encode(errors="surrogatepass"))


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in a value something stands that is no container."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if inner is None:
        yield path
        return
    for key, found in inner:
        yield from leaves(found, (*path, key))


def variants(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if request["method"] == "GET":  # the tour asks for first pages; what a route does not know is ignored
        for name in ("cursor", "after", "limit", "search", "attempt", "metric"):
            for hostile in [*NUMBERS, 10**18 - 1, "a\0b"]:
                yield {**request, "query": {**request["query"], name: hostile}}
    for part in ("place", "query", "body"):
        if isinstance(request[part], bytes) or request[part] is None:
            continue
        places = [path for path in leaves(request[part]) if path]
        if request["path"] == "/v1/searches":
            places = places[:MOST_SEARCH_VALUES]
        for path in places:
            for hostile in instead_of(value_at(request[part], path)):
                changed = copy.deepcopy(request)
                value_at(changed[part], path[:-1])[path[-1]] = hostile
                yield changed


def value_at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def instead_of(value: Any) -> list[Any]:
    """What breaks where such a value is expected."""
    if isinstance(value, str):
        return TEXTS
    return NUMBERS if isinstance(value, (int, float)) and not isinstance(value, bool) else OTHERS


@pytest.mark.integration
@pytest.mark.parametrize("store", ["postgres"], indirect=True)  # SQLite stores anything
def test_no_value_is_an_error_of_the_server(platform: Platform) -> None:
    recorded = Recorded(platform)
    take_tour(recorded, platform.api.database)
    sent = 0
    seen: set[str] = set()
    for request in recorded.requests:
        for changed in variants(request):
            what = f"{changed['method']} {changed['path']} {[changed[part] for part in ('place', 'query', 'body')]!r}"
            if what in seen:
                continue  # the tour went there twice
            seen.add(what)
            answer = recorded.send(changed["method"], changed["path"], changed["scope"], changed)
            assert answer.status_code < 500, f"{what}: {answer.text}"
            sent += 1
    assert sent > 300

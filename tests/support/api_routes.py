"""The routes of the application and who may use them, found by walking them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from services.api.access import AccessRule
from services.api.main import create_app
from services.common.db.repositories.tokens import SCOPES
from services.common.settings import ApiSettings

WITHOUT_TOKEN = frozenset({"/healthz", "/readyz"})


class NoRuleError(AssertionError):
    """A route that nobody guards."""


def access_rules(dependant: Dependant) -> Iterator[AccessRule]:
    for inner in dependant.dependencies:
        if isinstance(inner.call, AccessRule):
            yield inner.call
        yield from access_rules(inner)


def walk(routes: Sequence[BaseRoute]) -> Iterator[APIRoute]:
    """Every route, those of routers in routers too (this FastAPI keeps them). What has no dependencies is refused.

    A mounted application, a websocket or a plain function of Starlette's cannot have an access rule.
    """
    for route in routes:
        included = getattr(route, "original_router", None)
        if isinstance(included, APIRouter):
            yield from walk(included.routes)
        elif type(route) is APIRoute:
            yield route
        else:
            raise NoRuleError(f"{type(route).__name__} {getattr(route, 'path', route)} cannot have an access rule")


def check_rules(app: FastAPI) -> dict[tuple[str, str], AccessRule]:
    """(method, path) and the one rule of each route but the health checks; raises NoRuleError."""
    found: dict[tuple[str, str], AccessRule] = {}
    for route in walk(app.router.routes):
        own = list(access_rules(route.dependant))
        if route.path in WITHOUT_TOKEN:
            assert own == []
            assert route.methods == {"GET"}
            continue
        if len(own) != 1:
            raise NoRuleError(f"{route.methods} {route.path} has {len(own)} access rules")
        if not own[0].scopes or not own[0].scopes <= set(SCOPES):
            raise NoRuleError(f"{route.methods} {route.path} has a rule with the scopes {own[0].scopes}")
        for method in route.methods or ():
            assert (method, route.path) not in found, "two routes of one path: the second is never reached"
            found[method, route.path] = own[0]
    return found


def guarded_routes() -> dict[tuple[str, str], AccessRule]:
    """Those of the application as it is served."""
    with TemporaryDirectory() as home:
        app = create_app(ApiSettings(home=Path(home)))
        app.state.api.database.close()
        return check_rules(app)

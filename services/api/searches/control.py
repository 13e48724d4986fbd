"""Steering searches: cancel, pause, resume, retry, clone, priority."""

from __future__ import annotations

from typing import Any

from services.api.access import Caller
from services.api.audit.change import change
from services.api.searches import schemas
from services.api.searches.service import own, read, submit
from services.api.state import ApiState
from services.common.db.models import DatasetVersion, Search
from services.common.db.repositories import SearchRepository, TrialRepository
from services.common.db.repositories.jobs import PRIORITIES_OF_ONE_SEARCH
from services.common.db.repositories.search_retry import SearchRetry
from services.common.errors import ConflictError
from services.common.specification import parse_specification, resolve_stored

SECONDS_PER_HOUR = 3600.0


def cancel(api: ApiState, caller: Caller, search_id: int) -> schemas.SearchRead:
    with change(api, caller, "search.cancel", f"search {search_id}") as made:
        session = made.session
        own(session, caller, search_id)
        reply = read(session, api.jobs(session).cancel_search(search_id))
        made.nothing_unless_told()
    api.collector.wake()
    return reply


def pause(api: ApiState, caller: Caller, search_id: int) -> schemas.SearchRead:
    with change(api, caller, "search.pause", f"search {search_id}") as made:
        session = made.session
        own(session, caller, search_id)
        search = SearchRepository(session).pause(search_id)
        made.nothing_unless_told()
        return read(session, search)


def resume(api: ApiState, caller: Caller, search_id: int) -> schemas.SearchRead:
    with change(api, caller, "search.resume", f"search {search_id}") as made:
        session = made.session
        own(session, caller, search_id)
        search = SearchRepository(session).resume(search_id)
        made.nothing_unless_told()
        return read(session, search)


def set_priority(api: ApiState, caller: Caller, search_id: int, priority: int) -> schemas.SearchRead:
    with change(api, caller, "search.priority", f"search {search_id}") as made:
        session = made.session
        made.data = {"priority": priority}
        own(session, caller, search_id)
        search = SearchRepository(session).set_priority(search_id, priority, PRIORITIES_OF_ONE_SEARCH)
        made.nothing_unless_told()
        return read(session, search)


def retry(api: ApiState, caller: Caller, search_id: int, body: schemas.SearchRetry) -> schemas.SearchRead:
    """Refused where the budget is spent and no larger one is given: it would end again at once."""
    with change(api, caller, "search.retry", f"search {search_id}") as made:
        session = made.session
        made.data = body.model_dump(exclude_none=True)
        search = own(session, caller, search_id)
        budget = {**search.spec.get("budget", {}), **body.model_dump(exclude_none=True)}
        spec = {**search.spec, "budget": budget} if budget else search.spec
        specification = parse_specification(spec)
        used = api.jobs(session).device_seconds(search_id) / SECONDS_PER_HOUR
        if specification.gpu_hours is not None and used >= specification.gpu_hours:
            raise ConflictError(
                f"search {search_id} has used {used:.3f} of its {specification.gpu_hours:g} device hours; "
                "give more with gpu_hours"
            )
        hours = specification.wall_hours
        retried = SearchRetry(session).retry(
            search_id,
            told=_told(search, session.get(DatasetVersion, search.dataset_version_id or 0), TrialRepository(session)),
            spec=specification.to_json(),
            wall_seconds=None if hours is None else hours * SECONDS_PER_HOUR,
        )
        return read(session, retried)


def _told(search: Search, version: DatasetVersion | None, trials: TrialRepository) -> int:
    """How many trials the algorithm had been told of when it proposed the last one."""
    last = trials.last_number(search.id)
    if last is None or version is None:
        return 0
    return resolve_stored(search.spec, len(version.class_names)).algorithm().visible(last)


def clone(
    api: ApiState, caller: Caller, search_id: int, body: schemas.SearchClone, idempotency_key: str | None
) -> tuple[schemas.SearchRead, bool]:
    """A new search with this one's specification; each section given in `changes` replaces the old one."""
    with api.database.read_session() as session:
        search = own(session, caller, search_id)
        spec: dict[str, Any] = {**search.spec, **body.changes}
        priority = search.priority if body.priority is None else body.priority
    return submit(
        api,
        caller,
        {section: value for section, value in spec.items() if value is not None},
        priority=priority,
        idempotency_key=idempotency_key,
        cloned_from=search_id,
    )

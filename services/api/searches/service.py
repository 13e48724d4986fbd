"""Rules of searches: what is accepted was checked, and is submitted once per idempotency key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from services.api.access import Caller
from services.api.audit.change import change
from services.api.conditional import Tagged, is_known
from services.api.datasets.service import ensure
from services.api.fields import Page, cursor_after
from services.api.searches import schemas
from services.api.state import ApiState
from services.common.db.models import Event, Measurement, Search, Trial
from services.common.db.repositories import (
    EventRepository,
    MeasurementRepository,
    SearchRepository,
    TrialRepository,
)
from services.common.db.repositories.owner import payload_digest
from services.common.db.repositories.searches import NewSearch, revision_of, revisions_of_page
from services.common.db.states import WorkState
from services.common.errors import NotFoundError
from services.common.ranking import ScoredTrial, front_trials
from services.common.specification import FieldError, SpecificationError, check_at_submit, parse_specification
from services.common.status import shown_state
from services.common.summary import build_summary

SECONDS_PER_HOUR = 3600.0

Body = TypeVar("Body")


def submit(
    api: ApiState,
    caller: Caller,
    body: dict[str, Any],
    *,
    priority: int = 0,
    idempotency_key: str | None = None,
    cloned_from: int | None = None,
) -> tuple[schemas.SearchRead, bool]:
    """Check a specification and queue the search; False when this key submitted it before."""
    specification = parse_specification(body)
    check_at_submit(specification)
    with change(api, caller, "search.submit" if cloned_from is None else "search.clone") as made:
        session = made.session
        try:
            dataset, _ = ensure(api, session, caller.owner, specification.dataset)
        except NotFoundError as error:
            raise SpecificationError([FieldError("dataset", str(error))]) from error
        hours = specification.wall_hours
        new = NewSearch(
            name=specification.name,
            spec=specification.to_json(),
            seed=specification.seed,
            dataset_id=dataset.id,
            request_digest=payload_digest({"body": body, "priority": priority} if priority else body),
            priority=priority,
            idempotency_key=idempotency_key,
            wall_seconds=None if hours is None else hours * SECONDS_PER_HOUR,
            cloned_from=cloned_from,
        )
        search, created = SearchRepository(session).create(caller.owner, new)
        made.target, made.data = f"search {search.id}", {"name": search.name, "priority": priority}
        if cloned_from is not None:
            made.data["cloned_from"] = cloned_from
        if not created:
            made.nothing_changed()
        return read(session, search), created


def own(session: Session, caller: Caller, search_id: int) -> Search:
    search = SearchRepository(session).get(search_id)
    if search.project_id != caller.project_id:
        raise NotFoundError(f"there is no search {search_id}")
    return search


def _tag(rows: Sequence[Any], search_id: int) -> str:
    """The search's revision: every change of it, its trials, front and events raises it."""
    if not rows:
        raise NotFoundError(f"there is no search {search_id}")
    return f'"search-{search_id}-{rows[0][0]}"'


def _tagged(
    api: ApiState, caller: Caller, search_id: int, known: str | None, make: Callable[[Session], Body]
) -> Tagged[Body]:
    """What `make` reads of a search, with its tag; nothing is read where the caller knows the tag."""
    revision = revision_of(caller.project_id, search_id)
    if known is not None:
        tag = _tag(api.database.peek(revision), search_id)
        if is_known(known, tag):
            return Tagged(tag)
    with api.database.read_session() as session:  # one snapshot: the tag is that of this body
        return Tagged(_tag(session.execute(*revision).all(), search_id), make(session))


def get(api: ApiState, caller: Caller, search_id: int, known: str | None) -> Tagged[schemas.SearchRead]:
    return _tagged(
        api, caller, search_id, known, lambda session: read(session, SearchRepository(session).get(search_id))
    )


def page(
    api: ApiState, caller: Caller, after: int, limit: int, known: str | None
) -> Tagged[Page[schemas.SearchListItem]]:
    revisions = revisions_of_page(caller.project_id, after, limit)
    if known is not None:
        tag = _page_tag(api.database.peek(revisions))
        if is_known(known, tag):
            return Tagged(tag)
    with api.database.read_session() as session:
        tag = _page_tag(session.execute(*revisions).all())
        rows = SearchRepository(session).page(caller.project_id, after=after, limit=limit)
        items = [schemas.SearchListItem(**_columns(search, dataset)) for search, dataset in rows]
    return Tagged(tag, Page(items=items, next_cursor=cursor_after(items[-1].id if items else None, len(items), limit)))


def _page_tag(revisions: Sequence[Any]) -> str:
    return f'"searches-{payload_digest([list(row) for row in revisions])[:16]}"'


def trials(
    api: ApiState, caller: Caller, search_id: int, after: int, limit: int, known: str | None
) -> Tagged[Page[schemas.TrialRead]]:
    def make(session: Session) -> Page[schemas.TrialRead]:
        rows = TrialRepository(session).of_search(search_id, after=after, limit=limit)
        measured = MeasurementRepository(session).of_trials([trial.id for trial in rows])
        items = [_trial(trial, measured[trial.id]) for trial in rows]
        return Page(items=items, next_cursor=cursor_after(items[-1].number if items else None, len(items), limit))

    return _tagged(api, caller, search_id, known, make)


def front(api: ApiState, caller: Caller, search_id: int, known: str | None) -> Tagged[schemas.FrontRead]:
    """Highest AP against fewest MACs."""

    def make(session: Session) -> schemas.FrontRead:
        return schemas.FrontRead(items=[_point(scored) for scored in front_trials(session, search_id)])

    return _tagged(api, caller, search_id, known, make)


def _point(scored: ScoredTrial) -> dict[str, Any]:
    return {
        "trial": scored.trial.number,
        "genotype": scored.trial.genotype,
        "architecture_id": scored.trial.architecture_id,
        "macs": scored.trial.macs,
        "params": scored.trial.params,
        "box_map": scored.box_map,
        "standard_error": scored.measurement.standard_error,
        "split": scored.measurement.split,
    }


def measurements(
    api: ApiState, caller: Caller, search_id: int, *, metric: str | None, after: int, limit: int
) -> list[schemas.MeasurementRead]:
    with api.database.read_session() as session:
        own(session, caller, search_id)
        rows = MeasurementRepository(session).of_search(search_id, metric=metric, after=after, limit=limit)
        return [_measurement(row) for row in rows]


def events(
    api: ApiState, caller: Caller, search_id: int, after: int, limit: int, known: str | None
) -> Tagged[Page[schemas.EventRead]]:
    def make(session: Session) -> Page[schemas.EventRead]:
        rows = EventRepository(session).of_search(search_id, after=after, limit=limit)
        items = [_event(row) for row in rows]
        return Page(items=items, next_cursor=cursor_after(items[-1].id if items else None, len(items), limit))

    return _tagged(api, caller, search_id, known, make)


def _event(event: Event) -> schemas.EventRead:
    return schemas.EventRead(
        id=event.id,
        kind=event.kind,
        created_at=event.created_at,
        trial=event.trial_id,
        job=event.job_id,
        attempt=event.attempt,
        data=event.data,
    )


def read(session: Session, search: Search) -> schemas.SearchRead:
    return schemas.SearchRead(spec=search.spec, **build_summary(session, search))


def _columns(search: Search, dataset: str) -> dict[str, Any]:
    return {
        "id": search.id,
        "name": search.name,
        "state": shown_state(search),
        "stage": search.stage.value,
        "reason": search.reason,
        "dataset": dataset,
        "priority": search.priority,
        "deadline_at": search.deadline_at,
        "seed": search.seed,
        "created_at": search.created_at,
        "finished_at": search.finished_at,
        "revision": search.revision,
    }


def _trial(trial: Trial, measured: list[Measurement]) -> schemas.TrialRead:
    return schemas.TrialRead(
        id=trial.id,
        number=trial.number,
        genotype=trial.genotype,
        architecture_id=trial.architecture_id,
        origin=trial.origin,
        parents=trial.parents,
        generation=trial.generation,
        macs=trial.macs,
        params=trial.params,
        counted=trial.counted,
        state=trial.state.value,
        reason=trial.reason or _waits_for(trial),
        value=trial.value,
        seconds=trial.seconds,
        job=trial.job_id,
        crashes=trial.crashes,
        finished_at=trial.finished_at,
        measurements=[_measurement(row) for row in measured],
    )


def _waits_for(trial: Trial) -> str | None:
    """Why an open trial has no result yet."""
    if trial.state.ended:
        return None
    if trial.job_id is None:
        return "waits for the searcher to put it into a job"
    what = "is being scored by" if trial.state is WorkState.RUNNING else "waits in"
    return f"{what} job {trial.job_id}"


def _measurement(row: Measurement) -> schemas.MeasurementRead:
    return schemas.MeasurementRead(
        id=row.id,
        trial=row.trial_id,
        finalist=row.finalist_id,
        supernet=row.supernet_id,
        architecture_id=row.architecture_id,
        metric=row.metric,
        split=row.split,
        value=row.value,
        standard_error=row.standard_error,
        protocol_hash=row.protocol_hash,
        fidelity=row.fidelity,
        device_class=row.device_class,
        dataset_version=row.dataset_version_id,
        supernet_digest=row.supernet_digest,
        job=row.job_id,
        attempt=row.attempt,
    )

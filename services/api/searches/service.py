"""Rules of searches: what is accepted was checked, and is submitted once per idempotency key."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from services.api.access import Caller
from services.api.datasets.service import ensure
from services.api.searches import schemas
from services.api.state import ApiState
from services.common.db.models import Measurement, Search, Trial
from services.common.db.repositories import (
    DatasetRepository,
    EventRepository,
    MeasurementRepository,
    SearchRepository,
    TrialRepository,
)
from services.common.db.repositories.owner import payload_digest
from services.common.db.repositories.searches import NewSearch
from services.common.errors import NotFoundError
from services.common.ranking import pareto_front, ranked_trials
from services.common.specification import FieldError, SpecificationError, check_at_submit, parse_specification
from services.common.summary import build_summary


def submit(
    api: ApiState, caller: Caller, body: dict[str, Any], idempotency_key: str | None
) -> tuple[schemas.SearchRead, bool]:
    """Check a specification and queue the search; False when this key submitted it before."""
    specification = parse_specification(body)
    check_at_submit(specification)
    with api.database.write_session() as session:
        try:
            dataset, _ = ensure(api, session, caller.owner, specification.dataset)
        except NotFoundError as error:
            raise SpecificationError([FieldError("dataset", str(error))]) from error
        new = NewSearch(
            name=specification.name,
            spec=specification.to_json(),
            seed=specification.seed,
            dataset_id=dataset.id,
            request_digest=payload_digest(body),
            idempotency_key=idempotency_key,
        )
        search, created = SearchRepository(session).create(caller.owner, new)
        return read(session, search), created


def own(session: Session, caller: Caller, search_id: int) -> Search:
    search = SearchRepository(session).get(search_id)
    if search.project_id != caller.project_id:
        raise NotFoundError(f"there is no search {search_id}")
    return search


def etag(search: Search) -> str:
    return f'"search-{search.id}-{search.revision}"'


def get(api: ApiState, caller: Caller, search_id: int, known: str | None) -> tuple[schemas.SearchRead | None, str]:
    """The search and its tag; no search when the caller knows this revision. One indexed row decides."""
    with api.database.read_session() as session:
        search = own(session, caller, search_id)
        tag = etag(search)
        if known is not None and tag in (part.strip().removeprefix("W/") for part in known.split(",")):
            return None, tag
        return read(session, search), tag


def page(api: ApiState, caller: Caller, after: int, limit: int) -> list[schemas.SearchListItem]:
    with api.database.read_session() as session:
        rows = SearchRepository(session).page(caller.project_id, after=after, limit=limit)
        return [schemas.SearchListItem(**_columns(session, search)) for search in rows]


def cancel(api: ApiState, caller: Caller, search_id: int) -> schemas.SearchRead:
    with api.database.write_session() as session:
        own(session, caller, search_id)
        reply = read(session, api.jobs(session).cancel_search(search_id))
    api.collector.wake()
    return reply


def trials(api: ApiState, caller: Caller, search_id: int, after: int, limit: int) -> list[schemas.TrialRead]:
    with api.database.read_session() as session:
        own(session, caller, search_id)
        rows = TrialRepository(session).of_search(search_id, after=after, limit=limit)
        measured = MeasurementRepository(session).of_trials([trial.id for trial in rows])
        return [_trial(trial, measured[trial.id]) for trial in rows]


def front(api: ApiState, caller: Caller, search_id: int) -> schemas.FrontRead:
    """Highest AP against fewest MACs."""
    with api.database.read_session() as session:
        own(session, caller, search_id)
        return schemas.FrontRead(
            items=[
                {
                    "trial": scored.trial.number,
                    "genotype": scored.trial.genotype,
                    "architecture_id": scored.trial.architecture_id,
                    "macs": scored.trial.macs,
                    "params": scored.trial.params,
                    "box_map": scored.box_map,
                    "standard_error": scored.measurement.standard_error,
                    "split": scored.measurement.split,
                }
                for scored in pareto_front(ranked_trials(session, search_id))
            ]
        )


def measurements(
    api: ApiState, caller: Caller, search_id: int, *, metric: str | None, after: int, limit: int
) -> list[schemas.MeasurementRead]:
    with api.database.read_session() as session:
        own(session, caller, search_id)
        rows = MeasurementRepository(session).of_search(search_id, metric=metric, after=after, limit=limit)
        return [_measurement(row) for row in rows]


def events(api: ApiState, caller: Caller, search_id: int, after: int, limit: int) -> list[schemas.EventRead]:
    with api.database.read_session() as session:
        own(session, caller, search_id)
        return [
            schemas.EventRead(
                id=event.id,
                kind=event.kind,
                created_at=event.created_at,
                trial=event.trial_id,
                job=event.job_id,
                attempt=event.attempt,
                data=event.data,
            )
            for event in EventRepository(session).of_search(search_id, after=after, limit=limit)
        ]


def read(session: Session, search: Search) -> schemas.SearchRead:
    return schemas.SearchRead(spec=search.spec, **build_summary(session, search))


def _columns(session: Session, search: Search) -> dict[str, Any]:
    return {
        "id": search.id,
        "name": search.name,
        "state": search.state.value,
        "stage": search.stage.value,
        "reason": search.reason,
        "dataset": DatasetRepository(session).get(search.dataset_id).name,
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
        reason=trial.reason,
        value=trial.value,
        seconds=trial.seconds,
        job=trial.job_id,
        crashes=trial.crashes,
        finished_at=trial.finished_at,
        measurements=[_measurement(row) for row in measured],
    )


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

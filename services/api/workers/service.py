"""Rules of workers: one version of the protocol, one incarnation of a name, and what people tell them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from services.api.access import Caller
from services.api.audit.change import change
from services.api.state import ApiState
from services.api.workers.protocol import check_protocol
from services.api.workers.schemas import Registration, WorkerCreate, WorkerRead
from services.common.db.models import Worker
from services.common.db.repositories import WorkerRepository
from services.common.db.repositories.workers import WorkerFacts
from services.common.db.states import WorkerMode
from services.common.settings import PROTOCOL

ACTIONS = {
    WorkerMode.ACTIVE: "resume",
    WorkerMode.PAUSED: "pause",
    WorkerMode.DRAINING: "drain",
    WorkerMode.LEAVING: "drain_now",
}


def register(api: ApiState, caller: Caller, body: WorkerCreate) -> Registration:
    check_protocol(body.protocol)
    facts = WorkerFacts(
        name=body.name,
        incarnation=body.incarnation,
        device_class=body.device_class,
        device_name=body.device_name,
        facts=body.facts,
    )
    with api.database.write_session() as session:
        worker = WorkerRepository(session).register(caller.owner, facts, api.jobs(session))
        heartbeat_seconds = api.pace.seconds(session)
    return Registration(
        id=worker.id,
        lease_seconds=api.settings.lease_seconds,
        heartbeat_seconds=heartbeat_seconds,
        protocol=PROTOCOL,
    )


def goodbye(api: ApiState, caller: Caller, worker_id: int, incarnation: str) -> None:
    with api.database.write_session() as session:
        WorkerRepository(session).goodbye(worker_id, caller.project_id, incarnation, api.jobs(session))


def set_mode(api: ApiState, caller: Caller, worker_id: int, mode: WorkerMode) -> WorkerRead:
    with change(api, caller, f"worker.{ACTIONS[mode]}", f"worker {worker_id}") as made:
        worker = WorkerRepository(made.session).set_mode(worker_id, caller.project_id, mode)
        made.data = {"name": worker.name}
        made.nothing_unless_told()
        return _read(api, made.session, [worker])[0]


def page(api: ApiState, caller: Caller, after: int, limit: int) -> list[WorkerRead]:
    with api.database.read_session() as session:
        workers = WorkerRepository(session).page(caller.project_id, after=after, limit=limit)
        return _read(api, session, workers)


def _read(api: ApiState, session: Session, workers: Sequence[Worker]) -> list[WorkerRead]:
    if not workers:
        return []
    held = WorkerRepository(session).held_jobs([worker.id for worker in workers])
    now = api.seconds_since(session, 0.0)
    return [
        WorkerRead(
            id=worker.id,
            name=worker.name,
            incarnation=worker.incarnation,
            device_class=worker.device_class,
            device_name=worker.device_name,
            facts=worker.facts,
            resident=worker.resident,
            mode=worker.mode.value,
            jobs=held[worker.id],
            last_seen_at=worker.last_seen_at,
            seconds_since_seen=max(0.0, now - worker.last_seen_at),
        )
        for worker in workers
    ]

"""Rules of workers: one version of the protocol, one incarnation of a name."""

from __future__ import annotations

from services.api.access import Caller
from services.api.state import ApiState
from services.api.workers.schemas import Registration, WorkerCreate, WorkerRead
from services.common.db.repositories import WorkerRepository
from services.common.db.repositories.workers import WorkerFacts
from services.common.errors import ProtocolMismatchError
from services.common.settings import PROTOCOL


def check_protocol(protocol: int) -> None:
    if protocol != PROTOCOL:
        raise ProtocolMismatchError(
            f"this API speaks version {PROTOCOL} of the worker protocol, but the worker speaks version {protocol}; "
            "run API and worker of the same nasdet version"
        )


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
    return Registration(
        id=worker.id,
        lease_seconds=api.settings.lease_seconds,
        heartbeat_seconds=api.settings.heartbeat_seconds,
        protocol=PROTOCOL,
    )


def page(api: ApiState, caller: Caller, after: int, limit: int) -> list[WorkerRead]:
    with api.database.read_session() as session:
        return [
            WorkerRead(
                id=worker.id,
                name=worker.name,
                incarnation=worker.incarnation,
                device_class=worker.device_class,
                device_name=worker.device_name,
                facts=worker.facts,
                resident=worker.resident,
                last_seen_at=worker.last_seen_at,
                seconds_since_seen=max(0.0, api.seconds_since(session, worker.last_seen_at)),
            )
            for worker in WorkerRepository(session).page(caller.project_id, after=after, limit=limit)
        ]

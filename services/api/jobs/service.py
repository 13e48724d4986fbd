"""Rules of jobs: a job is its project's; everything else is the store's."""

from __future__ import annotations

from sqlalchemy.orm import Session

from services.api.access import Caller
from services.api.jobs import schemas
from services.api.state import ApiState
from services.api.workers.protocol import check_protocol
from services.common.db.models import Job, JobAttempt
from services.common.db.repositories import JobRepository, TrialRepository, WorkerRepository
from services.common.db.states import ReleaseKind, WorkerMode, WorkState
from services.common.errors import ConflictError, NotFoundError
from services.common.status import job_status


def claim(api: ApiState, caller: Caller, body: schemas.ClaimRequest) -> schemas.ClaimReply:
    check_protocol(body.protocol)
    with api.database.write_session() as session:
        worker = WorkerRepository(session).present(body.worker, caller.project_id, body.incarnation, body.resident)
        if worker.device_class != body.device_class:
            raise ConflictError(
                f"worker '{worker.name}' registered with device class '{worker.device_class}', but asks for "
                f"'{body.device_class}'; register again"
            )
        jobs = api.jobs(session)
        if worker.mode is not WorkerMode.ACTIVE:
            jobs.release_unacknowledged(worker.id)
            return schemas.ClaimReply(job=None, directive="hold" if worker.mode is WorkerMode.PAUSED else "end")
        job = jobs.claim(worker.id, body.device_class, body.resident)
        return schemas.ClaimReply(job=None if job is None else _claimed(api, session, job), directive="work")


def _claimed(api: ApiState, session: Session, job: Job) -> schemas.ClaimedJob:
    return schemas.ClaimedJob(
        id=job.id,
        kind=job.kind.value,
        attempt=job.attempt,
        payload=job.payload,
        trials=[
            schemas.ClaimedTrial(id=trial.id, number=trial.number, genotype=trial.genotype)
            for trial in TrialRepository(session).open_of_job(job.id)
        ],
        checkpoint=job.checkpoint,
        checkpoint_step=job.checkpoint_step,
        lease_seconds=api.settings.lease_seconds,
        heartbeat_seconds=api.pace.seconds(session),
    )


def _own(jobs: JobRepository, caller: Caller, job_id: int) -> Job:
    job = jobs.get(job_id)
    if job.project_id != caller.project_id:
        raise NotFoundError(f"there is no job {job_id}")
    return job


def heartbeat(api: ApiState, caller: Caller, job_id: int, body: schemas.HeartbeatRequest) -> schemas.HeartbeatReply:
    with api.database.write_session() as session:
        jobs = api.jobs(session)
        job = _own(jobs, caller, job_id)
        reply = jobs.heartbeat(job_id, body.attempt, body.progress, body.counter)
        if body.log is not None:
            jobs.write_log(job_id, body.attempt, body.log, limit=api.settings.log_tail)
        leaving = False
        if job.worker_id is not None:
            workers = WorkerRepository(session)
            workers.touch(job.worker_id)
            leaving = workers.mode(job.worker_id) is WorkerMode.LEAVING
        return schemas.HeartbeatReply(
            cancel=reply.cancel,
            release=leaving,
            lease_seconds=reply.lease_seconds,
            heartbeat_seconds=api.pace.seconds(session),
        )


def land_result(api: ApiState, caller: Caller, job_id: int, body: schemas.ResultRequest) -> schemas.ResultReply:
    payload = body.model_dump(mode="json", exclude={"attempt"})
    with api.database.write_session() as session:
        jobs = api.jobs(session)
        _own(jobs, caller, job_id)
        return schemas.ResultReply(status=jobs.land_result(job_id, body.attempt, body.trial, payload))


def save_checkpoint(api: ApiState, caller: Caller, job_id: int, body: schemas.CheckpointRequest) -> None:
    with api.database.write_session() as session:
        jobs = api.jobs(session)
        _own(jobs, caller, job_id)
        jobs.save_checkpoint(job_id, body.attempt, body.digest, body.step)
    api.collector.wake()


def done(api: ApiState, caller: Caller, job_id: int, body: schemas.DoneRequest) -> schemas.JobRead:
    with api.database.write_session() as session:
        jobs = api.jobs(session)
        _own(jobs, caller, job_id)
        job = jobs.done(
            job_id,
            body.attempt,
            WorkState(body.outcome),
            body.result,
            body.reason,
            measurements=[item.model_dump(mode="json") for item in body.measurements],
        )
        reply = read(job)
    api.collector.wake()
    return reply


def release(api: ApiState, caller: Caller, job_id: int, body: schemas.ReleaseRequest) -> schemas.JobRead:
    with api.database.write_session() as session:
        jobs = api.jobs(session)
        _own(jobs, caller, job_id)
        if body.log is not None:
            jobs.write_log(job_id, body.attempt, body.log, limit=api.settings.log_tail)
        return read(jobs.release(job_id, body.attempt, ReleaseKind(body.kind), body.reason))


def write_log(api: ApiState, caller: Caller, job_id: int, body: schemas.LogRequest) -> None:
    with api.database.write_session() as session:
        jobs = api.jobs(session)
        _own(jobs, caller, job_id)
        jobs.write_log(job_id, body.attempt, body.text, limit=api.settings.log_tail)


def page(api: ApiState, caller: Caller, *, after: int, limit: int, search_id: int | None) -> list[schemas.JobRead]:
    with api.database.read_session() as session:
        rows = api.jobs(session).page(caller.project_id, after=after, limit=limit, search_id=search_id)
        return [read(job) for job in rows]


def get(api: ApiState, caller: Caller, job_id: int) -> schemas.JobDetail:
    with api.database.read_session() as session:
        jobs = api.jobs(session)
        job = _own(jobs, caller, job_id)
        attempts = [_attempt(attempt) for attempt in jobs.attempts(job_id)]
        status = job_status(session, job)
        return schemas.JobDetail(
            **read(job).model_dump(),
            payload=job.payload,
            attempts=attempts,
            waits_for=status.waits_for if status else None,
            deadline_at=status.deadline_at if status else None,
            needs_somebody=status.needs_somebody if status else False,
        )


def log(api: ApiState, caller: Caller, job_id: int, attempt: int | None) -> str:
    """The end of the log of one attempt; of the last one unless told otherwise."""
    with api.database.read_session() as session:
        jobs = api.jobs(session)
        _own(jobs, caller, job_id)
        attempts = {row.attempt: row.log for row in jobs.attempts(job_id)}
    if attempt is None:
        return attempts[max(attempts)] if attempts else ""
    if attempt not in attempts:
        raise NotFoundError(f"job {job_id} has no attempt {attempt}; it has {len(attempts)} so far")
    return attempts[attempt]


def _attempt(row: JobAttempt) -> schemas.AttemptRead:
    return schemas.AttemptRead(
        attempt=row.attempt,
        worker=row.worker_id,
        outcome=row.outcome,
        reason=row.reason,
        started_at=row.created_at,
        ended_at=row.ended_at,
    )


def read(job: Job) -> schemas.JobRead:
    return schemas.JobRead(
        id=job.id,
        search=job.search_id,
        kind=job.kind.value,
        purpose=job.purpose,
        state=job.state.value,
        reason=job.reason,
        priority=job.priority,
        device_class=job.device_class,
        attempt=job.attempt,
        charged=job.charged,
        worker=job.worker_id,
        split_from=job.split_from,
        progress=job.progress,
        checkpoint=job.checkpoint,
        checkpoint_step=job.checkpoint_step,
        result=job.result,
        cancel_requested=job.cancel_requested,
        created_at=job.created_at,
        claimed_at=job.claimed_at,
        finished_at=job.finished_at,
    )

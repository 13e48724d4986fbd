"""Jobs over HTTP: what a worker sends, and what everybody may see."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from services.api.fields import (
    NO_NUL,
    Attempt,
    Body,
    Digest,
    Identifier,
    JsonObject,
    LogText,
    Real,
    Reason,
    ShortText,
    Whole,
)
from services.api.workers.schemas import DeviceClass, Incarnation

Outcome = Literal["succeeded", "failed", "infeasible"]


class ClaimRequest(Body):
    worker: Identifier
    incarnation: Incarnation
    device_class: DeviceClass
    protocol: Whole
    resident: Annotated[list[Digest], Field(max_length=100)] = Field(default_factory=list)


class ClaimedTrial(BaseModel):
    id: int
    number: int
    genotype: list[int]


class ClaimedJob(BaseModel):
    id: int
    kind: str
    attempt: int
    payload: dict[str, Any]
    trials: list[ClaimedTrial]
    checkpoint: str | None
    checkpoint_step: int
    lease_seconds: float
    heartbeat_seconds: float


class ClaimReply(BaseModel):
    """Without a job `directive` says what to do: ask again later, hold still (paused), or end (draining)."""

    job: ClaimedJob | None
    directive: Literal["work", "hold", "end"]


class HeartbeatRequest(Body):
    attempt: Attempt
    counter: Whole
    progress: JsonObject = Field(default_factory=dict)
    log: LogText | None = None


class HeartbeatReply(BaseModel):
    """`cancel`: drop this job. `release`: give it back, since the worker shall end now."""

    cancel: bool
    release: bool
    lease_seconds: float
    heartbeat_seconds: float


class MeasurementBody(Body):
    metric: Annotated[str, Field(pattern=NO_NUL, min_length=1, max_length=60)]
    split: Annotated[str, Field(pattern=NO_NUL, min_length=1, max_length=40)]
    value: Real
    standard_error: Annotated[float, Field(allow_inf_nan=False, ge=0)] | None = None
    jackknife: Annotated[list[Real], Field(max_length=1024)] | None = None
    protocol_hash: Annotated[str, Field(pattern=NO_NUL, min_length=1, max_length=64)]
    fidelity: JsonObject
    device_class: DeviceClass
    supernet_digest: Digest | None = None


Measurements = Annotated[list[MeasurementBody], Field(max_length=1000)]


class ResultRequest(Body):
    attempt: Attempt
    trial: Identifier
    state: Outcome
    reason: Reason | None = None
    value: Real | None = None
    measurements: Measurements = Field(default_factory=list)
    seconds: JsonObject = Field(default_factory=dict)


class ResultReply(BaseModel):
    status: Literal["accepted", "repeated"]


class CheckpointRequest(Body):
    attempt: Attempt
    digest: Digest
    step: Whole


class DoneRequest(Body):
    attempt: Attempt
    outcome: Literal["succeeded", "failed", "infeasible", "cancelled"]
    reason: Reason | None = None
    result: JsonObject = Field(default_factory=dict)
    measurements: Measurements = Field(default_factory=list)


class ReleaseRequest(Body):
    attempt: Attempt
    kind: Literal["graceful", "crash", "hang", "timeout"]
    reason: Reason | None = None
    log: LogText | None = None


class LogRequest(Body):
    attempt: Attempt
    text: LogText


class AttemptRead(BaseModel):
    attempt: int
    worker: int
    outcome: str | None
    reason: str | None
    started_at: float
    ended_at: float | None


class JobRead(BaseModel):
    id: int
    search: int | None
    kind: str
    purpose: ShortText
    state: str
    reason: str | None
    priority: int
    device_class: str
    attempt: int
    charged: int
    worker: int | None
    split_from: int | None
    progress: dict[str, Any] | None
    checkpoint: str | None
    checkpoint_step: int
    result: dict[str, Any] | None
    cancel_requested: bool
    created_at: float
    claimed_at: float | None
    finished_at: float | None


class JobDetail(JobRead):
    """An open job says what it waits for, and when something happens without anybody's help."""

    waits_for: str | None
    deadline_at: float | None
    needs_somebody: bool
    payload: dict[str, Any]
    attempts: list[AttemptRead]

"""Searches over HTTP."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from services.api.fields import Body, JsonObject

Priority = Annotated[int, Field(strict=True, ge=-100, le=100)]
Hours = Annotated[float, Field(strict=True, gt=0, le=1e6, allow_inf_nan=False)]


class SearchChange(Body):
    priority: Priority


class SearchRetry(Body):
    """A budget that replaces the old one; what is not given stays. What was used counts."""

    gpu_hours: Hours | None = None
    wall_hours: Hours | None = None


class SearchClone(Body):
    """Sections of the specification that replace the old ones; null leaves a section out."""

    changes: JsonObject = Field(default_factory=dict)
    priority: Priority | None = None


class SearchListItem(BaseModel):
    id: int
    name: str
    state: str
    stage: str
    reason: str | None
    dataset: str
    priority: int
    deadline_at: float | None
    seed: int
    created_at: float
    finished_at: float | None
    revision: int


class SearchRead(BaseModel):
    """The summary (services/common/summary.py) and the specification; dates and revision are in the list and the ETag.

    So everything but `timing_s` and `progress` follows from specification and data.
    """

    model_config = ConfigDict(extra="allow")

    spec: dict[str, Any]
    search: dict[str, Any]
    trials: dict[str, Any]
    best: dict[str, Any] | None
    front: list[dict[str, Any]]
    final: dict[str, Any] | None
    baseline: dict[str, Any] | None
    control: dict[str, Any] | None
    timing_s: dict[str, Any]


class MeasurementRead(BaseModel):
    id: int
    trial: int | None
    finalist: int | None
    supernet: int | None
    architecture_id: str
    metric: str
    split: str
    value: float
    standard_error: float | None
    protocol_hash: str
    fidelity: dict[str, Any]
    device_class: str
    dataset_version: int
    supernet_digest: str | None
    job: int
    attempt: int


class TrialRead(BaseModel):
    id: int
    number: int
    genotype: list[int]
    architecture_id: str
    origin: str
    parents: list[int]
    generation: int
    macs: int
    params: int
    counted: dict[str, Any]
    state: str
    reason: str | None
    value: float | None
    seconds: dict[str, Any] | None
    job: int | None
    crashes: int
    finished_at: float | None
    measurements: list[MeasurementRead]


class FrontRead(BaseModel):
    items: list[dict[str, Any]]


class EventRead(BaseModel):
    id: int
    kind: str
    created_at: float
    trial: int | None
    job: int | None
    attempt: int | None
    data: dict[str, Any]

"""What a worker is asked to do and what it answers: plain values, JSON on both sides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Outcome = Literal["succeeded", "failed", "infeasible"]


@dataclass(frozen=True, slots=True)
class TrialRequest:
    """One candidate of an evaluate job."""

    id: int
    number: int
    genotype: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A job as claimed. `attempt` is the fencing token: everything we send names it."""

    id: int
    kind: str
    attempt: int
    payload: Mapping[str, Any]
    trials: tuple[TrialRequest, ...] = ()
    checkpoint: str | None = None  # artifact to resume from
    checkpoint_step: int = 0

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> JobRequest:
        return cls(
            id=body["id"],
            kind=body["kind"],
            attempt=body["attempt"],
            payload=body["payload"],
            trials=tuple(
                TrialRequest(id=trial["id"], number=trial["number"], genotype=tuple(trial["genotype"]))
                for trial in body["trials"]
            ),
            checkpoint=body["checkpoint"],
            checkpoint_step=body["checkpoint_step"],
        )


@dataclass(frozen=True, slots=True)
class MeasuredValue:
    """A measurement row in the making (services/common/db/models.py, Measurement)."""

    metric: str
    split: str  # the dataset's own name: val, test
    value: float
    protocol_hash: str
    fidelity: Mapping[str, Any]
    device_class: str
    standard_error: float | None = None
    jackknife: tuple[float, ...] | None = None
    supernet_digest: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "metric": self.metric,
            "split": self.split,
            "value": self.value,
            "standard_error": self.standard_error,
            "jackknife": None if self.jackknife is None else list(self.jackknife),
            "protocol_hash": self.protocol_hash,
            "fidelity": dict(self.fidelity),
            "device_class": self.device_class,
            "supernet_digest": self.supernet_digest,
        }


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """How a job ended."""

    outcome: Outcome
    reason: str | None = None
    result: Mapping[str, Any] = field(default_factory=dict)
    measurements: tuple[MeasuredValue, ...] = ()

    def to_json(self, attempt: int) -> dict[str, Any]:
        return {
            "attempt": attempt,
            "outcome": self.outcome,
            "reason": self.reason,
            "result": dict(self.result),
            "measurements": [measured.to_json() for measured in self.measurements],
        }


@dataclass(frozen=True, slots=True)
class TrialOutcome:
    """What one candidate came to."""

    state: Outcome
    reason: str | None = None
    value: float | None = None
    measurements: tuple[MeasuredValue, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)

    def to_json(self, trial: TrialRequest) -> dict[str, Any]:
        return {
            "trial": trial.id,
            "state": self.state,
            "reason": self.reason,
            "value": self.value,
            "measurements": [measured.to_json() for measured in self.measurements],
            "seconds": dict(self.seconds),
        }

"""Results: accepted once, from the attempt that holds the job, and known again when they are sent again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import update

from services.common.db.models import Finalist, Job, JsonDict, Search, Supernet, Trial
from services.common.db.repositories.datasets import DatasetRepository
from services.common.db.repositories.finalists import FinalistRepository
from services.common.db.repositories.job_base import JobBase
from services.common.db.repositories.measurements import MeasuredBy, MeasurementRepository
from services.common.db.repositories.owner import Owner, payload_digest
from services.common.db.settle import owed
from services.common.db.standings import OBJECTIVE, comparable_under
from services.common.db.states import JobKind, WorkState
from services.common.db.types import db_now
from services.common.errors import (
    ConflictError,
    IncompleteJobError,
    InvalidRequestError,
    NotFoundError,
    ResultConflictError,
)

TRIAL_OUTCOMES = (WorkState.SUCCEEDED, WorkState.FAILED, WorkState.INFEASIBLE)
JOB_OUTCOMES = (*TRIAL_OUTCOMES, WorkState.CANCELLED)

Measurements = Sequence[Mapping[str, Any]]


class JobResults(JobBase):
    def land_result(
        self, job_id: int, attempt: int, trial_id: int, payload: JsonDict
    ) -> Literal["accepted", "repeated"]:
        """Land one trial's result. The same payload again is "repeated"; another or a late one is refused."""
        digest = payload_digest(payload)
        state, value = _trial_outcome(payload)
        # First of all: whoever sends the same result at the same time waits here, and then sees ours.
        held = self._change_held(job_id, attempt, self._lease())
        job = self.get(job_id)
        trial = self.session.get(Trial, trial_id, populate_existing=True)
        if trial is None or trial.search_id != job.search_id:
            raise NotFoundError(f"there is no trial {trial_id} in the search of job {job_id}")
        if trial.result_digest == digest and trial.job_id == job_id:
            return "repeated"  # the commit was there, the reply was lost
        if not held:
            raise self._refuse(job, attempt, f"the result of trial {trial.number}", trial_id=trial_id)
        measured = _objective_of(payload)
        protocol = None if measured is None else comparable_under(measured["protocol_hash"], measured["fidelity"])
        landed = self._change(
            update(Trial)
            .where(Trial.id == trial_id, Trial.job_id == job_id, Trial.state == WorkState.RUNNING)
            .values(
                state=state,
                value=value,
                reason=payload.get("reason"),
                seconds=payload.get("seconds"),
                protocol=protocol,
                result_digest=digest,
                finished_at=db_now(),
            )
        )
        if landed != 1:
            raise self._conflict(job, attempt, trial)
        self._measure_trial(job, attempt, trial, payload.get("measurements") or ())
        if measured is not None:
            owed(self.session).scored.append((trial_id, int(measured["fidelity"].get("images", 0))))
        self.events.add(
            f"trial.{state}",
            Owner.of(job),
            search_id=job.search_id,
            trial_id=trial_id,
            job_id=job_id,
            attempt=attempt,
            data={"number": trial.number, "value": value, "reason": payload.get("reason")},
        )
        self._bump(job.search_id)
        return "accepted"

    def _conflict(self, job: Job, attempt: int, trial: Trial) -> ConflictError:
        if trial.job_id != job.id:
            return ConflictError(f"trial {trial.number} is not in job {job.id} but in job {trial.job_id}; drop it")
        self.events.add(
            "result.refused",
            Owner.of(job),
            search_id=job.search_id,
            trial_id=trial.id,
            job_id=job.id,
            attempt=attempt,
            data={"what": f"another result of trial {trial.number}", "state": trial.state.value},
        )
        self.session.flush()
        return ResultConflictError(
            f"trial {trial.number} already ended as {trial.state} with another result; this one is not taken"
        )

    def _measure_trial(self, job: Job, attempt: int, trial: Trial, items: Measurements) -> None:
        if not items:
            return
        MeasurementRepository(self.session).add_all(
            MeasuredBy(
                owner=Owner.of(job),
                job_id=job.id,
                attempt=attempt,
                dataset_version_id=self._dataset_version(job),
                architecture_id=trial.architecture_id,
                search_id=job.search_id,
                trial_id=trial.id,
                supernet_id=job.supernet_id,
            ),
            items,
        )

    def done(
        self,
        job_id: int,
        attempt: int,
        outcome: WorkState,
        result: JsonDict,
        reason: str | None = None,
        *,
        measurements: Measurements = (),
    ) -> Job:
        """End a job. The same ending sent again by the same attempt changes nothing and is success."""
        self._check_outcome(outcome, result)
        digest = payload_digest(
            {"outcome": outcome, "result": result, "reason": reason, "measurements": list(measurements)}
        )
        job = self.get(job_id)
        if job.attempt == attempt and job.result_digest == digest:
            return job
        self._check_complete(job, attempt, outcome)
        ended = self._change_held(
            job_id,
            attempt,
            {
                "state": outcome,
                "reason": reason,
                "result": result,
                "result_digest": digest,
                "finished_at": db_now(),
                "lease_expires_at": None,
            },
        )
        if not ended:
            job = self.get(job_id)
            if job.attempt == attempt and job.result_digest == digest:
                return job  # it was sent twice, and the other one was quicker
            if job.attempt == attempt and job.result_digest is not None:
                raise self._other_ending(job, attempt)
            raise self._refuse(job, attempt, "the end")
        job = self.get(job_id)
        self._end_attempt(job, attempt, outcome.value, reason)
        self._set_trials(job_id, outcome, reason)
        self._apply(job, attempt, outcome, measurements)
        self._forget_checkpoint(job)
        self._event("job.ended", job, {"outcome": outcome.value, "reason": reason})
        self._bump(job.search_id)
        return self.get(job_id)

    def _check_outcome(self, outcome: WorkState, result: JsonDict) -> None:
        if outcome not in JOB_OUTCOMES:
            raise InvalidRequestError(f"a job ends as one of {', '.join(JOB_OUTCOMES)}, not as '{outcome}'")
        try:
            payload_digest(result)
        except ValueError as error:
            raise InvalidRequestError("a result holds JSON values only, but one is not finite") from error

    def _check_complete(self, job: Job, attempt: int, outcome: WorkState) -> None:
        """A list is done when each of its trials has a result; otherwise trials would be lost."""
        if job.attempt != attempt or job.state is not WorkState.RUNNING:
            return  # the fencing predicate says the rest
        missing = self._count_open_trials(job.id)
        if outcome is WorkState.SUCCEEDED and missing:
            raise IncompleteJobError(
                f"job {job.id} cannot end as succeeded while {missing} of its trials have no result; "
                "land them first, or release the job"
            )
        if outcome is WorkState.CANCELLED and not job.cancel_requested:
            raise ConflictError(f"nobody asked for job {job.id} to be cancelled; release it instead")

    def _other_ending(self, job: Job, attempt: int) -> ResultConflictError:
        self._event("result.refused", job, {"what": "another end", "state": job.state.value}, attempt=attempt)
        self.session.flush()
        return ResultConflictError(f"job {job.id} already ended as {job.state} with another result")

    def _apply(self, job: Job, attempt: int, outcome: WorkState, items: Measurements) -> None:
        """Write what a job made to the row it was made for."""
        if job.kind is JobKind.CHECK_DATASET:
            if outcome is WorkState.SUCCEEDED:
                self._apply_dataset(job)
        elif job.kind is JobKind.TRAIN_SUPERNET:
            self._apply_supernet(job, attempt, outcome, items)
        elif job.kind is JobKind.TRAIN_DETECTOR:
            self._apply_finalist(job, attempt, outcome, items)

    def _apply_dataset(self, job: Job) -> None:
        datasets = DatasetRepository(self.session)
        result = _result_of(job, "digest", "manifest", "class_names", "splits", "split_names", "report")
        search = None if job.search_id is None else self.session.get(Search, job.search_id)
        dataset_id = (
            search.dataset_id if search is not None else datasets.by_name(job.project_id, job.payload["dataset"]).id
        )
        version = datasets.add_version(Owner.of(job), dataset_id, result)
        self.artifacts.take(version.manifest, Owner.of(job), f"dataset_version:{version.id}:manifest")
        self._change(update(Job).where(Job.id == job.id).values(result={**result, "dataset_version_id": version.id}))

    def _apply_supernet(self, job: Job, attempt: int, outcome: WorkState, items: Measurements) -> None:
        values: dict[str, Any] = {"reason": job.reason, "result": job.result}
        if outcome is WorkState.SUCCEEDED:
            values["weights"] = _result_of(job, "weights")["weights"]
            self.artifacts.take(values["weights"], Owner.of(job), f"supernet:{job.supernet_id}:weights")
        self._set_product(job, outcome, values)
        supernet = self.session.get(Supernet, job.supernet_id)
        if supernet is not None and items:
            MeasurementRepository(self.session).add_all(
                MeasuredBy(
                    owner=Owner.of(job),
                    job_id=job.id,
                    attempt=attempt,
                    dataset_version_id=supernet.dataset_version_id,
                    # A fixed path says which architecture it is; a supernet is none, and known by its key.
                    architecture_id=str(job.payload.get("architecture_id") or supernet.key),
                    search_id=job.search_id,
                    supernet_id=supernet.id,
                ),
                items,
            )

    def _apply_finalist(self, job: Job, attempt: int, outcome: WorkState, items: Measurements) -> None:
        finalist: Finalist | None = FinalistRepository(self.session).of_job(job.id)
        values: dict[str, Any] = {"reason": job.reason, "result": job.result}
        if outcome is WorkState.SUCCEEDED:
            values["weights"] = _result_of(job, "weights")["weights"]
            holder = f"finalist:{finalist.id}" if finalist is not None else f"job:{job.id}"
            self.artifacts.take(values["weights"], Owner.of(job), f"{holder}:weights")
        self._set_product(job, outcome, values)
        if finalist is not None and items:
            MeasurementRepository(self.session).add_all(
                MeasuredBy(
                    owner=Owner.of(job),
                    job_id=job.id,
                    attempt=attempt,
                    dataset_version_id=self._dataset_version(job),
                    architecture_id=finalist.architecture_id,
                    search_id=job.search_id,
                    finalist_id=finalist.id,
                    supernet_id=job.supernet_id,
                ),
                items,
            )

    def _dataset_version(self, job: Job) -> int:
        search = None if job.search_id is None else self.session.get(Search, job.search_id)
        if search is None or search.dataset_version_id is None:
            raise ConflictError(f"job {job.id} measured something, but its search points to no dataset version yet")
        return search.dataset_version_id


def _trial_outcome(payload: JsonDict) -> tuple[WorkState, float | None]:
    """State and objective of a trial's payload; a succeeded trial has a finite value, no other has one."""
    state = WorkState(payload["state"])
    if state not in TRIAL_OUTCOMES:
        raise InvalidRequestError(f"a trial ends as one of {', '.join(TRIAL_OUTCOMES)}, not as '{state}'")
    value = payload.get("value")
    if state is not WorkState.SUCCEEDED:
        return state, None
    if value is None or not math.isfinite(value):
        raise InvalidRequestError(f"a succeeded trial needs a finite value, got {value!r}")
    return state, float(value)


def _objective_of(payload: JsonDict) -> Mapping[str, Any] | None:
    """The measurement that a succeeded trial is ranked by."""
    if payload["state"] != WorkState.SUCCEEDED:
        return None
    return next((item for item in payload.get("measurements") or () if item["metric"] == OBJECTIVE), None)


def _result_of(job: Job, *keys: str) -> JsonDict:
    """The job's result, which must hold these keys."""
    result = job.result or {}
    missing = [key for key in keys if result.get(key) is None]
    if missing:
        raise InvalidRequestError(f"the result of a {job.kind} job needs {', '.join(missing)}, which is missing")
    return result

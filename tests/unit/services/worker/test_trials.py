"""The loop over candidates: what happens to one is no business of the others."""

from __future__ import annotations

from typing import Any

import pytest

from services.worker.errors import ApiRefusedError, JobStoppedError, StaleAttemptError
from services.worker.jobs.trials import Scorer, score_trials
from services.worker.work import TrialOutcome, TrialRequest
from tests.unit.services.worker.recording import RecordingApi, make_context, make_job


def scorer(errors: dict[int, Exception]) -> Scorer:
    def score(trial: TrialRequest) -> TrialOutcome:
        if trial.number in errors:
            raise errors[trial.number]
        return TrialOutcome("succeeded", value=trial.number / 10)

    return score


def run(errors: dict[int, Exception], api: RecordingApi | None = None) -> list[dict[str, Any]]:
    api = RecordingApi() if api is None else api
    job = make_job(numbers=(4, 2, 3))
    score_trials(job, make_context(job, api), scorer(errors))
    return api.results


def test_results_land_in_the_order_of_numbers() -> None:
    results = run({})
    assert [(result["trial"], result["value"]) for result in results] == [(102, 0.2), (103, 0.3), (104, 0.4)]
    assert all(result["attempt"] == 1 for result in results)


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (ValueError("bad\nvalue"), "failed", "ValueError: value"),
        (StopIteration(), "failed", "StopIteration"),
        (MemoryError("no room"), "infeasible", "out of memory (no room)"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: 8 bytes"),
            "infeasible",
            "out of memory ([enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: 8 bytes)",
        ),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA"), "infeasible", "out of memory (CUDA)"),
    ],
)
def test_an_error_is_the_result_of_its_candidate_alone(error: Exception, state: str, reason: str) -> None:
    results = run({3: error})
    assert [result["state"] for result in results] == ["succeeded", state, "succeeded"]
    assert results[1]["reason"] == reason
    assert results[1]["value"] is None


def test_the_traceback_is_in_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    run({3: ValueError("planted")})
    log = capfd.readouterr().err
    assert "Traceback (most recent call last)" in log
    assert "planted" in log


@pytest.mark.parametrize("error", [JobStoppedError(), StaleAttemptError("gone", status=409)])
def test_the_end_of_the_job_is_no_result(error: Exception) -> None:
    api = RecordingApi()
    with pytest.raises(type(error)):
        run({3: error}, api)
    assert [result["trial"] for result in api.results] == [102]


def test_a_stale_attempt_stops_at_once() -> None:
    api = RecordingApi(refuse=StaleAttemptError("gone", status=409))
    with pytest.raises(StaleAttemptError):
        run({}, api)
    assert len(api.results) == 1


def test_a_refused_result_leaves_the_others() -> None:
    api = RecordingApi(refuse=ApiRefusedError("another result was accepted", status=409))
    assert len(run({}, api)) == 3

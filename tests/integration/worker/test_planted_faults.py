"""A candidate that kills, hangs or exhausts its executor is charged alone; the others keep their results."""

from __future__ import annotations

import pytest

from tests.support.planted_jobs import quick_value
from tests.support.worker_platform import WorkerPlatform

pytestmark = pytest.mark.integration

GENOTYPES = [(0, 0), (0, 1), (1, 0), (1, 1)]
CULPRIT = (1, 0)  # number 2


def plan(fault: str) -> dict[str, object]:
    return {"faults": [{"genotype": list(CULPRIT), "fault": fault}]}


def check_innocent(platform: WorkerPlatform, search_id: int) -> None:
    for trial in platform.trials(search_id):
        if tuple(trial.genotype) != CULPRIT:
            assert trial.state == "succeeded"
            assert trial.value == quick_value(tuple(trial.genotype))
            assert trial.crashes == 0


def test_a_candidate_that_kills_its_executor_is_charged_alone(platform: WorkerPlatform) -> None:
    search_id, job_id = platform.evaluate(GENOTYPES)
    worker = platform.start_worker(planted=plan("die"))
    trials = platform.wait_all_ended(search_id)
    assert trials[2].state == "failed"
    assert trials[2].crashes == 2  # NASDET_MAX_CRASHES of the fixture
    assert "SIGKILL" in (trials[2].reason or "")
    assert "trial 2" in (trials[2].reason or "")
    check_innocent(platform, search_id)
    assert worker.process.poll() is None

    first = platform.attempts(job_id)[0]
    assert first.outcome == "crash"
    assert "trial 2: genotype 1 0" in first.log
    assert len(platform.events(search_id, "trial.succeeded")) == 3


def test_a_candidate_that_hangs_is_found_and_charged_alone(platform: WorkerPlatform) -> None:
    search_id, _ = platform.evaluate(GENOTYPES)
    worker = platform.start_worker(planted=plan("hang"), NASDET_NO_PROGRESS_SECONDS="0.8")
    trials = platform.wait_all_ended(search_id)
    assert trials[2].state == "failed"
    assert "no progress for 0.8 s" in (trials[2].reason or "")
    check_innocent(platform, search_id)
    outcomes = [attempt.outcome for job in platform.jobs(search_id) for attempt in platform.attempts(job.id)]
    assert outcomes.count("hang") == 3  # in the list of four, and twice alone
    assert worker.process.poll() is None


def test_what_goes_wrong_without_a_crash_is_the_result_of_its_candidate(platform: WorkerPlatform) -> None:
    """Too little memory is an answer, a mistake is a failure; the executor lives, the list goes on."""
    search_id, job_id = platform.evaluate(GENOTYPES)
    faults = [((0, 0), "memory"), ((0, 1), "oom"), ((1, 0), "error")]
    platform.start_worker(planted={"faults": [{"genotype": genotype, "fault": fault} for genotype, fault in faults]})
    memory, oom, error, innocent = platform.wait_all_ended(search_id)
    assert (memory.state, memory.reason) == ("infeasible", "out of memory (no room for a planted tensor)")
    assert oom.state == "infeasible"
    assert (oom.reason or "").startswith("out of memory (CUDA out of memory. Tried to allocate")
    assert (error.state, error.reason) == ("failed", "ValueError: planted mistake")
    assert innocent.value == quick_value((1, 1))
    assert platform.read_job(job_id).state == "succeeded"
    (attempt,) = platform.attempts(job_id)
    assert "Traceback (most recent call last)" in attempt.log
    assert 'commit(entry["fault"])' in attempt.log

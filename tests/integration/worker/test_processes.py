"""Whatever is killed, whenever: nothing is lost, nothing counts twice, nobody outlives his supervisor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from services.common.db.states import JobKind
from tests.support.planted_jobs import quick_value
from tests.support.processes import is_running
from tests.support.worker_platform import ROOT, WorkerPlatform, wait_until

pytestmark = pytest.mark.integration
# What happens between a supervisor and its executor, whatever the database.
one_store = pytest.mark.parametrize("store", ["sqlite"], indirect=True)

GENOTYPES = [(number, 0) for number in range(8)]
SLOW = {"seconds": 0.15}
TRAINING = {"dataset_version": "d" * 64, "role": "supernet", "seed": 0}


def check_all_counted_once(platform: WorkerPlatform, search_id: int) -> None:
    trials = platform.trials(search_id)
    assert [trial.value for trial in trials] == [quick_value(tuple(trial.genotype)) for trial in trials]
    assert len(platform.events(search_id, "trial.succeeded")) == len(trials)


@one_store
class TestExecutorIsKilled:
    def test_a_training_goes_on_from_its_last_checkpoint(self, platform: WorkerPlatform) -> None:
        _, job_id = platform.job(JobKind.TRAIN_SUPERNET, TRAINING)
        worker = platform.start_worker(planted={"seconds": 0.05, "steps": 40}, NASDET_CHECKPOINT_SECONDS="0.2")
        wait_until("checkpoint", lambda: platform.read_job(job_id).checkpoint_step > 8)
        killed = worker.executor()
        os.kill(killed, signal.SIGKILL)
        started = time.monotonic()
        wait_until("release", lambda: platform.attempts(job_id)[0].outcome == "crash", 5)
        assert time.monotonic() - started < 1.5
        (job,) = platform.wait_ended([job_id])
        assert (job.state, job.attempt) == ("succeeded", 2)
        first, second = platform.attempts(job_id)
        assert "SIGKILL" in (first.reason or "")
        assert "train_supernet begins" in first.log
        assert "resumed after step" in second.log
        assert worker.executor() != killed

    def test_an_idle_executor_is_replaced(self, platform: WorkerPlatform) -> None:
        worker = platform.start_worker()
        wait_until("registration", lambda: "worker.registered" in worker.log)
        killed = worker.executor()
        os.kill(killed, signal.SIGKILL)
        search_id, _ = platform.evaluate(GENOTYPES[:2])
        platform.wait_all_ended(search_id)
        check_all_counted_once(platform, search_id)
        assert worker.executor() != killed


class TestSupervisorIsKilled:
    def test_its_executor_follows_and_the_next_one_takes_over_at_once(self, platform: WorkerPlatform) -> None:
        search_id, job_id = platform.evaluate(GENOTYPES)
        worker = platform.start_worker(planted=SLOW)
        platform.wait_landed(search_id, 2)
        executor = worker.executor()
        worker.kill()
        wait_until("end of the executor", lambda: not is_running(executor), 2)
        landed = sum(trial.state.ended for trial in platform.trials(search_id))
        time.sleep(0.4)
        assert sum(trial.state.ended for trial in platform.trials(search_id)) == landed
        assert platform.read_job(job_id).state == "running"

        platform.start_worker()  # of the same name: no lease has to run out
        platform.wait_all_ended(search_id, 5)
        check_all_counted_once(platform, search_id)


@one_store
class TestAskedToStop:
    def test_the_lease_is_given_back_at_once_and_nobody_is_charged(self, platform: WorkerPlatform) -> None:
        search_id, job_id = platform.evaluate(GENOTYPES)
        worker = platform.start_worker(planted=SLOW)
        platform.wait_landed(search_id, 1)
        executor = worker.executor()
        assert worker.terminate() < 5
        assert worker.process.returncode == 0
        assert not is_running(executor)
        job = platform.read_job(job_id)
        assert (job.state, job.charged) == ("queued", 0)
        (attempt,) = platform.attempts(job_id)
        assert attempt.outcome == "graceful"
        assert "trial 0: succeeded" in attempt.log

        platform.start_worker("worker-1")
        platform.wait_all_ended(search_id)
        check_all_counted_once(platform, search_id)

    def test_also_when_the_executor_does_not_listen(self, platform: WorkerPlatform) -> None:
        _, job_id = platform.evaluate([(9, 9)])
        worker = platform.start_worker(planted={"faults": [{"genotype": [9, 9], "fault": "hang"}]})
        platform.wait_running(job_id)
        wait_until("start of the trial", lambda: "genotype 9 9" in worker.log)
        assert worker.terminate() < 5
        assert platform.attempts(job_id)[0].outcome == "graceful"
        platform.cancel(platform.read_job(job_id).search_id or 0)

    def test_also_while_the_api_is_away(self, platform: WorkerPlatform) -> None:
        worker = platform.start_worker()
        wait_until("registration", lambda: "worker.registered" in worker.log)
        platform.api.kill()
        platform.api.wait()
        try:
            assert worker.terminate() < 5.5
        finally:
            platform.start_api()


class TestApiIsKilled:
    def test_results_wait_for_it_and_land_once(self, platform: WorkerPlatform) -> None:
        search_id, job_id = platform.evaluate(GENOTYPES)
        platform.start_worker(planted=SLOW)
        platform.wait_landed(search_id, 2)
        platform.api.kill()
        platform.api.wait()
        time.sleep(0.5)
        platform.start_api()
        platform.wait_all_ended(search_id)
        check_all_counted_once(platform, search_id)
        assert platform.read_job(job_id).attempt == 1


class TestJobIsTakenAway:
    def test_a_stale_attempt_is_abandoned_and_the_next_one_claimed(self, platform: WorkerPlatform) -> None:
        search_id, job_id = platform.evaluate(GENOTYPES)
        worker = platform.start_worker(planted=SLOW)
        platform.wait_landed(search_id, 1)
        executor = worker.executor()
        platform.take_back(job_id)
        platform.wait_all_ended(search_id)
        check_all_counted_once(platform, search_id)
        assert worker.executor() == executor
        assert "job.abandoned" in worker.log

    def test_a_training_hears_of_it_by_its_heartbeat(self, platform: WorkerPlatform) -> None:
        """It lands nothing on the way that could be refused."""
        search_id, job_id = platform.job(JobKind.TRAIN_SUPERNET, TRAINING)
        worker = platform.start_worker(planted={"seconds": 0.05, "steps": 400})
        platform.wait_running(job_id)
        wait_until("first step", lambda: "train_supernet begins" in worker.log)
        platform.take_back(job_id)
        wait_until("second claim", lambda: platform.read_job(job_id).attempt == 2, 8)
        assert "job.abandoned" in worker.log
        platform.cancel(search_id)

    def test_a_cancelled_job_ends_and_the_executor_stays(self, platform: WorkerPlatform) -> None:
        search_id, job_id = platform.evaluate(GENOTYPES * 5)
        worker = platform.start_worker(planted=SLOW)
        platform.wait_landed(search_id, 1)
        executor = worker.executor()
        platform.cancel(search_id)
        (job,) = platform.wait_ended([job_id], 6)
        assert job.state == "cancelled"
        assert worker.executor() == executor

    @one_store
    def test_a_job_over_its_time_limit_is_ended(self, platform: WorkerPlatform) -> None:
        _, job_id = platform.job(JobKind.TRAIN_SUPERNET, TRAINING)
        platform.start_worker(planted={"seconds": 0.05, "steps": 400}, NASDET_JOB_SECONDS="0.6")
        (job,) = platform.wait_ended([job_id])
        assert job.state == "failed"
        assert "longer than the limit of 0.6 s" in (job.reason or "")
        assert [attempt.outcome for attempt in platform.attempts(job_id)] == ["timeout", "timeout"]


@one_store
def test_the_next_claim_names_what_is_held(platform: WorkerPlatform) -> None:
    search_id, _ = platform.evaluate(GENOTYPES[:1])
    platform.start_worker("resident")
    platform.wait_all_ended(search_id)

    def resident() -> list[str] | None:
        from sqlalchemy import select

        from services.common.db.models import Worker

        with platform.database.read_session() as session:
            return session.scalars(select(Worker).where(Worker.name == "resident")).one().resident or None

    assert wait_until("resident hash", resident) == ["a" * 64]


@one_store
def test_another_protocol_is_one_sentence_and_the_end(platform: WorkerPlatform) -> None:
    script = (
        "import sys; from services.worker import api_client, slot, __main__; api_client.PROTOCOL = slot.PROTOCOL = 99; "
        "sys.exit(__main__.main())"
    )
    arguments = ["--home", str(platform.home), "--name", "old", "--url", platform.url, "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        env={**os.environ, "NASDET_JOB_PLUGIN": "tests.support.planted_jobs"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert "99" in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr

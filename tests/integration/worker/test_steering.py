"""What people tell a worker, and what becomes of one that is not heard of."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from sqlalchemy import update

from nasdet_client.sdk import NasdetClient
from services.common.db.models import Worker
from services.common.db.states import JobKind
from services.common.db.types import db_now
from tests.support.worker_platform import WorkerPlatform, wait_until

# One kind of database: what the store makes of it is in tests/contracts, on each.
pytestmark = [pytest.mark.integration, pytest.mark.parametrize("store", ["sqlite"], indirect=True)]

TRAINING = {"dataset_version": "d" * 64, "role": "supernet", "seed": 0}
LONG = {"seconds": 0.05, "steps": 4000}
SHORT = {"seconds": 0.05, "steps": 30}


@pytest.fixture
def client(platform: WorkerPlatform) -> Iterator[NasdetClient]:
    with NasdetClient(platform.url, (platform.home / "token").read_text().strip()) as client:
        yield client


def worker_id(client: NasdetClient, name: str) -> int:
    return int(next(worker["id"] for worker in client.workers() if worker["name"] == name))


def names(client: NasdetClient) -> list[str]:
    return [worker["name"] for worker in client.workers()]


def test_drained_it_finishes_ends_well_and_is_not_listed(platform: WorkerPlatform, client: NasdetClient) -> None:
    _, job_id = platform.job(JobKind.TRAIN_SUPERNET, TRAINING)
    worker = platform.start_worker("drained", planted=SHORT)
    platform.wait_running(job_id)
    client.drain_worker(worker_id(client, "drained"))
    _, next_id = platform.job(JobKind.TRAIN_SUPERNET, TRAINING)
    worker.process.wait(20)
    assert worker.process.returncode == 0
    job = platform.read_job(job_id)
    assert (job.state, job.attempt, job.charged) == ("succeeded", 1, 0)
    assert platform.read_job(next_id).attempt == 0
    assert "drained" not in names(client)
    platform.cancel(platform.read_job(next_id).search_id or 0)


def test_drained_now_it_gives_back_uncharged_and_ends(platform: WorkerPlatform, client: NasdetClient) -> None:
    search_id, job_id = platform.job(JobKind.TRAIN_SUPERNET, TRAINING)
    worker = platform.start_worker("leaving", planted=LONG)
    platform.wait_running(job_id)
    client.drain_worker(worker_id(client, "leaving"), now=True)
    worker.process.wait(10)
    assert worker.process.returncode == 0
    job = platform.read_job(job_id)
    assert (job.state, job.charged) == ("queued", 0)
    assert [attempt.outcome for attempt in platform.attempts(job_id)] == ["graceful"]
    assert "leaving" not in names(client)
    platform.cancel(search_id)


def test_paused_it_holds_within_one_job_and_goes_on_when_resumed(
    platform: WorkerPlatform, client: NasdetClient
) -> None:
    _, first = platform.job(JobKind.TRAIN_SUPERNET, TRAINING)
    _, second = platform.job(JobKind.TRAIN_SUPERNET, TRAINING)
    platform.start_worker("paused", planted=SHORT)
    platform.wait_running(first)
    number = worker_id(client, "paused")
    client.pause_worker(number)
    (job,) = platform.wait_ended([first])
    assert (job.state, job.attempt) == ("succeeded", 1)
    time.sleep(1.5)
    assert platform.read_job(second).state == "queued"
    (shown,) = [worker for worker in client.workers() if worker["id"] == number]
    assert (shown["mode"], shown["jobs"]) == ("paused", [])
    client.resume_worker(number)
    assert platform.wait_ended([second])[0].state == "succeeded"


def test_a_restart_forgets_what_it_was_told(platform: WorkerPlatform, client: NasdetClient) -> None:
    worker = platform.start_worker("again", planted=SHORT)
    wait_until("registration", lambda: "worker.registered" in worker.log)
    client.pause_worker(worker_id(client, "again"))
    worker.kill()
    platform.start_worker("again", planted=SHORT)
    _, job_id = platform.job(JobKind.TRAIN_SUPERNET, TRAINING)
    assert platform.wait_ended([job_id])[0].state == "succeeded"


def test_who_was_forgotten_registers_again_by_itself(platform: WorkerPlatform, client: NasdetClient) -> None:
    worker = platform.start_worker("forgotten", planted=SHORT)
    wait_until("registration", lambda: "worker.registered" in worker.log)
    with platform.database.write_session() as session:
        session.execute(update(Worker).where(Worker.name == "forgotten").values(gone_at=db_now()))
    wait_until("second registration", lambda: worker.log.count("worker.registered") == 2)
    assert "forgotten" in names(client)
    _, job_id = platform.job(JobKind.TRAIN_SUPERNET, TRAINING)
    assert platform.wait_ended([job_id])[0].state == "succeeded"
    assert worker.process.poll() is None


def test_a_cancel_frees_the_device_within_five_seconds(platform: WorkerPlatform) -> None:
    search_id, job_id = platform.job(JobKind.TRAIN_SUPERNET, TRAINING)
    platform.start_worker("freed", planted=LONG)
    platform.wait_running(job_id)
    _, next_id = platform.job(JobKind.TRAIN_SUPERNET, TRAINING)
    started = time.monotonic()
    platform.cancel(search_id)
    next_job = platform.wait_running(next_id, 10)
    assert time.monotonic() - started < 5
    assert platform.read_job(job_id).state == "cancelled"
    platform.cancel(next_job.search_id or 0)


def test_slots_are_workers_of_their_own(platform: WorkerPlatform, client: NasdetClient) -> None:
    jobs = [platform.job(JobKind.TRAIN_SUPERNET, TRAINING) for _ in range(2)]
    worker = platform.start_worker("node", planted=LONG, NASDET_SLOTS="2")
    for _, job_id in jobs:
        platform.wait_running(job_id)
    held = {entry["name"]: entry["jobs"] for entry in client.workers() if entry["name"].startswith("node")}
    assert sorted(held) == ["node-0", "node-1"]
    assert sorted(job for entry in held.values() for job in entry) == sorted(job for _, job in jobs)
    client.drain_worker(worker_id(client, "node-0"), now=True)
    wait_until("end of one slot", lambda: "node-0" not in names(client), 10)
    assert worker.process.poll() is None
    assert worker.terminate() < 6
    assert worker.process.returncode == 0
    assert {"node-0", "node-1"}.isdisjoint(names(client))
    for search_id, job_id in jobs:
        assert platform.read_job(job_id).charged == 0
        platform.cancel(search_id)

"""Bells wake idle workers; whatever becomes of a bell, no job is lost and none is done twice."""

from __future__ import annotations

import json
import os
import pickle
import time
from pathlib import Path
from typing import Any

import pytest

from services.common.messages import JOB, TASK, celery_app
from tests.support.brokers import Broker
from tests.support.processes import is_running
from tests.support.queue_platform import QueuePlatform
from tests.support.worker_platform import wait_until

pytestmark = pytest.mark.integration

QUICK = {"seconds": 0.01, "steps": 5}
LONG = {"seconds": 0.1, "steps": 3000}
RING_SECONDS = 6.0  # as in conftest.py: only then a second bell is sent for a job
AT_ONCE = 10.0  # far below the worker's own look every 300 s, also on a busy machine


def test_a_bell_wakes_an_idle_worker_again_and_again(platform: QueuePlatform) -> None:
    platform.start_listening_worker("woken", planted=QUICK)
    for _ in range(4):
        jobs = platform.queue()
        platform.check_done_once(jobs, AT_ONCE)


def test_a_bell_that_was_lost_is_sent_again(platform: QueuePlatform) -> None:
    platform.start_listening_worker("waiting", planted=QUICK)
    time.sleep(1.0)  # bells that the workers of other tests left behind come now
    jobs = platform.queue(rung=True)  # marked, and never sent: as after a kill between commit and send
    time.sleep(1.5)
    assert platform.read_job(jobs[0]).state == "queued"
    platform.check_done_once(jobs, 20)


def test_bells_that_come_twice_change_nothing(platform: QueuePlatform, broker: Broker) -> None:
    worker = platform.start_listening_worker("pestered", planted=QUICK)
    jobs = platform.queue(3)
    app = celery_app(broker.url)
    for _ in range(10):
        for job in jobs:
            app.send_task(TASK, kwargs={JOB: job}, queue="nasdet.any", retry=False)
    app.close()
    platform.check_done_once(jobs)
    platform.check_done_once(platform.queue(), AT_ONCE)
    assert is_running(worker.pid)


def test_two_searchers_ring_and_nothing_is_done_twice(platform: QueuePlatform) -> None:
    second = platform.start_searcher()
    try:
        platform.start_listening_worker("first", planted=QUICK)
        platform.start_listening_worker("second", planted=QUICK)
        platform.check_done_once(platform.queue(20))
    finally:
        second.kill()
        second.wait()


def test_a_busy_worker_does_not_keep_bells_from_an_idle_one(platform: QueuePlatform) -> None:
    """It took its job by itself when it started, so that no bell stands for it."""
    (long,) = platform.queue()
    busy = platform.start_listening_worker("busy", planted=LONG)
    platform.wait_running(long)
    idle = platform.start_listening_worker("idle", planted=QUICK)
    waits = []
    for _ in range(5):
        (job,) = platform.queue()
        platform.check_done_once([job], 20)
        row = platform.read_job(job)
        if row.rung_at is not None:
            waits.append(row.rung_at - row.created_at)
        time.sleep(0.5)  # the idle one has looked for more, and waits for a bell again
    assert waits, "no bell was needed"
    assert max(waits) < RING_SECONDS - 1, "one bell was not enough"
    assert platform.read_job(long).state == "running"
    assert "job.claimed" in idle.log
    assert busy.log.count("job.claimed") == 1


def test_a_worker_of_two_slots_is_woken_twice(platform: QueuePlatform) -> None:
    worker = platform.start_listening_worker("double", planted=LONG, NASDET_SLOTS="2")
    wait_until("both slots", lambda: worker.log.count("worker.registered") == 2, 30)
    jobs = platform.queue(2)
    for job in jobs:
        platform.wait_running(job, 20)
    assert platform.holder(jobs[0]) != platform.holder(jobs[1])
    assert worker.terminate() < 6
    assert worker.process.returncode == 0
    rows = [platform.read_job(job) for job in jobs]
    assert [(row.state, row.charged) for row in rows] == [("queued", 0)] * 2
    platform.start_listening_worker("after", planted=QUICK)
    platform.wait_ended(jobs)


def test_a_broker_that_is_killed_and_emptied_costs_no_job(platform: QueuePlatform, broker: Broker) -> None:
    slow = {"seconds": 0.05, "steps": 10}
    workers = [platform.start_listening_worker(name, planted=slow) for name in ("one", "two")]
    jobs = platform.queue(12)
    wait_until("some results", lambda: any(platform.read_job(job).state.ended for job in jobs), 20)
    broker.lose_everything()
    later = platform.queue(2)
    time.sleep(1.0)
    broker.start_again()
    platform.check_done_once([*jobs, *later], 60)
    platform.check_done_once(platform.queue(), 60)  # everybody has found the broker again
    assert all(is_running(worker.pid) for worker in workers)


def test_a_worker_without_its_broker_looks_by_itself(platform: QueuePlatform, broker: Broker) -> None:
    if broker.kind != "redis":
        pytest.skip("the same code for every broker")
    broker.lose_everything()
    try:
        worker = platform.start_worker("alone", planted=QUICK, NASDET_UNRUNG_POLL_SECONDS="0.5")
        wait_until("registration", lambda: "worker.registered" in worker.log, 30)
        platform.check_done_once(platform.queue(), AT_ONCE)
        started = time.monotonic()
        assert worker.terminate() < 6, time.monotonic() - started
        assert worker.process.returncode == 0
    finally:
        broker.start_again()


class Trap:
    """Unpickled it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


def test_what_strangers_write_into_the_queue_is_refused(
    platform: QueuePlatform, broker: Broker, tmp_path: Path
) -> None:
    worker = platform.start_listening_worker("careful", planted=QUICK)
    executor = worker.executor()
    sprung = tmp_path / "sprung"
    body = json.dumps([[], {}, {}]).encode()
    json_message = {"content_type": "application/json", "content_encoding": "utf-8"}
    for queue in ("nasdet.any", "nasdet.cpu"):
        for task in ("celery.chord_unlock", "os.system", "celery.backend_cleanup", TASK):
            broker.put_raw(queue, body, headers={"task": task, "id": "x"}, **json_message)
        broker.put_raw(queue, b'[[], {"job": "1; rm"}, {}]', headers={"task": TASK, "id": "y"}, **json_message)
        broker.put_raw(queue, b'[[7], {"job": 1}, {}]', headers={"task": TASK, "id": "z"}, **json_message)
        broker.put_raw(queue, b"{", headers={"task": TASK, "id": "w"}, **json_message)
        broker.put_raw(
            queue, pickle.dumps(([Trap(sprung)], {}, {})), headers={"task": TASK, "id": "p"},
            content_type="application/x-python-serialize", content_encoding="binary",
        )  # fmt: skip
        broker.put_raw(queue, pickle.dumps(Trap(sprung)))
        broker.put_raw(queue, b"\x00\xff no message at all")
    platform.check_done_once(platform.queue(), 60)
    platform.check_done_once(platform.queue(), 60)
    assert not sprung.exists()
    assert is_running(worker.pid)
    assert worker.executor() == executor

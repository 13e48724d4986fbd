"""Whole platforms with several searches: who gets the devices, and what a person's word does to it.

Real API, searcher, supervisors and executors; only the job functions compute next to nothing.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nasdet_client.local.embedded import Embedded
from nasdet_client.local.home import Home
from nasdet_client.sdk import NasdetClient

pytestmark = pytest.mark.integration

Json = dict[str, Any]
TRIALS = 40
SPECIFICATION: Json = {
    "schema": 1,
    "name": "steered",
    "dataset": "cells",
    "detector": {
        "backbone": {"space": "detnas-300m", "width": 0.25},
        "neck": {"model": "fpn", "channels": 16, "extra_levels": 0},
        "head": {"model": "fcos", "convs": 1, "norm_groups": 4},
    },
    "search": {"algorithm": "random", "trials": TRIALS},
    "final": {"epochs": 1, "seeds": 1, "control": False},
}


@contextmanager
def platform(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, workers: int, seconds: float, steps: int = 2
) -> Iterator[NasdetClient]:
    """One trial takes `seconds`, and so does one step of a training."""
    monkeypatch.setenv("NASDET_JOB_PLUGIN", "tests.support.planted_jobs")
    monkeypatch.setenv("NASDET_PLANTED", json.dumps({"seconds": seconds, "steps": steps}))
    monkeypatch.setenv("NASDET_DEVICE", "cpu")
    home = Home(folder / "home")
    (folder / "cells").mkdir()
    with Embedded(home, workers=workers, threads=1) as running, running.client() as client:
        home.register_dataset(folder / "cells")
        yield client


def submit(client: NasdetClient, seed: int, **more: Any) -> int:
    priority = more.pop("priority", 0)
    summary = client.submit_search({**SPECIFICATION, "seed": seed, **more}, priority=priority)
    return int(summary["search"]["id"])


def wait_for(client: NasdetClient, holds: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not happen: {client.searches()}, {client.jobs()}"
        time.sleep(0.05)


def succeeded(client: NasdetClient, search_id: int) -> int:
    return int(client.search(search_id)["trials"]["succeeded"])


def running_jobs(client: NasdetClient, search_id: int) -> list[Json]:
    return [job for job in client.jobs(search_id=search_id) if job["state"] == "running"]


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_two_equal_searches_get_half_of_the_evaluations_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    with platform(tmp_path, monkeypatch, workers=workers, seconds=0.04) as client:
        both = [submit(client, seed) for seed in (1, 2)]
        wait_for(client, lambda: sum(succeeded(client, one) for one in both) == 2 * TRIALS, "the end", 90)
        order = sorted(
            (event["id"], search_id)
            for search_id in both
            for event in client.events(search_id)
            if event["kind"] == "trial.succeeded"
        )
        # At the moment when either has everything it can get, the other one has nearly as much.
        first_done = max(index for index, (_, one) in enumerate(order) if one == order[-1][1])
        last_of_other = max(index for index, (_, one) in enumerate(order) if one != order[first_done][1])
        share = Counter(one for _, one in order[: last_of_other + 1])
        assert min(share.values()) / (last_of_other + 1) >= 0.4, share


def test_a_higher_priority_overtakes_within_one_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with platform(tmp_path, monkeypatch, workers=1, seconds=0.05) as client:
        slow = submit(client, 1)
        wait_for(client, lambda: succeeded(client, slow) >= 1, "the first result")
        urgent = submit(client, 2, priority=10)
        wait_for(client, lambda: client.search(urgent)["search"]["state"] == "succeeded", "the end of the urgent one")
        story = sorted(
            (event["id"], search_id, event["kind"], event["job"])
            for search_id in (slow, urgent)
            for event in client.events(search_id)
            if event["kind"] in ("job.queued", "job.claimed")
        )
        waiting: set[int] = set()
        overtaken = []
        for _, search_id, kind, job in story:
            if search_id == urgent:
                waiting ^= {job}  # queued, then claimed
            elif kind == "job.claimed" and waiting:
                overtaken.append(job)
        assert overtaken == [], "a job of the lower priority was handed out while one of the higher waited"


def test_pause_holds_within_one_job_and_resume_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with platform(tmp_path, monkeypatch, workers=2, seconds=0.05) as client:
        search_id = submit(client, 1)
        wait_for(client, lambda: succeeded(client, search_id) >= 1, "the first result")
        client.pause_search(search_id)
        events = client.events(search_id)
        paused = next(event["id"] for event in events if event["kind"] == "search.paused")
        wait_for(client, lambda: not running_jobs(client, search_id), "the end of what was running")
        time.sleep(1.5)  # several looks of idle workers
        after = [event["kind"] for event in client.events(search_id) if event["id"] > paused]
        assert "job.claimed" not in after
        assert client.search(search_id)["search"]["state"] == "paused"
        client.resume_search(search_id)
        wait_for(client, lambda: client.search(search_id)["search"]["state"] == "succeeded", "the end")
        assert succeeded(client, search_id) == TRIALS


def test_cancel_frees_the_device_within_five_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in the middle of a candidate that takes much longer than that."""
    with platform(tmp_path, monkeypatch, workers=1, seconds=60.0, steps=0) as client:
        search_id = submit(client, 1)
        wait_for(client, lambda: bool(running_jobs(client, search_id)), "a running job")
        wait_for(
            client,
            lambda: any(job["kind"] == "evaluate" for job in running_jobs(client, search_id)),
            "a running evaluation",
        )
        other = submit(client, 2)
        client.cancel_search(search_id)
        wait_for(client, lambda: bool(running_jobs(client, other)), "the next search's turn")
        # By the database's clock: from the word to the moment at which the worker had given the job back.
        told = {event["kind"]: event["created_at"] for event in client.events(search_id)}
        assert told["job.released"] - told["search.cancelled"] <= 5.0
        assert client.search(search_id)["search"]["state"] == "cancelled"
        attempts = [
            attempt
            for job in client.jobs(search_id=search_id)
            for attempt in client.job(job["id"])["attempts"]
            if job["kind"] == "evaluate"
        ]
        assert [attempt["outcome"] for attempt in attempts] == ["graceful"]


def test_a_budget_is_exceeded_by_at_most_one_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds, budget = 0.1, 2.5
    with platform(tmp_path, monkeypatch, workers=1, seconds=seconds) as client:
        search_id = submit(client, 1, budget={"gpu_hours": budget / 3600})
        wait_for(client, lambda: client.search(search_id)["search"]["state"] == "failed", "the end of the budget")
        wait_for(client, lambda: not running_jobs(client, search_id), "the end of what was running")
        jobs = [client.job(job["id"]) for job in client.jobs(search_id=search_id)]
        spent = [attempt["ended_at"] - attempt["started_at"] for job in jobs for attempt in job["attempts"]]
        assert budget <= sum(spent) <= budget + max(spent)
        assert "budget" in client.search(search_id)["search"]["reason"]
        assert 0 < succeeded(client, search_id) < TRIALS
        again = client.retry_search(search_id, gpu_hours=1)
        assert again["search"]["state"] == "running"
        wait_for(client, lambda: client.search(search_id)["search"]["state"] == "succeeded", "the end after the retry")
        assert succeeded(client, search_id) == TRIALS

"""What is done to the services in the middle of a search, and when."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.compose.stack import Stack

Summary = dict[str, Any]
DOWN_SECONDS = 5.0  # how long a killed service stays away


@dataclass(frozen=True, slots=True)
class Fault:
    """`is_due` looks at the search's summary; `strike` kills and brings back."""

    name: str
    is_due: Callable[[Summary], bool]
    strike: Callable[[Stack], None]


def kill(service: str) -> Callable[[Stack], None]:
    """`docker kill`, then `up -d` again."""

    def strike(stack: Stack) -> None:
        stack.kill(service)
        time.sleep(DOWN_SECONDS)
        stack.start(service)

    return strike


def kill_redis_and_forget(stack: Stack) -> None:
    """Every message is lost, and the broker's files with them."""
    stack.kill("redis")
    stack.forget_volume("redis", "redis")
    time.sleep(DOWN_SECONDS)
    stack.start("redis")


def in_job(kind: str, share: float) -> Callable[[Summary], bool]:
    """A job of this kind has done this share of its steps."""

    def is_due(summary: Summary) -> bool:
        for job in summary.get("progress", {}).get("jobs", []):
            progress = job["progress"] or {}
            done, total = progress.get("step", 0), progress.get("steps", 0)
            if job["kind"] == kind and total and done / total >= share:
                return True
        return False

    return is_due


def after_results(count: int) -> Callable[[Summary], bool]:
    """So many candidates have been scored, and not all of them."""

    def is_due(summary: Summary) -> bool:
        trials = summary["trials"]
        return summary["search"]["stage"] == "search" and bool(trials["succeeded"] >= count)

    return is_due


def in_stage(stage: str, kind: str) -> Callable[[Summary], bool]:
    """A job of this kind runs in this stage."""

    def is_due(summary: Summary) -> bool:
        jobs = summary.get("progress", {}).get("jobs", [])
        running = any(job["kind"] == kind and job["state"] == "running" for job in jobs)
        return bool(summary["search"]["stage"] == stage) and running

    return is_due


# Every service in turn; some twice or more, because they are hit in different work.
FAULTS = (
    Fault("worker killed while it trains the supernet", in_job("train_supernet", 0.15), kill("worker-cpu")),
    Fault("searcher killed while the supernet is trained", in_job("train_supernet", 0.4), kill("searcher")),
    Fault("postgres killed while the supernet is trained", in_job("train_supernet", 0.6), kill("postgres")),
    Fault("api killed between two results", after_results(2), kill("api")),
    Fault("redis killed and its volume deleted between two results", after_results(6), kill_redis_and_forget),
    Fault("worker killed while it scores candidates", after_results(10), kill("worker-cpu")),
    Fault("postgres killed between two results", after_results(14), kill("postgres")),
    Fault("searcher killed between two results", after_results(18), kill("searcher")),
    Fault("worker killed while it trains finalists", in_stage("finalists", "train_detector"), kill("worker-cpu")),
)

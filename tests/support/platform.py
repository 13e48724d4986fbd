"""An embedded platform under test: one search to its end, with faults at chosen moments."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from nasdet_client.local.embedded import Embedded
from nasdet_client.local.home import Home
from nasdet_client.sdk import NasdetClient
from nasdet_client.sdk.client import FINISHED_STATES
from services.common.settings import PROTOCOL, PROTOCOL_HEADER
from tests.support.processes import children, kill

Json = dict[str, Any]
POLL_S = 0.05


@dataclass(frozen=True)
class Fault:
    """Do `strike` to the platform as soon as `when` holds of the search's summary; faults happen in their order."""

    name: str
    when: Callable[[Json], bool]
    strike: Callable[[Embedded], None]


@dataclass
class Outcome:
    summary: Json
    struck: list[str] = field(default_factory=list)
    events: list[Json] = field(default_factory=list)
    jobs: list[Json] = field(default_factory=list)
    trials: list[Json] = field(default_factory=list)

    @property
    def comparable(self) -> Json:
        """What must be equal however often the platform was killed."""
        return {key: value for key, value in self.summary.items() if key != "timing_s"}

    @property
    def weights(self) -> dict[str, str]:
        """Hash of the weights of every training, by its purpose: equal weights, not only equal APs."""
        return {
            job["purpose"]: job["result"]["weights"] for job in self.jobs if (job.get("result") or {}).get("weights")
        }


def run_search(
    home: Path,
    dataset: Path,
    specification: Json,
    *,
    workers: int = 2,
    faults: Sequence[Fault] = (),
    timeout_s: float = 900.0,
) -> Outcome:
    """Run one search in a home, strike every fault on the way, and collect what the platform says afterwards."""
    folder = Home(home)
    waiting = list(faults)
    struck: list[str] = []
    deadline = time.monotonic() + timeout_s
    with Embedded(folder, workers=workers, threads=1) as platform, platform.client() as client:
        name = folder.register_dataset(dataset)
        submitted = client.submit_search({**specification, "dataset": name}, idempotency_key="under-test")
        search_id = int(submitted["search"]["id"])
        while True:
            summary = client.search(search_id)
            if summary["search"]["state"] in FINISHED_STATES:
                break
            if waiting and waiting[0].when(summary):
                fault = waiting.pop(0)
                fault.strike(platform)
                struck.append(fault.name)
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"the search did not end within {timeout_s:.0f} s: {summary['search']}, {summary.get('progress')}; "
                    f"faults still waiting: {[fault.name for fault in waiting]}; logs in {folder.logs}"
                )
            time.sleep(POLL_S)
        return _collect(client, search_id, summary, struck)


def _collect(client: NasdetClient, search_id: int, summary: Json, struck: list[str]) -> Outcome:
    jobs = [client.job(job["id"]) for job in client.jobs(search_id=search_id)]
    return Outcome(summary, struck, client.events(search_id), jobs, client.trials(search_id))


# --- moments ----------------------------------------------------------------------------------------------------------


def running_jobs(summary: Json, kind: str) -> list[Json]:
    return [
        job
        for job in (summary.get("progress") or {}).get("jobs", [])
        if job["kind"] == kind and job["state"] == "running"
    ]


def at_step(kind: str, share: float) -> Callable[[Json], bool]:
    """When some job of this kind has done this share of its steps."""

    def reached(summary: Json) -> bool:
        for job in running_jobs(summary, kind):
            progress = job.get("progress") or {}
            steps = progress.get("steps")
            if steps and share * steps <= progress.get("step", 0) < steps:
                return True
        return False

    return reached


def at_results(count: int) -> Callable[[Json], bool]:
    """When this many trials have a result while the search stage still runs."""

    def reached(summary: Json) -> bool:
        return bool(summary["search"]["stage"] == "search" and summary["trials"]["succeeded"] >= count)

    return reached


def in_evaluation(results: int = 0) -> Callable[[Json], bool]:
    """When a worker holds a list of candidates, and this many trials have a result."""
    enough = at_results(results)
    return lambda summary: enough(summary) and bool(running_jobs(summary, "evaluate"))


def at_second_attempt(kind: str) -> Callable[[Json], bool]:
    """When a job of this kind runs that was taken from somebody before, and has shown progress since."""
    return lambda summary: any(
        job["attempt"] > 1 and (job.get("progress") or {}).get("step") for job in running_jobs(summary, kind)
    )


# --- strikes ----------------------------------------------------------------------------------------------------------


def kill_process(name: str) -> Callable[[Embedded], None]:
    """kill -9 one of the platform's processes: api, searcher, worker-0, …"""

    def strike(platform: Embedded) -> None:
        pid = platform.processes().get(name)
        if pid is not None:
            kill(pid)

    return strike


def kill_workers(platform: Embedded) -> None:
    """kill -9 every supervisor."""
    for name, pid in platform.processes().items():
        if name.startswith("worker"):
            kill(pid)


def kill_executors(platform: Embedded) -> None:
    """kill -9 every executor; their supervisors live on."""
    for pid in executors(platform):
        kill(pid)


def executors(platform: Embedded) -> list[int]:
    supervisors = [pid for name, pid in platform.processes().items() if name.startswith("worker")]
    return [child for supervisor in supervisors for child in children(supervisor)]


def kill_searcher_repeatedly(rng: random.Random, times: int = 3) -> Callable[[Embedded], None]:
    """kill -9 the searcher at random moments, so that some hit it in the middle of a step."""

    def strike(platform: Embedded) -> None:
        for _ in range(times):
            kill_process("searcher")(platform)
            time.sleep(0.3 + rng.random())

    return strike


def freeze_workers(seconds: float) -> Callable[[Embedded], None]:
    """SIGSTOP every supervisor and executor past their leases, then let them go on: they come back too late."""

    def strike(platform: Embedded) -> None:
        supervisors = [pid for name, pid in platform.processes().items() if name.startswith("worker")]
        frozen = [*executors(platform), *supervisors]
        for pid in frozen:
            kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
        for pid in frozen:  # executors first: their late results come while the supervisors wake up
            kill(pid, signal.SIGCONT)

    return strike


def end_as_zombie(platform: Embedded) -> None:
    """Say what a worker says that lost its job and does not know: that its attempt failed. Nobody may listen."""
    token = platform.home.worker_token_file.read_text().strip()
    with platform.client() as client:
        jobs = [job for job in client.jobs() if job["state"] == "running" and job["attempt"] > 1]
    assert jobs, "no job runs that was taken from somebody before"
    for job in jobs:
        body = {
            "attempt": job["attempt"] - 1,
            "outcome": "failed",
            "reason": "a zombie",
            "result": {},
            "measurements": [],
        }
        url = f"{platform.url}/v1/jobs/{job['id']}/done"
        headers = {"Authorization": f"Bearer {token}", PROTOCOL_HEADER: str(PROTOCOL)}
        reply = httpx.post(url, json=body, headers=headers, trust_env=False, timeout=30)
        assert reply.status_code == 409, (job, reply.text)

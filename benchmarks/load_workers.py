"""A thousand workers over TCP, some of them killed: every job is finished exactly once.

    python -m benchmarks.load_workers [--workers 1000] [--seconds 600] [--killed 0.02]

The workers are simulated in a process of their own: each registers, claims, sends heartbeats when it is told to, lands
the results of its trials and ends its job, over HTTP and with its own connection. A killed one drops its connection in
the middle of a job and is never heard of again: its lease runs out, and a real searcher process takes the job back.
The end of the story is read from the event table.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import httpx
from sqlalchemy import select

from benchmarks.server import (
    Server,
    percentile,
    plant_search,
    plant_trials,
    print_json,
    result,
    running_server,
)
from services.common.db.models import Event
from services.common.db.repositories import JobRepository, SearchRepository
from services.common.db.states import JobKind
from services.common.settings import PROTOCOL

TRIALS_OF_A_JOB = 2
LEASE_SECONDS = 30.0
IDLE_SECONDS = 15.0  # between looks of a worker for which no bell rings


class Crew:
    """All simulated workers of one process, and what they saw."""

    def __init__(self, url: str, headers: Mapping[str, str], *, seconds: float, job_seconds: float) -> None:
        self.url = url
        self.headers = dict(headers)
        self.end = time.monotonic() + seconds
        self.job_seconds = job_seconds
        self.latencies: dict[str, list[float]] = {}
        self.statuses: Counter[str] = Counter()

    async def send(self, client: httpx.AsyncClient, name: str, path: str, body: object) -> Any:
        """Until there is an answer: an API that is busy or away is asked again. None where it was refused."""
        pause = 0.2
        while True:
            started = time.monotonic()
            try:
                response = await client.post(path, json=body)
            except httpx.TransportError as error:
                self.statuses[f"{name} {type(error).__name__}"] += 1
            else:
                self.latencies.setdefault(name, []).append(time.monotonic() - started)
                self.statuses[f"{name} {response.status_code}"] += 1
                if response.status_code < 500:
                    return response.json() if response.is_success and response.content else None
            await asyncio.sleep(pause)
            pause = min(2 * pause, 5.0)

    async def worker(self, number: int, killed_after: float | None) -> None:
        rng = random.Random(number)
        await asyncio.sleep(rng.random() * 20)  # they do not all start in one moment
        died_at = None if killed_after is None else time.monotonic() + killed_after
        limits = httpx.Limits(max_connections=1)
        async with httpx.AsyncClient(
            base_url=self.url, headers=self.headers, timeout=60, trust_env=False, limits=limits
        ) as client:
            body = {
                "name": f"w{number}", "incarnation": "a", "protocol": PROTOCOL, "device_class": "cpu",
                "device_name": "simulated",
            }  # fmt: skip
            me = await self.send(client, "register", "/v1/workers", body)
            claim = {"worker": me["id"], "incarnation": "a", "device_class": "cpu", "protocol": PROTOCOL}
            # Longer than planned, so that what the last killed ones held is taken back and done too.
            while time.monotonic() < self.end + 2 * LEASE_SECONDS:
                reply = await self.send(client, "claim", "/v1/jobs/claim", claim)
                job = reply["job"] if reply else None
                if job is None:
                    await asyncio.sleep(IDLE_SECONDS * (0.5 + rng.random()))
                elif not await self.work(client, job, rng, died_at):
                    return

    async def work(self, client: httpx.AsyncClient, job: Any, rng: random.Random, died_at: float | None) -> bool:
        """Do a job; False when the worker was killed in the middle of it."""
        attempt, path = job["attempt"], f"/v1/jobs/{job['id']}"
        beat_at = time.monotonic() + LEASE_SECONDS / 3
        for counter, trial in enumerate(job["trials"]):
            done_at = time.monotonic() + self.job_seconds / TRIALS_OF_A_JOB * (0.5 + rng.random())
            while time.monotonic() < done_at:
                if died_at is not None and time.monotonic() > died_at:
                    return False
                if time.monotonic() >= beat_at:
                    beat = {"attempt": attempt, "counter": counter, "progress": {"trial": trial["number"]}}
                    reply = await self.send(client, "heartbeat", f"{path}/heartbeat", beat)
                    if reply is None:
                        return True  # it was taken from us
                    beat_at = time.monotonic() + reply.get("heartbeat_seconds", LEASE_SECONDS / 3)
                await asyncio.sleep(max(0.05, min(beat_at, done_at) - time.monotonic()))
            body = {"attempt": attempt, "trial": trial["id"], **result(rng.random() / 2)}
            await self.send(client, "result", f"{path}/results", body)
        await self.send(client, "done", f"{path}/done", {"attempt": attempt, "outcome": "succeeded"})
        return True

    async def run(self, workers: int, killed: int, seconds: float) -> None:
        rng = random.Random(0)
        deaths = {number: (0.1 + 0.6 * rng.random()) * seconds for number in rng.sample(range(workers), killed)}
        await asyncio.gather(*(self.worker(number, deaths.get(number)) for number in range(workers)))
        print_json(
            {
                "workers": workers,
                "killed": killed,
                "statuses": dict(sorted(self.statuses.items())),
                "p50_ms": {n: round(1e3 * percentile(v, 0.5), 1) for n, v in self.latencies.items()},
                "p99_ms": {n: round(1e3 * percentile(v, 0.99), 1) for n, v in self.latencies.items()},
            }
        )


def play_workers(
    url: str, headers: Mapping[str, str], workers: int, killed: int, seconds: float, job_seconds: float
) -> None:
    crew = Crew(url, headers, seconds=seconds, job_seconds=job_seconds)
    asyncio.run(crew.run(workers, killed, seconds))


def tell(server: Server, search_id: int, trials: int, memory: list[float]) -> None:
    """The story as the events tell it."""
    ended: Counter[int] = Counter()
    finished: Counter[int] = Counter()
    kinds: Counter[str] = Counter()
    with server.database.read_session() as session:
        for event in session.scalars(select(Event).where(Event.search_id == search_id).order_by(Event.id)):
            kinds[event.kind] += 1
            if event.kind == "trial.succeeded":
                ended[event.trial_id or 0] += 1
            elif event.kind == "job.ended":
                finished[event.job_id or 0] += 1
    print_json(
        {
            "trials": trials,
            "lost": trials - len(ended),
            "counted_twice": sum(count > 1 for count in ended.values()),
            "jobs_ended": len(finished),
            "jobs_ended_twice": sum(count > 1 for count in finished.values()),
            "events": dict(kinds),
            "api_rss_mib_max": round(max(memory), 1),
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--killed", type=float, default=0.02, help="share of the workers")
    parser.add_argument("--job-seconds", type=float, default=60.0)
    given = parser.parse_args()
    # What the crew does in seven tenths of the time: the rest is for what was taken from the killed ones.
    jobs = int(0.7 * given.workers * given.seconds / given.job_seconds)
    with running_server(searcher=True, lease_seconds=LEASE_SECONDS) as server:
        planted = plant_search(server.database)
        with server.database.write_session() as session:
            SearchRepository(session).succeed(planted.search_id)  # so that the searcher only watches its leases
        ids = plant_trials(server.database, planted, jobs * TRIALS_OF_A_JOB)
        for start in range(0, len(ids), 200 * TRIALS_OF_A_JOB):
            with server.database.write_session() as session:
                for first in range(start, min(start + 200 * TRIALS_OF_A_JOB, len(ids)), TRIALS_OF_A_JOB):
                    JobRepository(session).create(
                        planted.search_id, JobKind.EVALUATE, f"evaluate/{first}", {},
                        supernet_id=planted.supernet_id, trials=ids[first : first + TRIALS_OF_A_JOB],
                    )  # fmt: skip
        print_json({"jobs": jobs, "trials": len(ids), "seconds": given.seconds})
        crew = multiprocessing.get_context("spawn").Process(
            target=play_workers,
            args=(
                server.url, server.headers("worker-token"), given.workers, round(given.killed * given.workers),
                given.seconds, given.job_seconds,
            ),
        )  # fmt: skip
        crew.start()
        memory = [server.rss_mib()]
        while crew.is_alive():
            memory.append(server.rss_mib())
            crew.join(2)
        tell(server, planted.search_id, len(ids), memory)


if __name__ == "__main__":
    main()

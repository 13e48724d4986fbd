"""A search of 100,000 trials on Postgres, polled by 20 dashboards while 50 results a second land.

    python -m benchmarks.load_api [--trials 100000] [--clients 20] [--rate 50] [--seconds 60]

Each client asks for the list of searches, the front and the changes every two seconds, with the ETags it knows, from
one process; another process plays the workers. Prints latencies as the clients see them, the API's memory, and what a
304 costs beside a 200 (CPU seconds of the API process, one client, nothing else going on).
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import time
from collections import defaultdict
from collections.abc import Mapping

import httpx
from sqlalchemy import update

from benchmarks.server import (
    Planted,
    Server,
    percentile,
    plant_search,
    plant_trials,
    print_json,
    result,
    running_server,
)
from services.common.db.models import Measurement, Trial
from services.common.db.repositories import JobRepository
from services.common.db.session import Database
from services.common.db.standings import comparable_under, rank
from services.common.db.states import JobKind, WorkState
from services.common.settings import PROTOCOL

EVERY_SECONDS = 2.0
LIST_LENGTH = 500  # trials of one job
IDLE_REQUESTS = 1500
BATCH = 1000


def plant_scored(database: Database, planted: Planted, ids: list[int]) -> None:
    """As if these trials had been scored, through the same tables that landing a result fills."""
    protocol = comparable_under("p" * 64, {"images": 100})
    with database.write_session() as session:
        job = JobRepository(session).create(
            planted.search_id, JobKind.EVALUATE, "evaluate/planted", {}, supernet_id=planted.supernet_id
        )
        job.state = WorkState.SUCCEEDED
        job_id = job.id
    for start in range(0, len(ids), BATCH):
        batch = ids[start : start + BATCH]
        with database.write_session() as session:
            for trial_id in batch:
                value = ((trial_id * 2654435761) % 1_000_003) / 2_000_006
                session.execute(
                    update(Trial)
                    .where(Trial.id == trial_id)
                    .values(
                        state=WorkState.SUCCEEDED, value=value, protocol=protocol, job_id=job_id, finished_at=1.0,
                        seconds={"score": 1.0},
                    )
                )  # fmt: skip
                session.add(
                    Measurement(
                        **planted.owner.columns(), search_id=planted.search_id, trial_id=trial_id,
                        architecture_id=f"a{trial_id}", metric="box_map", split="val", protocol_hash="p" * 64,
                        fidelity={"images": 100}, device_class="cpu", value=value, standard_error=0.01,
                        jackknife=[value] * 8, dataset_version_id=planted.dataset_version_id,
                        supernet_digest="e" * 64, job_id=job_id, attempt=1,
                    )
                )  # fmt: skip
            session.flush()
            rank(session, [(trial_id, 100) for trial_id in batch])


def write_results(url: str, headers: Mapping[str, str], rate: float, seconds: float, trials: int) -> None:
    """Play workers: claim lists and land `rate` results a second."""
    asyncio.run(_write(url, headers, rate, seconds, trials))


async def _write(url: str, headers: Mapping[str, str], rate: float, seconds: float, trials: int) -> None:
    async with httpx.AsyncClient(base_url=url, headers=dict(headers), timeout=30, trust_env=False) as client:
        body = {
            "name": "writer", "incarnation": "a", "protocol": PROTOCOL, "device_class": "cpu", "device_name": "load"
        }  # fmt: skip
        worker = (await client.post("/v1/workers", json=body)).raise_for_status().json()["id"]
        claim = {"worker": worker, "incarnation": "a", "device_class": "cpu", "protocol": PROTOCOL}
        latencies: list[float] = []
        pending: set[asyncio.Task[None]] = set()
        started = time.monotonic()
        landed = 0
        while time.monotonic() - started < seconds:
            job = (await client.post("/v1/jobs/claim", json=claim)).raise_for_status().json()["job"]
            if job is None:
                break
            for trial in job["trials"]:
                delay = started + landed / rate - time.monotonic()
                if delay > 0:
                    await asyncio.sleep(delay)
                value = ((trial["id"] * 40503) % 10_007) / 20_014
                landed += 1
                send = {"attempt": job["attempt"], "trial": trial["id"], **result(value)}
                task = asyncio.create_task(_land(client, job["id"], send, latencies))
                pending.add(task)
                task.add_done_callback(pending.discard)
                if time.monotonic() - started > seconds:
                    break
            await asyncio.gather(*pending)
            if time.monotonic() - started < seconds:
                done = {"attempt": job["attempt"], "outcome": "succeeded"}
                (await client.post(f"/v1/jobs/{job['id']}/done", json=done)).raise_for_status()
        spent = time.monotonic() - started
        print_json(
            {
                "results_landed": len(latencies), "of_trials": trials,
                "results_per_s": round(len(latencies) / spent, 1),
                "land_ms_p50": round(1e3 * percentile(latencies, 0.5), 1),
                "land_ms_p99": round(1e3 * percentile(latencies, 0.99), 1),
            }
        )  # fmt: skip


async def _land(client: httpx.AsyncClient, job_id: int, body: object, latencies: list[float]) -> None:
    started = time.monotonic()
    (await client.post(f"/v1/jobs/{job_id}/results", json=body)).raise_for_status()
    latencies.append(time.monotonic() - started)


async def poll(server: Server, search_id: int, clients: int, seconds: float) -> None:
    """`clients` dashboards, each with a connection of its own, spread evenly over the two seconds."""
    latencies: dict[str, list[float]] = defaultdict(list)
    statuses: dict[str, int] = defaultdict(int)
    end = time.monotonic() + seconds
    memory = [server.rss_mib()]
    await asyncio.gather(
        *(_dashboard(server, search_id, n / clients * EVERY_SECONDS, end, latencies, statuses) for n in range(clients)),
        _watch_memory(server, end, memory),
    )
    everything = [value for values in latencies.values() for value in values]
    print_json(
        {
            "clients": clients,
            "requests": len(everything),
            "statuses": dict(statuses),
            "p50_ms": round(1e3 * percentile(everything, 0.5), 1),
            "p99_ms": round(1e3 * percentile(everything, 0.99), 1),
            "max_ms": round(1e3 * max(everything), 1),
            "p99_ms_by_route": {name: round(1e3 * percentile(values, 0.99), 1) for name, values in latencies.items()},
            "api_rss_mib_max": round(max(memory), 1),
        }
    )


async def _watch_memory(server: Server, end: float, memory: list[float]) -> None:
    while time.monotonic() < end:
        memory.append(server.rss_mib())
        await asyncio.sleep(1)


async def _dashboard(
    server: Server,
    search_id: int,
    delay: float,
    end: float,
    latencies: dict[str, list[float]],
    statuses: dict[str, int],
) -> None:
    await asyncio.sleep(delay)
    headers = server.headers("token")
    tags: dict[str, str] = {}
    after = 0
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=30, trust_env=False) as client:
        turn = time.monotonic()
        while turn < end:
            for name in ("list", "front", "changes"):
                path = {
                    "list": "/v1/searches",
                    "front": f"/v1/searches/{search_id}/front",
                    "changes": f"/v1/searches/{search_id}/events?after={after}&limit=500",
                }[name]
                known = {"If-None-Match": tags[name]} if name in tags else {}
                started = time.monotonic()
                response = await client.get(path, headers=known)
                latencies[name].append(time.monotonic() - started)
                statuses[f"{name} {response.status_code}"] += 1
                if response.status_code == 200:
                    tags[name] = response.headers["etag"]
                    if name == "changes" and response.json()["items"]:
                        after = response.json()["items"][-1]["id"]
            turn += EVERY_SECONDS
            await asyncio.sleep(max(0.0, turn - time.monotonic()))


def cost_of_304(server: Server, search_id: int) -> None:
    """CPU seconds of the API process for the same requests, answered in full and with 304."""
    costs = {}
    for path in ("/v1/searches", f"/v1/searches/{search_id}", f"/v1/searches/{search_id}/front",
                 f"/v1/searches/{search_id}/trials", f"/v1/searches/{search_id}/events"):  # fmt: skip
        with httpx.Client(base_url=server.url, headers=server.headers("token"), timeout=60, trust_env=False) as client:
            tag = client.get(path).headers["etag"]
            spent = {}
            for status, known in ((200, {}), (304, {"If-None-Match": tag})):
                before = server.cpu_seconds()
                for _ in range(IDLE_REQUESTS):
                    assert client.get(path, headers=known).status_code == status
                spent[status] = (server.cpu_seconds() - before) / IDLE_REQUESTS
        costs[path.rpartition("/")[2] if path.count("/") > 3 else path.replace("/v1/", "")] = {
            "200_ms": round(1e3 * spent[200], 2),
            "304_ms": round(1e3 * spent[304], 2),
            "ratio": round(spent[200] / spent[304], 1),
        }
    print_json({"cpu_of_200_beside_304": costs})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    to_land = int(given.rate * given.seconds * 1.2)
    with running_server(lease_seconds=600) as server:
        planted = plant_search(server.database)
        ids = plant_trials(server.database, planted, given.trials)
        plant_scored(server.database, planted, ids[:-to_land])
        with server.database.write_session() as session:
            for start in range(0, to_land, LIST_LENGTH):
                JobRepository(session).create(
                    planted.search_id, JobKind.EVALUATE, f"evaluate/{start}", {"load": True},
                    supernet_id=planted.supernet_id, trials=ids[len(ids) - to_land :][start : start + LIST_LENGTH],
                )  # fmt: skip
        with server.database.engine.connect() as connection:
            connection.exec_driver_sql("ANALYZE")
        print_json({"trials": len(ids), "scored": len(ids) - to_land, "api_rss_mib_idle": round(server.rss_mib(), 1)})
        writer = multiprocessing.get_context("spawn").Process(
            target=write_results,
            args=(server.url, server.headers("worker-token"), given.rate, given.seconds, len(ids)),
        )
        writer.start()
        asyncio.run(poll(server, planted.search_id, given.clients, given.seconds))
        writer.join()
        cost_of_304(server, planted.search_id)


if __name__ == "__main__":
    main()

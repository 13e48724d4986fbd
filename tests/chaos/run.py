"""`python -m tests.chaos.run --store postgres [--seed N] [--seconds S] [--folder DIR]`: searches under chaos.

Whole searches go through the real searcher, API, supervisors and executors; only the job functions are a test's. For
`seconds` faults come one after another; then everything heals, the searches end, and the checker reads the events.
The last line says what came out. Exit 0: nothing was lost or counted twice; 1: something was; the folder that the
line before names has the logs and the events.
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import select

from services.common.db.models import Event, Trial
from services.common.db.session import DATABASE_AWAY
from services.common.db.states import WorkState
from services.common.settings import PROTOCOL, PROTOCOL_HEADER
from services.common.specification import parse_specification, resolve
from tests.chaos.checker import Poison, Verdict, check
from tests.chaos.crew import DATASET, Crew
from tests.chaos.faults import Faults
from tests.support.planted_jobs import CLASSES
from tests.support.servers import started_postgres, started_redis

WORKERS = 4
LEASE_SECONDS = 3.0
MAX_CRASHES = 6
FEWEST_TRIALS = 200
RUNNING_SEARCHES = 3  # as long as faults come
DRAIN_SECONDS = 120.0
LOOK_SECONDS = 0.05
STALE_AT_ONCE = 20  # stale results that are sent as soon as there is a job for them; later ones come seldom
STALE_SECONDS = 1.0
PLAN: dict[str, Any] = {"seconds": 0.1, "steps": 5}  # of the planted jobs
Json = dict[str, Any]


def specification(number: int, seed: int) -> Json:
    """Of the chaos run's search: random ones, and every third by generations. Two in turn share a supernet."""
    algorithm = {"algorithm": "detnas", "population": 20, "generations": 3, "parents": 5}
    return {
        "schema": 1,
        "name": f"chaos-{number}",
        "dataset": DATASET,
        "detector": {
            "backbone": {"space": "detnas-300m", "width": 0.5},
            "neck": {"model": "fpn", "channels": 64},
            "head": {"model": "fcos"},
        },
        "supernet": {"epochs": 1, "image_size": [64, 64]},
        "search": algorithm if number % 3 == 2 else {"algorithm": "random", "trials": 70},
        "final": {"epochs": 1, "top": 1},
        "seed": seed % 1000 * 1000 + (number + 1) // 2,
    }


def poisoned(seed: int) -> tuple[int, tuple[int, ...]]:
    """Number and genotype of the candidate of search 0 that kills its executor."""
    algorithm = resolve(parse_specification(specification(0, seed)), len(CLASSES)).algorithm()
    number = random.Random(f"poison {seed}").randrange(10, 50)
    genotypes: list[tuple[int, ...]] = []
    for index in range(number + 1):
        genotypes.append(algorithm.ask(index, genotypes).genotype)
    return number, genotypes[number]


@dataclass
class Chaos:
    """One run on one store."""

    crew: Crew
    faults: Faults
    seed: int
    seconds: float

    def __post_init__(self) -> None:
        self.submitted: list[int] = []  # ids; a database that was killed leaves gaps
        self.stale_refused = 0
        self.stale_accepted = 0
        self._stale_at = 0.0
        self.phases: dict[str, float] = {}
        self._http = httpx.Client(base_url=self.crew.proxy.url, trust_env=False, timeout=2)

    def run(self) -> None:
        """To the end of every search; raises TimeoutError when they do not end."""
        began = time.monotonic()
        self._start()
        self.phases["start"] = time.monotonic() - began
        pauses = random.Random(f"pauses {self.seed}")
        began = time.monotonic()
        strike_at = began + 0.5
        while time.monotonic() < began + self.seconds or self.faults.missing():
            self._tend()
            if time.monotonic() >= strike_at:
                self.faults.strike()
                strike_at = time.monotonic() + pauses.uniform(0.25, 0.9)
            self._send_stale()
            if len(set(self.submitted) - self._ended()) < RUNNING_SEARCHES:
                self._submit()
        self.phases["faults"] = time.monotonic() - began
        self.faults.heal_due(all_of_them=True)
        began = time.monotonic()
        self._drain(began + DRAIN_SECONDS)
        self.phases["drain"] = time.monotonic() - began

    def _start(self) -> None:
        """Each searcher takes the first step of a search while there is no other one."""
        self.crew.start_apis()
        self.crew.start_workers(WORKERS)
        for index in range(2):
            for other in self.crew.named("searcher"):
                assert other.process is not None
                other.process.kill()
                other.due = float("inf")
            self.crew.start_searcher(index)
            search_id = self._submit()
            self._until(f"first step of searcher {index}", partial(self._has_jobs, search_id))
        for searcher in self.crew.named("searcher"):
            searcher.due = 0.0

    def _drain(self, deadline: float) -> None:
        while left := set(self.submitted) - self._ended():
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"searches {sorted(left)} did not end within {DRAIN_SECONDS:g} s after the last fault"
                )
            self._tend()
            self._send_stale()

    def _tend(self) -> None:
        self.faults.heal_due()
        self.crew.look_after()
        time.sleep(LOOK_SECONDS)

    def _until(self, what: str, done: Any, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                raise TimeoutError(f"no {what} within {seconds:g} s")
            self._tend()

    # what a client does

    def _submit(self) -> int:
        """Through the proxy, again and again until somebody says yes: one key is one search."""
        body = specification(len(self.submitted), self.seed)
        token = (self.crew.home / "token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": body["name"]}
        deadline = time.monotonic() + 60
        while True:
            try:
                reply = self._http.post("/v1/searches", json=body, headers=headers)
                if reply.is_success:
                    self.submitted.append(int(reply.json()["search"]["id"]))
                    return self.submitted[-1]
                if reply.status_code < 500:
                    raise RuntimeError(f"the API refused a search: {reply.status_code} {reply.text}")
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
            self._tend()

    # what a worker does that does not know that its lease is gone

    def _send_stale(self) -> None:
        """A result of an attempt whose job somebody else holds by now; often at first, so that every run has some."""
        if time.monotonic() < self._stale_at:
            return
        try:
            with self.crew.database.read_session() as session:
                running = session.execute(
                    select(Trial.id, Trial.job_id, Event.attempt)
                    .join(Event, (Event.job_id == Trial.job_id) & (Event.kind == "job.claimed") & (Event.attempt > 1))
                    .where(Trial.state == WorkState.RUNNING)
                    .order_by(Event.id.desc())
                    .limit(1)
                ).first()
        except DATABASE_AWAY:
            return
        if running is None:
            return
        self._stale_at = time.monotonic() + (0.0 if self.stale_refused < STALE_AT_ONCE else STALE_SECONDS)
        trial, job, attempt = running
        body = {"attempt": int(attempt or 0) - 1, "trial": trial, "state": "succeeded", "value": 0.0}
        token = (self.crew.home / "worker-token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}", PROTOCOL_HEADER: str(PROTOCOL)}
        try:
            reply = self._http.post(f"/v1/jobs/{job}/results", json=body, headers=headers)
        except httpx.TransportError:
            return
        if reply.status_code == 409:
            self.stale_refused += 1
        elif reply.is_success:
            self.stale_accepted += 1

    # what is seen

    def _ended(self) -> set[int]:
        try:
            with self.crew.database.read_session() as session:
                ends = ("search.succeeded", "search.failed", "search.cancelled")
                return {n for n in session.scalars(select(Event.search_id).where(Event.kind.in_(ends))) if n}
        except DATABASE_AWAY:
            return set()

    def _has_jobs(self, search_id: int) -> bool:
        with self.crew.database.read_session() as session:
            queued = select(Event.id).where(Event.search_id == search_id, Event.kind == "job.queued")
            return session.scalar(queued.limit(1)) is not None

    def events(self) -> list[Json]:
        """A copy of the event table."""
        columns = ("id", "kind", "search_id", "trial_id", "job_id", "attempt", "data")
        with self.crew.database.read_session() as session:
            return [
                {name: getattr(event, name) for name in columns}
                for event in session.scalars(select(Event).order_by(Event.id))
            ]


def report(chaos: Chaos, store: str, verdict: Verdict) -> str:
    """The last line."""
    return (
        f"chaos seed={chaos.seed} store={store} faults={sum(chaos.faults.struck.values())} trials={verdict.trials} "
        f"lost={verdict.lost} counted_twice={verdict.counted_twice} fenced={verdict.fenced} "
        f"poison_attempts={verdict.poison_attempts}"
    )


def judge(chaos: Chaos, events: list[Json], poison_number: int) -> Verdict:
    """The checker's verdict, and whether the run was what it should have been: everybody worked, enough was done."""
    verdict = check(events, Poison(chaos.submitted[0], poison_number, MAX_CRASHES))
    if verdict.trials < FEWEST_TRIALS:
        verdict.problems.append(f"only {verdict.trials} trials were proposed, {FEWEST_TRIALS} are a run")
    if verdict.fenced == 0:
        verdict.problems.append("no stale result was refused and audited")
    if len(chaos.crew.proxy.requests) < len(chaos.crew.api_ports):
        verdict.problems.append(f"an API had no request: {dict(chaos.crew.proxy.requests)}")
    workers = {event["data"]["worker"] for event in events if event["kind"] == "job.claimed"}
    if len(workers) < WORKERS:
        verdict.problems.append(f"only {sorted(workers)} claimed jobs")
    return verdict


def run(store: str, seed: int, seconds: float, folder: Path) -> tuple[str, list[str]]:
    """(last line, problems). Logs and events are in `folder` afterwards."""
    number, genotype = poisoned(seed)
    environment = {
        "NASDET_LEASE_SECONDS": str(LEASE_SECONDS),
        "NASDET_MAX_CRASHES": str(MAX_CRASHES),
        "NASDET_POLL_SECONDS": "0.2",
        "NASDET_UNRUNG_POLL_SECONDS": "1",
        "NASDET_RING_SECONDS": "1",
    }
    plan = {**PLAN, "faults": [{"genotype": list(genotype), "fault": "die"}]}
    with ExitStack() as stack:
        postgres = stack.enter_context(started_postgres(fsync=True)) if store == "postgres" else None
        redis = stack.enter_context(started_redis()) if store == "postgres" else None
        crew = stack.enter_context(
            Crew(folder, postgres=postgres, redis=redis, seed=seed, environment=environment, plan=plan)
        )
        chaos = Chaos(crew, Faults(crew, seed, lease_seconds=LEASE_SECONDS), seed, seconds)
        problems = []
        try:
            chaos.run()
        except TimeoutError as error:
            problems.append(str(error))
        events = chaos.events()
        (folder / "events.json").write_text(json.dumps(events, indent=0))
        verdict = judge(chaos, events, number)
        sys.stdout.write(
            f"faults: {dict(sorted(chaos.faults.struck.items()))}; by the proxy: {dict(crew.proxy.faults)}; "
            f"stale results sent: {chaos.stale_refused} refused, {chaos.stale_accepted} accepted; "
            f"claims: {verdict.claims}; searches: {len(chaos.submitted)}; "
            f"seconds: { ({name: round(value, 1) for name, value in chaos.phases.items()}) }\n"
        )
        return report(chaos, store, verdict), problems + verdict.problems


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description=__doc__)
    parser.add_argument("--store", choices=("postgres", "sqlite"), required=True)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000), help="default: drawn; it is printed")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long faults come")
    parser.add_argument("--folder", type=Path, help="for logs and events; default: a new one, kept when it fails")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="nasdet-chaos-"))
    last, problems = run(given.store, given.seed, given.seconds, folder)
    if problems:
        sys.stdout.write(
            "\n".join([*problems[:50], f"logs and events are in {folder}; seed {given.seed}", last]) + "\n"
        )
        return 1
    if given.folder is None:
        shutil.rmtree(folder)
    sys.stdout.write(last + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

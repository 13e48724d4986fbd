"""A whole search in one process: real rows and steps, and workers whose scores are made up. No torch.

The workers call the same repository functions that the API calls for a real one, a transaction at a time, and
their numbers are a pure function of what was measured. So the JSON of a search must not hang on who did what, when.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import update

from services.common.db.models import Job, JsonDict
from services.common.db.repositories import (
    DatasetRepository,
    JobRepository,
    SearchRepository,
    TokenRepository,
    TrialRepository,
)
from services.common.db.repositories.searches import NewSearch
from services.common.db.session import Database
from services.common.db.states import JobKind, SearchState, WorkState
from services.common.db.types import db_now
from services.common.specification import check_at_submit, parse_specification
from services.common.summary import build_summary
from services.searcher.stages import step
from tests.support.stores import digest_of, new_worker, uploaded

GROUPS = 6  # of the made-up leave-one-group-out values
CLASSES = ["a", "b", "c"]
MOST_ROUNDS = 2000

SPEC: JsonDict = {
    "schema": 1,
    "name": "cells",
    "dataset": "cells",
    "detector": {
        "backbone": {"space": "detnas-300m", "width": 0.5},
        "neck": {"model": "fpn", "channels": 64},
        "head": {"model": "fcos"},
    },
    "limits": [{"metric": "macs", "part": "backbone", "image_size": [224, 224], "max": 80e6}],
    "supernet": {"epochs": 2, "image_size": [96, 128]},
    "search": {"algorithm": "detnas", "population": 6, "generations": 3, "parents": 3},
    "final": {"epochs": 1, "seeds": 3},
    "seed": 0,
}


def unit(*what: object) -> float:
    """A number in 0..1 that hangs on `what` alone."""
    digest = hashlib.sha256(repr(what).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def measurement(value: float, split: str, metric: str = "box_map", noise: float = 0.004) -> JsonDict:
    leave_out = [value + noise * (unit(value, group) - 0.5) for group in range(GROUPS)]
    return {
        "metric": metric,
        "split": split,
        "value": value,
        "standard_error": 0.008,
        "jackknife": leave_out,
        "protocol_hash": digest_of("protocol"),
        "fidelity": {"images": 40},
        "device_class": "cpu",
        "supernet_digest": digest_of("weights"),
    }


def fitness(genotype: list[int]) -> float:
    """Made-up AP of a candidate: choice 2 is good, and there is some noise. Rounded, so that some are equal."""
    return round(0.3 + 0.004 * sum(choice == 2 for choice in genotype) + 0.02 * unit("fitness", genotype), 2)


class Installation:
    """A home with one search in it, and somebody who takes its steps."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.search_id = 0

    @property
    def url(self) -> str:
        """Of its database, for whoever wants connections of their own."""
        return self.database.engine.url.render_as_string(hide_password=False)

    def submit(self, **changes: Any) -> int:
        body = {**SPEC, **changes}
        specification = parse_specification(body)
        check_at_submit(specification)
        with self.database.write_session() as session:
            owner = TokenRepository(session).ensure_owner("operator")
            dataset, _ = DatasetRepository(session).get_or_create(owner, specification.dataset)
            search, _ = SearchRepository(session).create(
                owner,
                NewSearch(
                    name=specification.name,
                    spec=specification.to_json(),
                    seed=specification.seed,
                    dataset_id=dataset.id,
                    request_digest=digest_of(repr(body)),
                ),
            )
        self.search_id = search.id
        return search.id

    def step(self, search_id: int | None = None) -> None:
        with self.database.write_session() as session:
            step(session, search_id or self.search_id)

    def summary(self, search_id: int | None = None) -> dict[str, Any]:
        with self.database.read_session() as session:
            return build_summary(session, SearchRepository(session).get(search_id or self.search_id))

    def result(self, search_id: int | None = None) -> dict[str, Any]:
        """The summary without what may differ between two runs."""
        return {key: value for key, value in self.summary(search_id).items() if key not in ("timing_s", "progress")}

    def state(self, search_id: int | None = None) -> SearchState:
        with self.database.read_session() as session:
            return SearchRepository(session).get(search_id or self.search_id).state

    def jobs(self, kind: JobKind | None = None) -> list[Job]:
        with self.database.read_session() as session:
            found = JobRepository(session).of_search(self.search_id)
        return [job for job in found if kind in (None, job.kind)]

    def run(self, *workers: FakeWorker) -> dict[str, Any]:
        """Step and work in turns until the search ends."""
        crew = workers or (FakeWorker(self.database),)
        for _ in range(MOST_ROUNDS):
            self.step()
            if self.state() is not SearchState.RUNNING:
                return self.result()
            for worker in crew:
                worker.advance()
        raise AssertionError(f"the search did not end: {self.summary()}")

    def run_until(self, condition: Callable[[], bool], *workers: FakeWorker) -> None:
        for _ in range(MOST_ROUNDS):
            self.step()
            if condition():
                return
            for worker in workers:
                worker.advance()
        raise AssertionError(f"it never came so far: {self.summary()}")


class FakeWorker:
    """Does one transaction of its job at a time. `order` shuffles a list; `break_job` ends jobs badly."""

    def __init__(
        self,
        database: Database,
        name: str = "worker-0",
        *,
        order: random.Random | None = None,
        break_job: Callable[[Job], str | None] = lambda _job: None,
        trial_state: Callable[[int], str] = lambda _number: "succeeded",
    ) -> None:
        self.database = database
        self.name = name
        self.order = order
        self.break_job = break_job
        self.trial_state = trial_state
        self.incarnation = 0
        self.job: Job | None = None  # what it holds
        self._work: Iterator[None] | None = None
        self._register()

    def _register(self) -> None:
        with self.database.write_session() as session:
            self.id = new_worker(session, self.name, str(self.incarnation))

    def advance(self) -> None:
        """One transaction: a claim, a result, or an end."""
        if self._work is None:
            self._work = self._one_job()
        if next(self._work, self) is self:
            self._work = self.job = None

    def die(self, *, by_lease: bool = False) -> None:
        """`kill -9`: what it held comes back by a new start under its name, or by its lease running out."""
        self._work = self.job = None
        if by_lease:
            with self.database.write_session() as session:
                held = update(Job).where(Job.worker_id == self.id, Job.state == WorkState.RUNNING)
                session.execute(held.values(lease_expires_at=db_now() - 1.0))
                JobRepository(session).reap()
        else:
            self.incarnation += 1
            self._register()

    def _one_job(self) -> Iterator[None]:
        with self.database.write_session() as session:
            job = self.job = JobRepository(session).claim(self.id, "cpu", [])
        yield
        if job is None:
            return
        reason = self.break_job(job)
        if reason is not None:
            self._done(job, WorkState.FAILED, {}, reason=reason)
        elif job.kind is JobKind.EVALUATE:
            yield from self._evaluate(job)
            self._done(job, WorkState.SUCCEEDED, {})
        elif job.kind is JobKind.CHECK_DATASET:
            self._done(job, WorkState.SUCCEEDED, self._checked(job))
        elif job.kind is JobKind.TRAIN_SUPERNET:
            measured = [measurement(0.36, "val")] if job.payload["role"] == "baseline" else []
            self._done(job, WorkState.SUCCEEDED, {"weights": self._weights(job)}, measured)
        else:
            self._done(job, WorkState.SUCCEEDED, {"weights": self._weights(job)}, _final_measurements(job))

    def _evaluate(self, job: Job) -> Iterator[None]:
        with self.database.read_session() as session:
            trials = list(TrialRepository(session).open_of_job(job.id))
        if self.order is not None:
            self.order.shuffle(trials)
        for trial in trials:
            value = fitness(trial.genotype)
            state = self.trial_state(trial.number)
            good = state == "succeeded"
            payload = {
                "state": state,
                "reason": None if good else f"made to be {state}",
                "value": value if good else None,
                "measurements": [measurement(value, "val")] if good else [],
                "seconds": {"inference": 1.0},
            }
            with self.database.write_session() as session:
                JobRepository(session).land_result(job.id, job.attempt, trial.id, payload)
            yield

    def _done(
        self,
        job: Job,
        outcome: WorkState,
        result: JsonDict,
        measured: list[JsonDict] | None = None,
        *,
        reason: str | None = None,
    ) -> None:
        with self.database.write_session() as session:
            JobRepository(session).done(job.id, job.attempt, outcome, result, reason, measurements=measured or [])

    def _checked(self, job: Job) -> JsonDict:
        return {
            "digest": digest_of("dataset"),
            "manifest": self._upload("manifest"),
            "archive": job.payload.get("archive"),
            "class_names": CLASSES,
            "splits": {"train": 100, "search": 40, "report": 40},
            "split_names": {"search": "val", "report": "test"},
            "report": {},
        }

    def _weights(self, job: Job) -> str:
        return self._upload(f"weights of {sorted(job.payload.items())}")

    def _upload(self, text: str) -> str:
        with self.database.write_session() as session:
            return uploaded(session, TokenRepository(session).ensure_owner("workers"), text)


def _final_measurements(job: Job) -> list[JsonDict]:
    start = job.payload["start"]
    value = 0.4 + 0.02 * unit(job.payload["role"], start and start["genotype"], job.payload["seed"])
    return [measurement(value, "test"), measurement(value + 0.2, "test", "box_ap50")]

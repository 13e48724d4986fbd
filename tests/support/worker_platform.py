"""An API process on a real SQLite home, and real workers beside it; the searcher's part is played by the test."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
from sqlalchemy import select

from services.common.db.models import Event, Job, JobAttempt, Trial
from services.common.db.repositories.datasets import DatasetRepository
from services.common.db.repositories.jobs import JobRepository
from services.common.db.repositories.searches import NewSearch, SearchRepository
from services.common.db.repositories.tokens import TokenRepository
from services.common.db.repositories.trials import NewTrial, TrialRepository
from services.common.db.session import Database
from services.common.db.states import JobKind
from tests.support.processes import children

ROOT = Path(__file__).resolve().parents[2]
API_MODULE = "services.api"
T = TypeVar("T")


def wait_until(what: str, found: Callable[[], T | None], seconds: float = 20.0) -> T:
    """What `found` gives once it is neither none nor false."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = found()
        if value is not None and value is not False:
            return value
        time.sleep(0.03)
    raise AssertionError(f"no {what} within {seconds:g} s")


class WorkerProcess:
    """A supervisor with its executor."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def executor(self) -> int:
        """Process id of the executor that runs now."""
        return wait_until("executor", lambda: next(iter(children(self.pid)), None))

    def terminate(self, seconds: float = 10.0) -> float:
        """SIGTERM; how long it took to end."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(seconds)
        return time.monotonic() - started

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class WorkerPlatform:
    """Use as a context manager; every process it started is gone afterwards."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        self._environment = environment
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._workers: list[WorkerProcess] = []
        self._searches = 0
        (home / "logs").mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        self.start_api()
        self.database = Database(self._environment.get("NASDET_DATABASE_URL", f"sqlite:///{self.home / 'nasdet.db'}"))
        with self.database.write_session() as session:
            self.owner = TokenRepository(session).ensure_owner("tester")
            self.dataset_id = DatasetRepository(session).get_or_create(self.owner, "planted")[0].id
            body = {
                "digest": "d" * 64, "manifest": "e" * 64, "class_names": ["circle"], "splits": {}, "split_names": {},
                "report": {},
            }  # fmt: skip
            self.version_id = DatasetRepository(session).add_version(self.owner, self.dataset_id, body).id
        return self

    def __exit__(self, *_: object) -> None:
        self.kill_workers()
        self.api.kill()
        self.api.wait()
        self._socket.close()
        self.database.close()

    # processes

    def start_api(self) -> None:
        """The listening socket stays with us, as in `nasdet up`: requests wait while the API is away."""
        number = self._socket.fileno()
        with (self.home / "logs" / "api.log").open("ab") as log:
            self.api = subprocess.Popen(
                [sys.executable, "-m", API_MODULE, "--home", str(self.home), "--fd", str(number)],
                cwd=ROOT, env=self._env({}), pass_fds=(number,), stdout=log, stderr=log,
            )  # fmt: skip

        def ready() -> bool:
            try:
                return httpx.get(f"{self.url}/readyz", timeout=1).is_success
            except httpx.TransportError:
                return False

        wait_until("answer of the API", ready, 60)

    def start_worker(
        self, name: str = "worker-0", *, planted: dict[str, Any] | None = None, **more: str
    ) -> WorkerProcess:
        plan = {} if planted is None else planted
        path = self.home / "logs" / f"{name}-{len(self._workers)}.log"
        environment = {"NASDET_JOB_PLUGIN": "tests.support.planted_jobs", "NASDET_PLANTED": json.dumps(plan), **more}
        command = ["--home", str(self.home), "--name", name, "--url", self.url, "--threads", "1", "--device", "cpu"]
        with path.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "services.worker", *command],
                cwd=ROOT, env=self._env(environment), stdout=log, stderr=log,
            )  # fmt: skip
        self._workers.append(WorkerProcess(process, path))
        return self._workers[-1]

    def kill_workers(self) -> None:
        for worker in self._workers:
            if worker.process.poll() is None:
                worker.kill()

    def _env(self, more: dict[str, str]) -> dict[str, str]:
        own = {key: value for key, value in os.environ.items() if not key.startswith("NASDET_")}
        return {**own, **self._environment, **more}

    # rows

    def search(self) -> int:
        """A search that points to the dataset version."""
        self._searches += 1
        with self.database.write_session() as session:
            searches = SearchRepository(session)
            new = NewSearch(
                name=f"search {self._searches}", spec={}, seed=0, dataset_id=self.dataset_id, request_digest="0" * 64
            )
            search, _ = searches.create(self.owner, new)
            searches.set(search.id, dataset_version_id=self.version_id)
            return search.id

    def evaluate(
        self, genotypes: Sequence[Sequence[int]], *, search_id: int | None = None, payload: dict[str, Any] | None = None
    ) -> tuple[int, int]:
        """(search, job) of an evaluate job over these candidates."""
        search_id = self.search() if search_id is None else search_id
        with self.database.write_session() as session:
            trials = TrialRepository(session)
            first = len(trials.of_search(search_id))
            ids = [
                trials.add(
                    self.owner,
                    search_id,
                    NewTrial(
                        number=first + number, genotype=list(genotype), architecture_id=f"a{first + number}",
                        origin="random", parents=[], generation=0, macs=1, params=1, counted={},
                    ),
                ).id
                for number, genotype in enumerate(genotypes)
            ]  # fmt: skip
            body = {"dataset_version": "d" * 64, "supernet_weights": "a" * 64} if payload is None else payload
            job = self._jobs(session).create(search_id, JobKind.EVALUATE, f"evaluate/{first}", body, trials=ids)
            return search_id, job.id

    def job(
        self, kind: JobKind, payload: dict[str, Any], *, search_id: int | None = None, **more: Any
    ) -> tuple[int, int]:
        search_id = self.search() if search_id is None else search_id
        with self.database.write_session() as session:
            count = len(self._jobs(session).of_search(search_id))
            return search_id, self._jobs(session).create(search_id, kind, f"{kind}/{count}", payload, **more).id

    def take_back(self, job_id: int) -> None:
        """As the reaper does when a lease has run out."""
        with self.database.write_session() as session:
            jobs = self._jobs(session)
            assert jobs.requeue_after_loss(jobs.get(job_id), "lease_expired", "its worker sent no heartbeat")

    def cancel(self, search_id: int) -> None:
        with self.database.write_session() as session:
            self._jobs(session).cancel_search(search_id)

    def _jobs(self, session: Any) -> JobRepository:
        return JobRepository(session)

    def read_job(self, job_id: int) -> Job:
        with self.database.read_session() as session:
            job = session.get(Job, job_id)
            assert job is not None
            return job

    def trials(self, search_id: int) -> list[Trial]:
        with self.database.read_session() as session:
            return list(TrialRepository(session).of_search(search_id))

    def attempts(self, job_id: int) -> list[JobAttempt]:
        with self.database.read_session() as session:
            return list(self._jobs(session).attempts(job_id))

    def jobs(self, search_id: int) -> list[Job]:
        with self.database.read_session() as session:
            return list(self._jobs(session).of_search(search_id))

    def events(self, search_id: int, kind: str) -> list[Event]:
        with self.database.read_session() as session:
            return list(session.scalars(select(Event).where(Event.search_id == search_id, Event.kind == kind)))

    # waiting

    def wait_running(self, job_id: int, seconds: float = 20.0) -> Job:
        def running() -> Job | None:
            job = self.read_job(job_id)
            return job if job.state == "running" else None

        return wait_until(f"claim of job {job_id}", running, seconds)

    def wait_ended(self, jobs: Iterable[int], seconds: float = 30.0) -> list[Job]:
        def ended() -> list[Job] | None:
            rows = [self.read_job(job_id) for job_id in jobs]
            return rows if all(job.state.ended for job in rows) else None

        return wait_until(f"end of jobs {list(jobs)}", ended, seconds)

    def wait_all_ended(self, search_id: int, seconds: float = 30.0) -> list[Trial]:
        """All jobs of a search, those that a split made included; its trials."""
        wait_until(
            f"end of the jobs of search {search_id}",
            lambda: all(job.state.ended for job in self.jobs(search_id)),
            seconds,
        )
        return self.trials(search_id)

    def wait_landed(self, search_id: int, count: int, seconds: float = 20.0) -> None:
        wait_until(
            f"{count} results",
            lambda: sum(trial.state.ended for trial in self.trials(search_id)) >= count,
            seconds,
        )

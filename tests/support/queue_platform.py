"""Server mode under test: API, searchers and workers as processes on a real database, with a real broker between them.

Jobs belong to no search, so that the searcher only rings for them and takes back what was lost.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from sqlalchemy import select

from services.common.db.models import Event, Job
from services.common.db.repositories.jobs import JobRepository
from services.common.db.states import JobKind
from services.common.db.types import db_now
from tests.support.worker_platform import ROOT, WorkerPlatform, WorkerProcess, wait_until

TRAINING = {"dataset_version": "d" * 64, "role": "supernet", "seed": 0}


class QueuePlatform(WorkerPlatform):
    """`WorkerPlatform` with searchers."""

    def __init__(self, home: Path, broker_url: str, **environment: str) -> None:
        super().__init__(home, NASDET_BROKER_URL=broker_url, **environment)
        self.searchers: list[subprocess.Popen[bytes]] = []
        self._queued = 0

    def __exit__(self, *error: object) -> None:
        for searcher in self.searchers:
            searcher.kill()
            searcher.wait()
        super().__exit__(*error)

    def start_searcher(self) -> subprocess.Popen[bytes]:
        path = self.home / "logs" / "searcher.log"
        with path.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "services.searcher", "--home", str(self.home)],
                cwd=ROOT, env=self._env({}), stdout=log, stderr=log,
            )  # fmt: skip
        self.searchers.append(process)
        return process

    @property
    def searcher_log(self) -> str:
        return (self.home / "logs" / "searcher.log").read_text(errors="replace")

    def start_listening_worker(self, name: str, **more: Any) -> WorkerProcess:
        """A worker that has looked for work once and hears bells."""
        worker = self.start_worker(name, **more)
        wait_until("idle listener", lambda: "doorbell.listening" in worker.log, 30)
        return worker

    def queue(self, count: int = 1, *, rung: bool = False, **more: Any) -> list[int]:
        """Jobs that the planted workers do; `rung`: as if a bell had been sent for them just now."""
        made = []
        with self.database.write_session() as session:
            for _ in range(count):
                self._queued += 1
                job = JobRepository(session).create(
                    None, JobKind.TRAIN_SUPERNET, f"train/{self._queued}", TRAINING, owner=self.owner, **more
                )
                if rung:
                    session.execute(Job.__table__.update().where(Job.id == job.id).values(rung_at=db_now()))  # type: ignore[attr-defined]
                made.append(job.id)
        return made

    def check_done_once(self, jobs: list[int], seconds: float = 60.0) -> None:
        """Every job was claimed once, and ended once."""
        rows = self.wait_ended(jobs, seconds)
        assert [(row.state, row.attempt) for row in rows] == [("succeeded", 1)] * len(jobs)
        with self.database.read_session() as session:
            ends = list(session.scalars(select(Event.job_id).where(Event.kind == "job.ended", Event.job_id.in_(jobs))))
        assert sorted(end for end in ends if end is not None) == sorted(jobs)

    def holder(self, job_id: int) -> int | None:
        return self.read_job(job_id).worker_id

"""A migrated database in a folder, and rows to start a store test from. No torch."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import text, update
from sqlalchemy.orm import Session

from services.common.db.migrations import upgrade
from services.common.db.models import Job, JsonDict, Search
from services.common.db.repositories import (
    ArtifactRepository,
    DatasetRepository,
    JobRepository,
    Owner,
    SearchRepository,
    SupernetRepository,
    TokenRepository,
    TrialRepository,
    WorkerRepository,
)
from services.common.db.repositories.searches import NewSearch
from services.common.db.repositories.trials import NewTrial
from services.common.db.repositories.workers import WorkerFacts
from services.common.db.session import Database
from services.common.db.states import JobKind
from services.common.db.types import db_now

if TYPE_CHECKING:
    from tests.support.servers import PostgresServer


def migrated_template(folder: Path) -> Path:
    """One migrated SQLite file, to be copied: a migration for each test would cost more than the test."""
    path = folder / "template.db"
    database = Database(f"sqlite:///{path}")
    upgrade(database.write_engine)
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return path


def copied_database(template: Path, path: Path) -> Database:
    shutil.copyfile(template, path)
    return Database(f"sqlite:///{path}")


class Store:
    """A kind of database that the platform runs on; makes as many as tests want."""

    kind = "sqlite"

    def __init__(self, template: Path) -> None:
        self._template = template

    def url(self, folder: Path, *, migrated: bool = True) -> str:
        """Of a new database without rows. SQLite: a file of an installation's name in `folder`."""
        if migrated:
            shutil.copyfile(self._template, folder / "nasdet.db")
        return f"sqlite:///{folder / 'nasdet.db'}"

    def drop(self, url: str) -> None:
        """Delete it, whoever is connected; a file goes with its folder."""

    @contextmanager
    def database(self, folder: Path, *, migrated: bool = True) -> Iterator[Database]:
        """A new database, gone afterwards."""
        url = self.url(folder, migrated=migrated)
        database = Database(url)
        yield database
        database.close()
        self.drop(url)


class PostgresStore(Store):
    kind = "postgres"

    def __init__(self, server: PostgresServer) -> None:
        self._server = server

    def url(self, folder: Path, *, migrated: bool = True) -> str:  # noqa: ARG002
        return self._server.create(migrated=migrated)

    def drop(self, url: str) -> None:
        self._server.drop(url)


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Rows:
    """Ids of a project with a dataset version, a supernet and one running search."""

    owner: Owner
    dataset_id: int
    dataset_version_id: int
    supernet_id: int
    search_id: int


def new_rows(session: Session, name: str = "cells") -> Rows:
    owner = TokenRepository(session).ensure_owner("operator")
    dataset, _ = DatasetRepository(session).get_or_create(owner, name)
    uploaded(session, owner, f"manifest of {name}")
    version = DatasetRepository(session).add_version(
        owner,
        dataset.id,
        {
            "digest": digest_of(name),
            "manifest": digest_of(f"manifest of {name}"),
            "class_names": ["a", "b"],
            "splits": {"train": 10, "search": 4, "report": 4},
            "split_names": {"search": "val", "report": "test"},
            "report": {},
        },
    )
    supernet, _ = SupernetRepository(session).get_or_create(owner, digest_of(f"net {name}"), {}, version.id)
    search_id = new_search(session, owner, dataset.id, name)
    SearchRepository(session).set(search_id, dataset_version_id=version.id, supernet_id=supernet.id)
    return Rows(owner, dataset.id, version.id, supernet.id, search_id)


def new_search(session: Session, owner: Owner, dataset_id: int, name: str = "cells") -> int:
    search, _ = SearchRepository(session).create(
        owner,
        NewSearch(name=name, spec={"name": name}, seed=0, dataset_id=dataset_id, request_digest=digest_of(name)),
    )
    return search.id


def new_trials(session: Session, rows: Rows, count: int, *, first: int = 0) -> list[int]:
    trials = TrialRepository(session)
    return [
        trials.add(
            rows.owner,
            rows.search_id,
            NewTrial(
                number=number,
                genotype=[number, 1],
                architecture_id=f"architecture-{number}",
                origin="random",
                parents=[],
                generation=0,
                macs=100 + number,
                params=10,
                counted={"macs": 100 + number},
            ),
        ).id
        for number in range(first, first + count)
    ]


def new_evaluation(session: Session, rows: Rows, count: int, *, first: int = 0) -> tuple[int, list[int]]:
    """A queued evaluate job over `count` new trials."""
    trials = new_trials(session, rows, count, first=first)
    job = JobRepository(session).create(
        rows.search_id,
        JobKind.EVALUATE,
        f"evaluate/{first}",
        {"dataset": "cells"},
        supernet_id=rows.supernet_id,
        trials=trials,
    )
    return job.id, trials


def new_worker(session: Session, name: str = "worker-0", incarnation: str = "a", platform: str | None = None) -> int:
    owner = TokenRepository(session).ensure_owner("workers")
    facts = WorkerFacts(
        name=name, incarnation=incarnation, device_class="cpu", device_name="test", facts={"platform": platform}
    )
    return WorkerRepository(session).register(owner, facts, JobRepository(session)).id


def uploaded(session: Session, owner: Owner, text: str) -> str:
    """The row of an uploaded artifact (without a file: the store knows rows only)."""
    digest = digest_of(text)
    ArtifactRepository(session).uploaded(digest, len(text), owner)
    return digest


def measurement(value: float, metric: str = "box_map") -> JsonDict:
    return {
        "metric": metric,
        "split": "val",
        "value": value,
        "standard_error": 0.01,
        "jackknife": [value, value],
        "protocol_hash": "p" * 64,
        "fidelity": {"images": 4},
        "device_class": "cpu",
        "supernet_digest": "e" * 64,
    }


def success(value: float = 0.5) -> JsonDict:
    """A worker's payload of a trial that was scored."""
    return {
        "state": "succeeded",
        "reason": None,
        "value": value,
        "measurements": [measurement(value)],
        "seconds": {"evaluate": 1.5},
    }


def expire_lease(session: Session, job_id: int) -> None:
    """As if the worker had been silent until its lease ran out."""
    session.execute(update(Job).where(Job.id == job_id).values(lease_expires_at=db_now() - 1.0))


def revision(session: Session, search_id: int) -> int:
    search = session.get(Search, search_id, populate_existing=True)
    assert search is not None
    return search.revision


def forbid_inserts(session: Session, table: str) -> None:
    """Every INSERT into the table fails from now on; `table` is a name of ours."""
    if session.get_bind().dialect.name == "sqlite":
        body = "BEGIN SELECT RAISE(ABORT, 'planted'); END"
        session.execute(text(f"CREATE TRIGGER planted BEFORE INSERT ON {table} {body}"))
        return
    session.execute(text(f"ALTER TABLE {table} ADD CONSTRAINT planted CHECK (false) NOT VALID"))

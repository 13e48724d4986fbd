"""Uploads, uses and collectors of several API processes at once on Postgres: a row always has its file.

On SQLite there is one writer, and nothing to race.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.api.artifacts.collector import Collector
from services.api.artifacts.keeping import keep_file
from services.api.artifacts.local import LocalStore
from services.api.artifacts.remote import RemoteStore
from services.api.artifacts.store import ArtifactStore
from services.common.db.models import Artifact
from services.common.db.repositories import ArtifactRepository, Owner, TokenRepository
from services.common.db.session import Database
from services.common.errors import ConflictError, NotFoundError
from tests.support.s3_server import started_s3

pytestmark = pytest.mark.integration

SECONDS = 2.5
PAUSE_SECONDS = 0.1
CONTENTS = [bytes([number]) * 1000 for number in range(2)]
DIGESTS = [hashlib.sha256(content).hexdigest() for content in CONTENTS]


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    database = Database(postgres_url, pool_size=12)
    yield database
    database.close()


class Race:
    """Threads that do one thing over and over; what any of them raises is kept."""

    def __init__(self, database: Database, stores: list[ArtifactStore]) -> None:
        self.database = database
        self.stores = stores
        with database.write_session() as session:
            self.owner: Owner = TokenRepository(session).ensure_owner("tester")
        self.wrong: list[str] = []
        self.uploads = self.taken = self.collected = self.seen = 0

    def run(self) -> None:
        works: list[Callable[[], None]] = [self.take, self.look]
        works += [lambda store=store: self.upload(store) for store in self.stores]  # type: ignore[misc]
        works += [lambda store=store: self.collect(store) for store in self.stores]  # type: ignore[misc]
        deadline = time.monotonic() + SECONDS
        threads = [threading.Thread(target=self._repeat, args=(work, deadline)) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _repeat(self, work: Callable[[], None], deadline: float) -> None:
        while time.monotonic() < deadline and not self.wrong:
            try:
                work()
            except Exception as error:
                self.wrong.append(f"{type(error).__name__}: {error}")

    def upload(self, store: ArtifactStore) -> None:
        for content in CONTENTS:
            draft = store.draft()
            draft.write(content)
            digest = draft.finish()
            size = draft.size
            try:
                keep_file(
                    self.database,
                    store,
                    draft.path,
                    size,
                    digest,
                    lambda session, digest=digest, size=size: ArtifactRepository(session).uploaded(  # type: ignore[misc]
                        digest, size, self.owner
                    ),
                )
            finally:
                draft.abandon()
            self.uploads += 1
            time.sleep(random.random() * PAUSE_SECONDS)  # now and then nobody refers to it

    def take(self) -> None:
        """As a result does that names it; then let go of it again."""
        for digest in DIGESTS:
            name = f"job:{threading.get_ident()}:weights"
            try:
                with self.database.write_session() as session:
                    ArtifactRepository(session).take(digest, self.owner, name)
                    self._check(digest, ArtifactRepository(session).has(digest, 1000, self.owner.project_id))
            except ConflictError:
                continue  # collected a moment ago: the worker sends it again
            self.taken += 1
            with self.database.write_session() as session:
                ArtifactRepository(session).drop(name)

    def look(self) -> None:
        """Nobody moves while we look: where there is a row, there is the file."""
        for digest in DIGESTS:
            with self.database.write_session() as session:
                ArtifactRepository(session).take_turns(digest)
                there = session.get(Artifact, digest) is not None
                if there:
                    self._check(digest, there)
                    self.seen += 1

    def collect(self, store: ArtifactStore) -> None:
        collector = Collector(self.database, store, upload_seconds=-1.0, every_seconds=60)
        self.collected += len(collector.collect()) + len(collector.remove_orphans())

    def _check(self, digest: str, there: bool) -> None:
        try:
            self.stores[0].open(digest).close()
        except NotFoundError:
            self.wrong.append(f"artifact {digest} has {'a row' if there else 'no row'}, but no file")


def check(race: Race) -> None:
    race.run()
    assert race.wrong == []
    assert min(race.uploads, race.collected, race.seen) > 3, vars(race)
    for store in race.stores:
        Collector(race.database, store, upload_seconds=-1.0, every_seconds=60).collect()
        Collector(race.database, store, upload_seconds=-1.0, every_seconds=60).remove_orphans()
        assert list(store.digests()) == []


def test_two_processes_on_one_folder(database: Database, tmp_path: Path) -> None:
    stores: list[ArtifactStore] = [LocalStore(tmp_path / "artifacts") for _ in range(2)]
    for store in stores:
        store.prepare()
    race = Race(database, stores)
    check(race)
    assert race.taken > 3


def test_two_processes_on_one_bucket(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with started_s3() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        stores: list[ArtifactStore] = [RemoteStore(server.url("race"), tmp_path / f"tmp{number}") for number in (0, 1)]
        for store in stores:
            store.prepare()
        check(Race(database, stores))

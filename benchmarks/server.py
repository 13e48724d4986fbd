"""What the load benchmarks share: a real Postgres, an API process on it, and rows by the hundred thousand."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from sqlalchemy import insert

from services.common.db.models import Trial
from services.common.db.repositories import DatasetRepository, SearchRepository, SupernetRepository, TokenRepository
from services.common.db.repositories.owner import Owner
from services.common.db.repositories.searches import NewSearch
from services.common.db.session import Database
from tests.support.servers import started_postgres

ROOT = Path(__file__).resolve().parents[1]
BATCH = 2000


@dataclass(frozen=True)
class Server:
    """One API process in front of Postgres; both on this machine."""

    url: str
    home: Path
    database: Database
    process: subprocess.Popen[bytes]
    environment: dict[str, str]

    def headers(self, file: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {(self.home / file).read_text().strip()}", "Nasdet-Protocol": "2"}

    def rss_mib(self) -> float:
        """Memory of the API process (Linux)."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def cpu_seconds(self) -> float:
        """User and system time of the API process (Linux)."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running_server(*, searcher: bool = False, lease_seconds: float = 30.0) -> Iterator[Server]:
    """Postgres (fsync on, as in earnest), the API, and a searcher where one is wanted; gone at the end."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgres = stack.enter_context(started_postgres(fsync=True))
        url = postgres.create()
        database = Database(url)
        stack.callback(database.close)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("NASDET_")},
            "NASDET_HOME": str(home),
            "NASDET_DATABASE_URL": url,
            "NASDET_LEASE_SECONDS": str(lease_seconds),
            "NASDET_LOG_LEVEL": "warning",
        }
        api = _start("services.api", ["--home", str(home), "--port", str(port)], environment, home / "api.log")
        stack.callback(_end, api)
        if searcher:
            process = _start("services.searcher", ["--home", str(home)], environment, home / "searcher.log")
            stack.callback(_end, process)
        server = Server(f"http://127.0.0.1:{port}", home, database, api, environment)
        _wait_until_ready(server)
        yield server


def _start(module: str, arguments: Sequence[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments], cwd=ROOT, env=environment, stdout=file, stderr=file
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_until_ready(server: Server) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{server.url}/readyz", timeout=2, trust_env=False).is_success:
                return
        except httpx.TransportError:
            pass  # it is still starting
        time.sleep(0.1)
    raise TimeoutError(f"the API was not ready within a minute: {(server.home / 'api.log').read_text()[-2000:]}")


@dataclass(frozen=True)
class Planted:
    owner: Owner
    search_id: int
    dataset_version_id: int
    supernet_id: int


def plant_search(database: Database, name: str = "load") -> Planted:
    """A running search with a dataset version and a supernet, which no searcher moves (its stage is `search`)."""
    with database.write_session() as session:
        owner = TokenRepository(session).ensure_owner("operator")
        dataset, _ = DatasetRepository(session).get_or_create(owner, "load")
        version = DatasetRepository(session).add_version(
            owner,
            dataset.id,
            {
                "digest": "d" * 64, "manifest": "e" * 64, "class_names": ["a"], "splits": {}, "split_names": {},
                "report": {},
            },
        )  # fmt: skip
        supernet, _ = SupernetRepository(session).get_or_create(owner, "f" * 64, {}, version.id)
        search, _ = SearchRepository(session).create(
            owner, NewSearch(name=name, spec={}, seed=0, dataset_id=dataset.id, request_digest="0" * 64)
        )
        SearchRepository(session).set(search.id, dataset_version_id=version.id, supernet_id=supernet.id)
        return Planted(owner, search.id, version.id, supernet.id)


def plant_trials(database: Database, planted: Planted, count: int, *, first: int = 0) -> list[int]:
    """Queued trials without a job; their ids, by number."""
    ids: list[int] = []
    with database.write_session() as session:
        for start in range(first, first + count, BATCH):
            rows = [
                {
                    **planted.owner.columns(), "search_id": planted.search_id, "number": number,
                    "genotype": [number % 4] * 20, "architecture_id": f"a{number}", "origin": "random", "parents": [],
                    "generation": 0, "macs": 50_000_000 + (number * 7919) % 40_000_000, "params": 1_000_000,
                    "counted": {"macs": 1},
                }
                for number in range(start, min(start + BATCH, first + count))
            ]  # fmt: skip
            ids += session.scalars(insert(Trial).returning(Trial.id, sort_by_parameter_order=True), rows).all()
    return ids


def result(value: float) -> dict[str, object]:
    """A worker's payload of a scored candidate."""
    return {
        "state": "succeeded",
        "reason": None,
        "value": value,
        "measurements": [
            {
                "metric": "box_map", "split": "val", "value": value, "standard_error": 0.01,
                "jackknife": [value + 0.001 * group for group in range(8)], "protocol_hash": "p" * 64,
                "fidelity": {"images": 100}, "device_class": "cpu", "supernet_digest": "e" * 64,
            }
        ],
        "seconds": {"score": 1.0},
    }  # fmt: skip


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def print_json(what: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()

"""Options and fixtures every suite may use. No torch here: API and searcher suites run without."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.support.servers import PostgresServer, RedisServer
    from tests.support.stores import Store

REPOSITORY = Path(__file__).resolve().parent.parent
RECORDED = REPOSITORY / "tests" / "golden" / "recorded"
RECORDED_LIMIT_BYTES = 50_000

# Before anything imports torch, and inherited by every process a test starts: the last digit of a sum hangs
# on the number of threads that made it.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("nasdet")
    group.addoption(
        "--golden",
        metavar="DIR",
        default="../shared/golden",
        help="recorded outputs of reference code; relative to the repository root (default: %(default)s)",
    )
    group.addoption(
        "--accept",
        action="store_true",
        help="write our own recorded goldens (tests/golden/recorded) anew, then review the diff",
    )


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the working tree."""
    return REPOSITORY


@pytest.fixture(scope="session")
def golden_dir(pytestconfig: pytest.Config) -> Path:
    """The folder with the recorded outputs of reference code; the test is skipped where there is none."""
    directory = (REPOSITORY / str(pytestconfig.getoption("--golden"))).resolve()
    if not directory.is_dir():
        pytest.skip(f"no folder {directory} with outputs of the reference code; name one with --golden DIR")
    return directory


@pytest.fixture(scope="session")
def shared_data_dir() -> Path:
    """The folder with the real data sets (bccd, coco_free_subset, coco_eval); skipped where there is none."""
    directory = (REPOSITORY / "../shared/data").resolve()
    if not directory.is_dir():
        pytest.skip(f"no folder {directory} with the real data sets")
    return directory


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A real Postgres for every test of this process. Who wants to kill it starts one of their own."""
    from tests.support.servers import started_postgres

    with started_postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A new database on it with our newest schema; gone after the test."""
    url = postgres_server.create()
    yield url
    postgres_server.drop(url)


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Each kind of database behind the platform: a test that asks for it runs once on each.

    Where the kind cannot matter: `@pytest.mark.parametrize("store", ["sqlite"], indirect=True)`, with the reason.
    """
    from tests.support import stores

    if request.param == "postgres":
        return stores.PostgresStore(request.getfixturevalue("postgres_server"))
    return stores.Store(stores.migrated_template(tmp_path_factory.mktemp("schema")))


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A real Redis-compatible server for every test of this process. Who wants to kill it starts one of their own."""
    from tests.support.servers import started_redis

    with started_redis() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """An empty database on it, e.g. as NASDET_BROKER_URL."""
    return redis_server.create()


@pytest.fixture
def recorded(pytestconfig: pytest.Config) -> Callable[[str, Any], Any]:
    """`recorded("detnas", actual)`: what tests/golden/recorded/detnas.json holds; --accept writes it first.

    The caller compares, since only it knows the tolerance and its reason.
    """

    def load(name: str, actual: Any) -> Any:
        path = RECORDED / f"{name}.json"
        if pytestconfig.getoption("--accept"):
            text = json.dumps(actual, indent=1) + "\n"
            assert len(text) <= RECORDED_LIMIT_BYTES, f"{path.name} would have {len(text)} bytes; record less"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        assert path.exists(), f"no {path.name}; run `pytest tests/golden --accept -k {name}`, review the diff"
        return json.loads(path.read_text())

    return load

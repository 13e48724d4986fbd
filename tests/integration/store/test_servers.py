"""The servers that other tests stand on: they survive a kill with their data, and never outlive the tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import is_running
from tests.support.servers import PostgresServer, RedisServer, started_postgres, started_redis
from tests.support.worker_platform import wait_until

pytestmark = pytest.mark.integration

ABANDONED = """
import os, signal
from tests.support.servers import PostgresServer, RedisServer
servers = [PostgresServer(), RedisServer()]
for server in servers:
    server.start()
print(*(f"{server.pid}:{server.folder}" for server in servers), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_postgres_keeps_what_was_committed_through_a_kill() -> None:
    with started_postgres() as server:
        name = server.create(migrated=False).rpartition("/")[2]
        with server.connection(name) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS value")
        before = server.pid
        server.kill()
        assert not is_running(before)
        server.start()
        assert server.pid != before
        with server.connection(name) as connection:
            assert connection.execute("SELECT value FROM kept").fetchone() == (7,)


def test_redis_forgets_everything_when_killed() -> None:
    with started_redis() as server:
        client = server.client()
        client.set("key", "value")
        server.kill()
        server.start()
        assert client.get("key") is None
        client.close()


def test_a_new_database_is_migrated_and_empty(postgres_server: PostgresServer) -> None:
    first, second = postgres_server.create(), postgres_server.create()
    assert first != second
    with postgres_server.connection(first.rpartition("/")[2]) as connection:
        assert connection.execute("SELECT count(*) FROM search").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)
    for url in (first, second):
        postgres_server.drop(url)


def test_each_test_has_messages_of_its_own(redis_server: RedisServer) -> None:
    assert redis_server.create() != redis_server.create()


def test_servers_end_when_the_tests_are_killed(repository: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", ABANDONED], cwd=repository, capture_output=True, text=True)
    servers = [line.split(":", 1) for line in killed.stdout.split()]
    assert len(servers) == 2, killed.stderr
    wait_until("end of the servers", lambda: not any(is_running(int(pid)) for pid, _ in servers))
    wait_until("end of their folders", lambda: not any(Path(folder).exists() for _, folder in servers))

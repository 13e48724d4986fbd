"""One platform for each kind of broker: Postgres, API and searcher; each test brings its own workers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.brokers import AMQP_VARIABLE, Broker, started_broker
from tests.support.queue_platform import QueuePlatform
from tests.support.servers import PostgresServer

RING_SECONDS = 6.0


# RabbitMQ takes as long again: it has a target of its own (make queue-test).
@pytest.fixture(scope="session", params=["redis", pytest.param("rabbitmq", marks=pytest.mark.slow)])
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    with started_broker(request.param) as started:
        if started is None:
            pytest.skip(f"no RabbitMQ: install it (apt-get install rabbitmq-server) or name one in {AMQP_VARIABLE}")
        yield started


@pytest.fixture(scope="session")
def shared_platform(
    broker: Broker, postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[QueuePlatform]:
    environment = {
        "NASDET_DATABASE_URL": postgres_server.create(),
        "NASDET_LEASE_SECONDS": "12",
        "NASDET_RING_SECONDS": str(RING_SECONDS),
        "NASDET_UNRUNG_POLL_SECONDS": "300",  # whoever gets a job here was rung for
    }
    with QueuePlatform(tmp_path_factory.mktemp("queue"), broker.url, **environment) as platform:
        platform.start_searcher()
        yield platform


@pytest.fixture
def platform(shared_platform: QueuePlatform) -> Iterator[QueuePlatform]:
    """With no worker left running, so that the next test's jobs wait for its own workers."""
    yield shared_platform
    shared_platform.kill_workers()

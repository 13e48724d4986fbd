"""Real brokers for the queue suite: Redis out of a wheel, and RabbitMQ where it is installed or an address is given."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from kombu import Connection, Producer

from tests.support.servers import RedisServer, Server, free_port, started_redis

AMQP_VARIABLE = "NASDET_TEST_AMQP_URL"
QUEUES = ("nasdet.any", "nasdet.cpu", "nasdet.cuda")


class Broker(Protocol):
    """What the queue suite does to a broker."""

    kind: str
    url: str

    def lose_everything(self) -> None:
        """kill -9 where it can be killed, and no message is left of what there was; it does not answer afterwards."""

    def start_again(self) -> None: ...

    def put_raw(self, queue: str, body: bytes, **properties: Any) -> None:
        """A message as a stranger would write it."""


class RedisBroker:
    kind = "redis"

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self.url = server.url(0)

    def lose_everything(self) -> None:
        self._server.kill()  # it keeps nothing on disk

    def start_again(self) -> None:
        self._server.start()

    def put_raw(self, queue: str, body: bytes, **properties: Any) -> None:
        if properties:
            _publish(self.url, queue, body, {"global_keyprefix": "nasdet:"}, properties)
            return
        client = self._server.client(0)
        client.lpush(f"nasdet:{queue}", body)  # not even a message of Celery's transport
        client.close()


class RabbitServer(Server):
    """A node of its own: name, ports, folders and user's cookie. No plugin."""

    name = "rabbitmq"

    def __init__(self) -> None:
        super().__init__()
        self._epmd_port = free_port()
        self._distribution_port = free_port()
        self._names: subprocess.Popen[bytes] | None = None
        self._node = 0
        (self.folder / "rabbit.conf").write_text(f"listeners.tcp.1 = 127.0.0.1:{self.port}\nlog.console = true\n")
        (self.folder / "plugins").write_text("[].\n")

    @staticmethod
    def program() -> str | None:
        known = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # the one that runs as whoever starts it
        return str(known) if known.exists() else shutil.which("rabbitmq-server", path=f"{os.environ['PATH']}:/usr/sbin")

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def start(self) -> None:
        """Erlang's name server first, as a child of ours: the one that a node starts would outlive it."""
        if self._names is None:
            self._names = subprocess.Popen(
                ["epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1"],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            self.guardian.tell("pid", self._names.pid)
        super().start()
        self._node = int((self.folder / "pid").read_text())  # it runs below a shell
        self.guardian.tell("pid", self._node)

    def command(self) -> list[str]:
        program = self.program()
        assert program is not None, "RabbitMQ is not installed"
        return [program]

    def run_as(self) -> dict[str, object]:
        return {
            "env": {
                **os.environ,
                "HOME": str(self.folder),
                "RABBITMQ_NODENAME": f"nasdet-{self.port}@localhost",
                "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbit.conf"),
                "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
                "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
                "RABBITMQ_LOG_BASE": str(self.folder / "logs"),
                "RABBITMQ_PID_FILE": str(self.folder / "pid"),
                "RABBITMQ_DIST_PORT": str(self._distribution_port),
                "ERL_EPMD_PORT": str(self._epmd_port),
                "ERL_EPMD_ADDRESS": "127.0.0.1",
            }
        }

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """The whole node, in whatever way: nothing of it is to be kept."""
        if self.process is None or self.process.poll() is not None:
            return
        del number
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)
        self.guardian.tell("forget", self.process.pid)
        self.guardian.tell("forget", self._node)

    def close(self) -> None:
        """The node, and the name server."""
        self.kill()
        if self._names is not None:
            self._names.kill()
            self._names.wait()
            self.guardian.tell("forget", self._names.pid)
        self.guardian.end()

    def answers(self) -> bool:
        try:
            with Connection(self.url, connect_timeout=2) as connection:
                connection.connect()
                return True
        except OSError:
            return False


class RabbitBroker:
    kind = "rabbitmq"

    def __init__(self, url: str, server: RabbitServer | None) -> None:
        self.url = url
        self._server = server

    def lose_everything(self) -> None:
        if self._server is None:
            with Connection(self.url) as connection:
                for queue in QUEUES:
                    connection.default_channel.queue_purge(queue)
            return
        self._server.kill()
        shutil.rmtree(self._server.folder / "data")

    def start_again(self) -> None:
        if self._server is not None:
            self._server.start()

    def put_raw(self, queue: str, body: bytes, **properties: Any) -> None:
        _publish(self.url, queue, body, {}, properties)


def _publish(url: str, queue: str, body: bytes, options: dict[str, Any], properties: dict[str, Any]) -> None:
    with Connection(url, transport_options=options) as connection:
        producer = Producer(connection.default_channel, auto_declare=False)
        key = queue.rpartition(".")[2]
        producer.publish(body, exchange="nasdet", routing_key=key, retry=False, **properties)


@contextmanager
def started_broker(kind: str) -> Iterator[Broker | None]:
    """None where this kind cannot be had on this machine."""
    if kind == "redis":
        with started_redis() as server:
            yield RedisBroker(server)
        return
    url = os.environ.get(AMQP_VARIABLE)
    if url is not None:
        yield RabbitBroker(url, None)
        return
    if RabbitServer.program() is None:
        yield None
        return
    rabbit = RabbitServer()
    try:
        rabbit.start()
        yield RabbitBroker(rabbit.url, rabbit)
    finally:
        rabbit.close()

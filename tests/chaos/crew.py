"""The processes of an installation under chaos: APIs, searchers and workers, each started anew when it dies."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from services.common.db.session import Database
from tests.support.fault_proxy import FaultProxy
from tests.support.processes import children
from tests.support.servers import Guardian, PostgresServer, RedisServer, free_port
from tests.support.worker_platform import wait_until

ROOT = Path(__file__).resolve().parents[2]
DATASET = "planted"
RESPAWN_SECONDS = 0.2
START_SECONDS = 60.0


@dataclass
class Member:
    """A process of ours that is started again whenever it died."""

    name: str
    command: list[str]
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    due: float = 0.0  # when it is started next
    frozen: list[int] = field(default_factory=list)  # pids that are stopped

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None and self.process.poll() is None else None

    @property
    def executor(self) -> int | None:
        return None if self.pid is None else next(iter(children(self.pid)), None)

    def signal(self, number: signal.Signals, *, executor: bool = False) -> bool:
        """To the process, or to its executor; False when there is none."""
        pid = self.executor if executor else self.pid
        if pid is None:
            return False
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True

    def freeze(self) -> bool:
        """SIGSTOP, with its executor where it has one."""
        self.frozen = [pid for pid in (self.executor, self.pid) if pid is not None]
        for pid in self.frozen:
            _send(pid, signal.SIGSTOP)
        return bool(self.frozen)

    def thaw(self) -> None:
        """The executor first: its late results come before its supervisor hears that the lease is gone."""
        for pid in self.frozen:
            _send(pid, signal.SIGCONT)
        self.frozen = []


class Crew:
    """A context manager; every process it started is gone afterwards, also when this one is killed."""

    def __init__(
        self,
        folder: Path,
        *,
        postgres: PostgresServer | None,
        redis: RedisServer | None,
        seed: int,
        environment: dict[str, str],
        plan: dict[str, object],
    ) -> None:
        self.home = folder / "home"
        self.postgres = postgres
        self.redis = redis
        own = {key: value for key, value in os.environ.items() if not key.startswith("NASDET_")}
        self._environment = {**own, "NASDET_HOME": str(self.home), "NASDET_LOG_FORMAT": "json", **environment}
        if postgres is not None:
            self._environment["NASDET_DATABASE_URL"] = postgres.create()
        if redis is not None:
            self._environment["NASDET_BROKER_URL"] = redis.create()
        url = self._environment.get("NASDET_DATABASE_URL", f"sqlite:///{self.home / 'nasdet.db'}")
        self.database = Database(url)
        self.api_ports = [free_port(), free_port()]
        self.proxy = FaultProxy(self.api_ports, seed=seed)
        self._plan = plan
        self.guardian = Guardian()
        self._pipe = os.pipe()  # our end closes with us: no member outlives this process
        self.members: dict[str, Member] = {}
        (self.home / "datasets").mkdir(parents=True)
        (self.home / "datasets" / f"{DATASET}.json").write_text(json.dumps({"path": "/nowhere"}))
        (self.home / "logs").mkdir()

    def __enter__(self) -> Self:
        self.proxy.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self.members.values():
            member.thaw()
            member.signal(signal.SIGKILL, executor=True)
            if member.process is not None:
                member.process.kill()
                member.process.wait()
        os.close(self._pipe[0])
        os.close(self._pipe[1])
        self.guardian.end()
        self.proxy.__exit__(kind, error, trace)
        self.database.close()

    # members

    def start_apis(self) -> None:
        """Both at once, on an empty home; returns when both answer."""
        for index, port in enumerate(self.api_ports):
            self._add(f"api-{index}", ["services.api", "--port", str(port)])
        for port in self.api_ports:
            wait_until(f"answer of the API on port {port}", lambda port=port: _answers(port), START_SECONDS)  # type: ignore[misc]

    def start_searcher(self, index: int) -> None:
        self._add(f"searcher-{index}", ["services.searcher", "--home", str(self.home)])

    def start_workers(self, count: int) -> None:
        """Behind the proxy, all of them."""
        for index in range(count):
            name = f"worker-{index}"
            command = ["services.worker", "--name", name, "--device", "cpu", "--threads", "1", "--url", self.proxy.url]
            planted = {"NASDET_JOB_PLUGIN": "tests.support.planted_jobs", "NASDET_PLANTED": json.dumps(self._plan)}
            self._add(name, command, planted)

    def named(self, prefix: str) -> list[Member]:
        return [member for name, member in self.members.items() if name.startswith(prefix)]

    def _add(self, name: str, command: list[str], environment: dict[str, str] | None = None) -> None:
        member = Member(name, [sys.executable, "-m", *command], {**self._environment, **(environment or {})})
        self.members[name] = member
        self._start(member)

    def _start(self, member: Member) -> None:
        reading = self._pipe[0]
        with (self.home / "logs" / f"{member.name}.log").open("ab") as log:
            member.process = subprocess.Popen(
                member.command,
                cwd=ROOT,
                env={**member.environment, "NASDET_PARENT_PIPE": str(reading)},
                pass_fds=[reading],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.guardian.tell("pid", member.process.pid)

    def look_after(self) -> None:
        """Start again who died, as an orchestrator does."""
        now = time.monotonic()
        for member in self.members.values():
            if member.process is None or member.process.poll() is None:
                continue
            if member.due == 0.0:
                self.guardian.tell("forget", member.process.pid)
                member.due = now + RESPAWN_SECONDS
                member.thaw()  # its executor may be stopped, and cannot notice otherwise that it is alone
            elif now >= member.due:
                member.due = 0.0
                self._start(member)


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it died meanwhile
        os.kill(pid, number)


def _answers(port: int) -> bool:
    import httpx

    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2, trust_env=False).is_success
    except httpx.TransportError:
        return False

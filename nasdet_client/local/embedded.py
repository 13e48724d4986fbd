"""The embedded platform: API, searcher and workers as child processes of this one, on SQLite, without a broker.

A child that dies is started again. The listening socket belongs to the parent, so that requests wait in its queue while
the API is restarted instead of being refused. Children end by themselves when the parent is gone: they watch a pipe
whose other end only the parent holds.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from nasdet_client.errors import CommandError
from nasdet_client.local.home import Home
from nasdet_client.sdk import NasdetClient

WORKER_MODULE = "services.worker"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
HEALTHY_AFTER_S = 10.0  # a child that ran this long starts again at once; one that dies sooner waits longer and longer
MAX_RESTART_PAUSE_S = 10.0


def default_workers() -> int:
    return max(1, min(2, os.cpu_count() or 1))


def default_threads() -> int:
    """Threads per worker. It does not depend on the number of workers, because sums in another order differ."""
    return max(1, (os.cpu_count() or 2) // 2)


@dataclass
class _Child:
    name: str
    module: str
    arguments: list[str]
    pass_fds: tuple[int, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restart_at: float = 0.0
    pause_s: float = field(default=0.2)


class Embedded:
    """Start with `with Embedded(home, ...) as platform:`; `platform.client()` talks to it.

    `notify` is told in one sentence when a child died and is started again.
    """

    def __init__(
        self,
        home: Home,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        allowed_hosts: Sequence[str] = (),
        workers: int | None = None,
        threads: int | None = None,
        notify: Callable[[str], None] = lambda _sentence: None,
    ) -> None:
        if not is_loopback(host):
            _check_open(home, host, allowed_hosts)
        self.home = home
        self._host = host
        self._port = port
        self._allowed_hosts = tuple(allowed_hosts)
        self._workers = default_workers() if workers is None else workers
        self._threads = default_threads() if threads is None else threads
        self._notify = notify
        self._children: list[_Child] = []
        self._stopping = threading.Event()
        self._keeper: threading.Thread | None = None
        self._identity = secrets.token_hex(8)
        self.url = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Open the home, start every process and wait until the API answers. Raises CommandError with the reason."""
        self._socket = _listen(self._host, self._port)
        try:
            self.home.open()
        except BaseException:
            self._socket.close()
            raise
        self._watched, self._held = os.pipe()  # children read the first end; the second closes when this process ends
        os.set_inheritable(self._watched, True)
        port = self._socket.getsockname()[1]
        self.url = f"http://{_reachable(self._host)}:{port}"
        try:
            self._start_child("api", "services.api", ["--fd", str(self._socket.fileno())], (self._socket.fileno(),))
            self._wait_until_ready()
            self._start_child("searcher", "services.searcher", [])
            for number in range(self._workers):
                name = f"worker-{number}"
                arguments = ["--name", name, "--url", self.url, "--threads", str(self._threads), "--slots", "1"]
                self._start_child(name, WORKER_MODULE, arguments)
        except BaseException:
            self.stop()
            raise
        self.home.write_address(self.url)
        self._keeper = threading.Thread(target=self._keep_alive, name="keep-alive", daemon=True)
        self._keeper.start()

    def stop(self) -> None:
        """Ask every child to end (workers give their leases back), then end those that do not. Idempotent."""
        self._stopping.set()
        if self._keeper is not None:
            self._keeper.join()
            self._keeper = None
        # The API goes last: workers and searcher still have something to tell it.
        api, others = self._children[:1], self._children[1:]
        for group in (others, api):
            _end([child.process for child in group if child.process is not None])
        self._children = []
        if self.url:
            os.close(self._held)
            os.close(self._watched)
            self._socket.close()
            self.url = ""
        self.home.close()

    def client(self, *, patience_s: float = 120.0) -> NasdetClient:
        token = self.home.token()
        if token is None:
            raise CommandError(f"there is no token in {self.home.token_file}; the API should have written it", 1)
        return NasdetClient(self.url, token, patience_s=patience_s)

    def processes(self) -> Mapping[str, int]:
        """Name and process id of every child that runs now."""
        return {child.name: child.process.pid for child in self._children if child.process is not None}

    # --- children -------------------------------------------------------------------------------------------------

    def _start_child(self, name: str, module: str, arguments: list[str], pass_fds: tuple[int, ...] = ()) -> None:
        child = _Child(name, module, ["--home", str(self.home.path), *arguments], pass_fds)
        self._children.append(child)
        self._launch(child)

    def _launch(self, child: _Child) -> None:
        environment = {
            **os.environ,
            "NASDET_PARENT_PIPE": str(self._watched),
            "NASDET_PLATFORM": self._identity,  # what an earlier start held is given back, and nobody is charged
        }
        if self._allowed_hosts:
            environment["NASDET_ALLOWED_HOSTS"] = ",".join(self._allowed_hosts)
        with (self.home.logs / f"{child.name}.log").open("ab") as log:
            child.process = subprocess.Popen(
                [sys.executable, "-m", child.module, *child.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                pass_fds=(self._watched, *child.pass_fds),
                start_new_session=True,  # Ctrl-C is for the parent, which ends its children in order
            )
        child.started_at = time.monotonic()

    def _wait_until_ready(self) -> None:
        api = self._children[0]
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if api.process is not None and api.process.poll() is not None:
                raise CommandError(_last_words(self.home.logs / "api.log", "the API"), 1)
            if self.home.token_file.exists() and self.home.worker_token_file.exists():
                with self.client(patience_s=0) as client:
                    if client.ready():
                        return
            time.sleep(0.05)
        raise CommandError(
            f"the API did not answer within {START_TIMEOUT_S:.0f} s; its log is {self.home.logs / 'api.log'}",
            1,
        )

    def _keep_alive(self) -> None:
        while not self._stopping.wait(0.1):
            for child in self._children:
                self._revive(child)

    def _revive(self, child: _Child) -> None:
        now = time.monotonic()
        if child.process is not None:
            status = child.process.poll()
            if status is None:
                return
            child.process = None
            if status == 0 and child.module == WORKER_MODULE:  # drained: somebody wanted it to end
                self._notify(f"{child.name} ended as it was told to")
                child.restart_at = float("inf")
                return
            if now - child.started_at > HEALTHY_AFTER_S:
                child.pause_s = 0.2
            child.restart_at = now + child.pause_s
            child.pause_s = min(child.pause_s * 2, MAX_RESTART_PAUSE_S)
            reason = _last_sentence(self.home.logs / f"{child.name}.log") if status > 0 else ""
            self._notify(f"{child.name} ended ({_describe_exit(status)}{reason}) and is started again")
        elif now >= child.restart_at:
            self._launch(child)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens there."""
    return host == "localhost" or _has_address(host, "is_loopback")


def _has_address(host: str, quality: str) -> bool:
    try:
        return bool(getattr(ipaddress.ip_address(host), quality))
    except ValueError:
        return False  # a name


def _is_everywhere(host: str) -> bool:
    return not host or _has_address(host, "is_unspecified")


def _check_open(home: Home, host: str, allowed_hosts: Sequence[str]) -> None:
    """The API refuses the same; here it is said before anything is started."""
    if home.token() is None:
        raise CommandError(
            f"listening on {host} lets other machines in, and {home.path} has no token yet; "
            f"run `nasdet up` once without --host, which writes one to {home.token_file}"
        )
    if not (allowed_hosts or os.environ.get("NASDET_ALLOWED_HOSTS")) and _is_everywhere(host):
        raise CommandError(
            f"nobody could reach the platform on {host}: say with --allow-host NAME under which name or address other "
            "machines reach this one (may be repeated)"
        )


def _reachable(host: str) -> str:
    """How this machine's own processes reach what listens on `host`, as part of an address."""
    if _is_everywhere(host):
        host = "::1" if ":" in host else "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # `::` is no IPv4 address, on every system
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise CommandError(f"port {port} of {host} is in use; choose another one with --port") from error
        raise CommandError(
            f"cannot listen on {host} port {port}: {error.strerror}; choose another --host or --port"
        ) from error
    listener.set_inheritable(True)
    return listener


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _describe_exit(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit code {status}"


def _last_sentence(log: Path) -> str:
    """What a child said last, where that was a sentence and not a line of its structured log."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f": {lines[-1][:300]}" if lines and not lines[-1].startswith("{") else f"; see {log}"


def _last_words(log: Path, who: str) -> str:
    """The last line a child wrote, which is its one sentence when it refused to start."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"{who} did not start: {lines[-1] if lines else 'it left no message'} (whole log: {log})"

"""The supervisor's handle on its executor process. Imports no torch."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any

from services.worker.channel import Message, MessageWriter, read_messages
from services.worker.log_ring import LogRing

DIED: Message = {"type": "died"}  # the last message of every executor


class ExecutorChild:
    """One executor in a session of its own: a Ctrl-C reaches the supervisor only, and a kill takes helpers
    along.

    It lives as long as its stdin: when the supervisor dies, in whatever way, the executor reads the end of
    the pipe and exits.
    """

    def __init__(
        self,
        configuration: Mapping[str, Any],
        *,
        threads: int,
        log_tail: int,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`environment` is added to ours: what has to be there before Python starts, such as which GPU it sees."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "services.worker.executor"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**executor_environment(threads), **(environment or {})},
            start_new_session=True,
        )
        stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
        if stdin is None or stdout is None or stderr is None:
            raise RuntimeError("an executor was started without its pipes")
        self._writer = MessageWriter(stdin)
        self._stdout = stdout
        self._stderr = stderr
        self.log = LogRing(stderr.fileno(), limit=log_tail)
        self.messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.description: Message | None = None  # what it said of itself when it was ready
        self._reader = threading.Thread(target=self._read, name="executor-messages", daemon=True)
        self._reader.start()
        self.send({"type": "configuration", **configuration})

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, message: Mapping[str, Any]) -> None:
        """A message to a dead executor is dropped: its death is reported by `messages`."""
        with contextlib.suppress(OSError):
            self._writer.send(message)

    def receive(self, timeout: float) -> Message | None:
        """The next message; none when the time is over."""
        try:
            return self.messages.get(timeout=timeout)
        except queue.Empty:
            return None

    def kill(self) -> None:
        """End it and everything it started, now."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self.reap()

    def reap(self) -> None:
        """After its death: collect the exit status, the rest of the log and the pipes."""
        self._process.wait()
        self._reader.join(timeout=2.0)
        self.log.join(timeout=2.0)
        for stream in (self._process.stdin, self._stdout, self._stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def death(self) -> str:
        """How it ended, in words."""
        status = self._process.wait()
        if status >= 0:
            return f"exited with status {status}"
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        hint = ", perhaps by the kernel for want of memory" if name == "SIGKILL" else ""
        return f"was killed by {name}{hint}"

    def _read(self) -> None:
        try:
            for message in read_messages(self._stdout):
                self.messages.put(message)
        except (OSError, ValueError) as error:  # closed under us, or not our JSON
            sys.stderr.write(f"lost the executor's messages: {error}\n")
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self.messages.put(DIED)


def executor_environment(threads: int) -> dict[str, str]:
    """The environment in which sums come out the same to the last digit, run after run."""
    environment = dict(os.environ)
    environment.pop("NASDET_PARENT_PIPE", None)  # the executor watches its own pipe
    environment.update(
        OMP_NUM_THREADS=str(threads),
        MKL_NUM_THREADS=str(threads),
        OMP_DYNAMIC="FALSE",
        MKL_DYNAMIC="FALSE",
        MKL_CBWR="AUTO",  # a result may not hang on how memory happens to be aligned
        CUBLAS_WORKSPACE_CONFIG=":4096:8",  # deterministic matrix products on CUDA
        PYTHONHASHSEED="0",
        PYTHONUNBUFFERED="1",
    )
    return environment

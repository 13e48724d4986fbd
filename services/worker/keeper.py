"""Keeps one executor alive: starts it, waits until it is ready, starts the next one when it died. No torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from services.worker.child import ExecutorChild
from services.worker.errors import WorkerError

EXECUTOR_START_SECONDS = 300.0  # importing torch from a cold disk
FIRST_RESTART_SECONDS = 0.2
LONGEST_RESTART_SECONDS = 30.0
LISTEN_SECONDS = 0.2

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class ExecutorKeeper:
    """The executor of one slot. `wait(seconds)` waits and says whether the worker is to stop."""

    def __init__(
        self,
        configuration: Mapping[str, Any],
        environment: Mapping[str, str],
        *,
        log_tail: int,
        wait: Callable[[float], bool],
    ) -> None:
        self._configuration = configuration
        self._environment = environment
        self._log_tail = log_tail
        self._wait = wait
        self._child: ExecutorChild | None = None
        self._restart_pause = 0.0

    def ready(self) -> ExecutorChild | None:
        """The executor once it can take a job; none when it died or we are stopping.

        Raises WorkerError with the executor's own sentence when it cannot work here at all.
        """
        child = self._child
        if child is not None and child.alive and child.description is not None:
            return child
        if child is None or not child.alive:
            if child is not None:
                child.reap()
            if self._wait(self._restart_pause):
                return None
            child = self._start()
        return self._until_ready(child)

    def replace(self) -> None:
        """Kill it and start a fresh one right away: importing torch takes seconds."""
        self.kill()
        if not self._wait(0):
            self._start()

    def kill(self) -> None:
        if self._child is not None:
            self._child.kill()

    def _start(self) -> ExecutorChild:
        self._child = ExecutorChild(
            self._configuration,
            threads=self._configuration["threads"],
            log_tail=self._log_tail,
            environment=self._environment,
        )
        return self._child

    def _until_ready(self, child: ExecutorChild) -> ExecutorChild | None:
        deadline = time.monotonic() + EXECUTOR_START_SECONDS
        while not self._wait(0):
            message = child.receive(LISTEN_SECONDS) or {"type": "silence"}
            if message["type"] == "ready":
                child.description = message
                self._restart_pause = 0.0
                return child
            if message["type"] == "unable":
                raise WorkerError(message["reason"])
            if message["type"] == "died":
                self._note_death(f"it {child.death()} before it was ready")
                return None
            if time.monotonic() > deadline:
                child.kill()
                self._note_death(f"it was not ready after {EXECUTOR_START_SECONDS:g} s and was killed")
                return None
        return None

    def _note_death(self, sentence: str) -> None:
        self._restart_pause = min(max(2 * self._restart_pause, FIRST_RESTART_SECONDS), LONGEST_RESTART_SECONDS)
        log.warning("executor.lost", reason=sentence, restart_in_s=self._restart_pause)

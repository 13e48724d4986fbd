"""Asking something that may hang, for a bounded time: a database or a broker that is away."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Probe(Generic[T]):
    """Runs `function` in a thread of its own, one at a time: whoever asks meanwhile waits for the same answer.

    So a question that hangs costs one thread, however often it is asked. Nobody waits for that thread at the end.
    """

    def __init__(self, name: str, function: Callable[[], T]) -> None:
        self._name = name
        self._function = function
        self._lock = threading.Lock()
        self._running: Future[T] | None = None

    def start(self) -> Future[T]:
        """The answer that is being looked for. Never cancel it: others may wait for it too."""
        with self._lock:
            if self._running is None or self._running.done():
                self._running = Future()
                threading.Thread(target=self._run, args=(self._running,), name=self._name, daemon=True).start()
            return self._running

    def ask(self, seconds: float) -> T:
        """Raises TimeoutError when there is no answer in time, else what the function raises."""
        return self.start().result(seconds)

    def _run(self, answer: Future[T]) -> None:
        try:
            answer.set_result(self._function())
        except BaseException as error:  # whoever asks gets it
            answer.set_exception(error)

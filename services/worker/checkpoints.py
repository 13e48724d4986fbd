"""Checkpoints go to the API from a thread of their own, so that training hardly waits."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from nasdet_core.errors import NasDetError
from services.worker.context import JobContext
from services.worker.errors import JobStoppedError, StaleAttemptError


class CheckpointUploader:
    """Uploads the newest state; one that was overtaken while it waited is never sent.

    Use as a context manager: leaving it waits for the upload under way and drops the one that waits, so
    that no checkpoint reaches the API after the end of its job.
    """

    def __init__(self, context: JobContext) -> None:
        self._context = context
        self._changed = threading.Condition()
        self._waiting: tuple[bytes, int] | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._upload_all, name="checkpoints", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._closed = True
            self._waiting = None
            self._changed.notify()
        self._thread.join()

    def offer(self, state: bytes, step: int) -> None:
        """Hand over a state; returns at once."""
        with self._changed:
            self._waiting = (state, step)
            self._changed.notify()

    def _upload_all(self) -> None:
        while True:
            with self._changed:
                while self._waiting is None and not self._closed:
                    self._changed.wait()
                if self._waiting is None:
                    return
                state, step = self._waiting
                self._waiting = None
            self._upload(state, step)

    def _upload(self, state: bytes, step: int) -> None:
        job = self._context.job
        try:
            digest = self._context.api.put_artifact(state)
            self._context.api.save_checkpoint(job.id, attempt=job.attempt, digest=digest, step=step)
        except StaleAttemptError as error:
            self._context.give_up(error)
        except JobStoppedError:  # while waiting for an API that is away
            return
        except NasDetError as error:  # a missed checkpoint costs repeated work, not the job
            self._context.log(f"the checkpoint of step {step} was not stored: {error}")

"""Follows one attempt at a job, and judges by what it sees: done, given back with a reason, or not ours any more."""

from __future__ import annotations

import time
from collections.abc import Callable

from services.common.db.states import ReleaseKind
from services.common.settings import WorkerSettings
from services.worker.channel import Message
from services.worker.child import ExecutorChild
from services.worker.heartbeat import Heartbeat, HeldJob
from services.worker.keeper import LISTEN_SECONDS

EXECUTOR_STOP_SECONDS = 1.5  # how long it may take to notice that it should stop


class JobWatch:
    """`stopping` says whether the worker was asked to stop."""

    def __init__(self, child: ExecutorChild, held: HeldJob, beat: Heartbeat, settings: WorkerSettings) -> None:
        self._child = child
        self._held = held
        self._beat = beat
        self._settings = settings

    def ending(self, stopping: Callable[[], bool]) -> Message:
        """The executor's last message about the job, or what we have to say instead."""
        child, held, beat = self._child, self._held, self._beat
        while True:
            message = child.receive(LISTEN_SECONDS)
            if message is not None and message["type"] == "died":
                return given_back(ReleaseKind.CRASH, f"the executor {child.death()} ({held.where()})", replace=True)
            if message is not None and self._is_ours(message):
                if message["type"] != "progress":
                    return message
                held.note(message["counter"], message["progress"])
            # Also right after a message: an executor that reports without a pause may not talk itself out of these.
            if beat.lost is not None:
                return self._stop({"type": "stale"})
            if beat.cancelled:
                return self._stop(given_back(ReleaseKind.GRACEFUL, "the job was cancelled"))
            if beat.release:
                return self._stop(given_back(ReleaseKind.GRACEFUL, "the worker was told to give back its job and end"))
            if stopping():
                return self._stop(given_back(ReleaseKind.GRACEFUL, "the worker was asked to stop"))
            overdue = self._overdue()
            if overdue is not None:
                return overdue

    def _is_ours(self, message: Message) -> bool:
        return (message.get("job"), message.get("attempt")) == (self._held.id, self._held.attempt)

    def _overdue(self) -> Message | None:
        """The end of a job that makes no progress, or takes longer than it may."""
        held = self._held
        now, quiet, limit = time.monotonic(), self._settings.no_progress_seconds, self._settings.job_seconds
        if now - held.moved_at > quiet:
            reason = f"no progress for {quiet:g} s ({held.where()})"
            return given_back(ReleaseKind.HANG, reason, replace=True)
        if limit is not None and now - held.started_at > limit:
            reason = f"longer than the limit of {limit:g} s ({held.where()})"
            return given_back(ReleaseKind.TIMEOUT, reason, replace=True)
        return None

    def _stop(self, otherwise: Message) -> Message:
        """Ask the executor to stop, and kill it when it does not. A job that ends meanwhile has ended."""
        self._child.send({"type": "stop", "job": self._held.id, "attempt": self._held.attempt})
        deadline = time.monotonic() + EXECUTOR_STOP_SECONDS
        while time.monotonic() < deadline:
            message = self._child.receive(LISTEN_SECONDS)
            if message is None:
                continue
            if message["type"] == "died":
                return {**otherwise, "replace": True}
            if self._is_ours(message):
                if message["type"] == "done":
                    return message
                if message["type"] in ("stopped", "stale"):
                    return {**otherwise, "resident": message["resident"]}
        return {**otherwise, "replace": True}


def given_back(kind: ReleaseKind, reason: str, *, replace: bool = False) -> Message:
    return {"type": "release", "kind": kind.value, "reason": reason, "replace": replace}

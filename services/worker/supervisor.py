"""The supervisor: claims jobs, hands them to its executor, keeps the lease, and judges by what it sees. No
torch.

Whatever happens to the executor - it dies, hangs, exceeds its time - happens in another process: the
supervisor gives the job back with a reason and the end of the log, and starts a fresh executor.
"""

from __future__ import annotations

import secrets
import threading
import time
from typing import Any

import structlog

from services.common.db.states import ReleaseKind
from services.common.settings import PROTOCOL, WorkerSettings
from services.worker.api_client import ApiClient, Json, read_token
from services.worker.channel import Message
from services.worker.child import ExecutorChild
from services.worker.errors import (
    ApiRefusedError,
    ApiUnreachableError,
    StaleAttemptError,
    WorkerError,
)
from services.worker.heartbeat import Heartbeat, HeldJob

EXECUTOR_START_SECONDS = 300.0  # importing torch from a cold disk
EXECUTOR_STOP_SECONDS = 1.5  # how long it may take to notice that it should stop
LAST_WORDS_SECONDS = 2.0  # how long we try to give a lease back when we are asked to stop
FIRST_RESTART_SECONDS = 0.2
LONGEST_RESTART_SECONDS = 30.0
LISTEN_SECONDS = 0.2

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Supervisor:
    """One slot: one executor, one job at a time. `run` returns when `stop` was called."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._token = read_token(settings.worker_token_path)
        self._client = ApiClient(settings.url, self._token, on_wait=self._on_wait)
        self._incarnation = secrets.token_hex(8)
        self._stopping = threading.Event()
        self._stopped_at = 0.0
        self._child: ExecutorChild | None = None
        self._restart_pause = 0.0
        self._worker_id: int | None = None
        self._identity: Json = {}
        self._resident: list[str] = []

    def stop(self) -> None:
        """Give the lease back and end; may be called from a signal handler."""
        if not self._stopping.is_set():
            self._stopped_at = time.monotonic()
            self._stopping.set()

    def run(self) -> None:
        """Until stopped. Raises WorkerError with one sentence when the API does not want this worker."""
        try:
            while not self._stopping.is_set():
                child = self._ready_executor()
                if child is None:
                    continue
                if self._worker_id is None:
                    self._register(child)
                job = self._claim()
                if job is None:
                    self._wait_for_work(child)
                else:
                    self._run_job(child, job)
        except ApiUnreachableError:
            if not self._stopping.is_set():
                raise
        finally:
            if self._child is not None:
                self._child.kill()
            self._client.close()

    # the executor

    def _start_executor(self) -> ExecutorChild:
        settings = self._settings
        configuration = {
            "url": settings.url,
            "token": self._token,
            "home": str(settings.home),
            "device": settings.device,
            "threads": settings.threads,
            "checkpoint_seconds": settings.checkpoint_seconds,
            "job_plugin": settings.job_plugin,
        }
        self._resident = []
        self._child = ExecutorChild(configuration, threads=settings.threads, log_tail=settings.log_tail)
        return self._child

    def _ready_executor(self) -> ExecutorChild | None:
        """The executor once it can take a job; none when it died or we are stopping."""
        child = self._child
        if child is not None and child.alive and child.description is not None:
            return child
        if child is None or not child.alive:
            if child is not None:
                child.reap()
            if self._stopping.wait(self._restart_pause):
                return None
            child = self._start_executor()
        deadline = time.monotonic() + EXECUTOR_START_SECONDS
        while not self._stopping.is_set():
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

    def _replace_executor(self) -> None:
        """Kill it and start a fresh one right away: importing torch takes seconds."""
        if self._child is not None:
            self._child.kill()
        if not self._stopping.is_set():
            self._start_executor()

    # registering and claiming

    def _register(self, child: ExecutorChild) -> None:
        about = child.description or {}
        self._identity = {
            "incarnation": self._incarnation,
            "device_class": about["device_class"],
            "protocol": PROTOCOL,
        }
        answer = self._client.register(
            {
                "name": self._settings.name,
                "device_name": about["device_name"],
                "facts": {**about["facts"], "platform": self._settings.platform},
                **self._identity,
            }
        )
        self._worker_id = answer["id"]
        log.info("worker.registered", worker=self._worker_id, name=self._settings.name, **self._identity)

    def _claim(self) -> Json | None:
        if self._stopping.is_set():
            return None
        return self._client.claim({"worker": self._worker_id, "resident": self._resident, **self._identity})

    def _wait_for_work(self, child: ExecutorChild) -> None:
        """Nothing to do now. An executor that dies idle is noticed by the next round."""
        self._stopping.wait(self._settings.poll_seconds)
        while not child.messages.empty():
            child.receive(0)

    # one job

    def _run_job(self, child: ExecutorChild, job: Json) -> None:
        held = HeldJob(id=job["id"], attempt=job["attempt"], lease_seconds=job["lease_seconds"])
        child.log.clear()
        child.send({"type": "job", "job": job})
        with Heartbeat(self._client, held, child.log) as beat:
            ending = self._watch(child, held, beat)
            beat.stop()
            self._settle(child, held, ending)

    def _watch(self, child: ExecutorChild, held: HeldJob, beat: Heartbeat) -> Message:
        """Follow a job to its end: the executor's last message about it, or what we have to say instead."""
        while True:
            message = child.receive(LISTEN_SECONDS)
            if message is not None and message["type"] == "died":
                return _given_back(ReleaseKind.CRASH, f"the executor {child.death()} ({held.where()})", replace=True)
            if message is not None and (message.get("job"), message.get("attempt")) == (held.id, held.attempt):
                if message["type"] != "progress":
                    return message
                held.note(message["counter"], message["progress"])
            # Also right after a message: an executor that reports without a pause may not talk itself out of these.
            if beat.lost is not None:
                return self._stop_job(child, held, {"type": "stale"})
            if beat.cancelled:
                return self._stop_job(child, held, _given_back(ReleaseKind.GRACEFUL, "the job was cancelled"))
            if self._stopping.is_set():
                return self._stop_job(child, held, _given_back(ReleaseKind.GRACEFUL, "the worker was asked to stop"))
            overdue = self._overdue(held)
            if overdue is not None:
                return overdue

    def _overdue(self, held: HeldJob) -> Message | None:
        """The end of a job that makes no progress, or takes longer than it may."""
        now, quiet, limit = time.monotonic(), self._settings.no_progress_seconds, self._settings.job_seconds
        if now - held.moved_at > quiet:
            reason = f"no progress for {quiet:g} s ({held.where()})"
            return _given_back(ReleaseKind.HANG, reason, replace=True)
        if limit is not None and now - held.started_at > limit:
            reason = f"longer than the limit of {limit:g} s ({held.where()})"
            return _given_back(ReleaseKind.TIMEOUT, reason, replace=True)
        return None

    def _stop_job(self, child: ExecutorChild, held: HeldJob, otherwise: Message) -> Message:
        """Ask the executor to stop, and kill it when it does not. A job that ends meanwhile has ended."""
        child.send({"type": "stop", "job": held.id, "attempt": held.attempt})
        deadline = time.monotonic() + EXECUTOR_STOP_SECONDS
        while time.monotonic() < deadline:
            message = child.receive(LISTEN_SECONDS)
            if message is None:
                continue
            if message["type"] == "died":
                return {**otherwise, "replace": True}
            if (message.get("job"), message.get("attempt")) == (held.id, held.attempt):
                if message["type"] == "done":
                    return message
                if message["type"] in ("stopped", "stale"):
                    return {**otherwise, "resident": message["resident"]}
        return {**otherwise, "replace": True}

    def _settle(self, child: ExecutorChild, held: HeldJob, ending: Message) -> None:
        """Tell the API how the attempt ended."""
        if ending.get("replace", False):
            self._replace_executor()
        else:
            child.log.settle()
            self._resident = ending.get("resident", self._resident)
        text = child.log.text()
        known = log.bind(job=held.id, attempt=held.attempt)
        try:
            if ending["type"] == "done":
                self._finish(held, ending["done"], text)
            elif ending["type"] == "release":
                kind, reason = ending["kind"], ending["reason"]
                known.warning("job.released", kind=kind, reason=reason)
                body = {"attempt": held.attempt, "kind": kind, "reason": reason, "log": text}
                self._client.release(held.id, body)
            else:
                known.warning("job.abandoned", reason="another attempt holds it")
                self._client.save_log(held.id, attempt=held.attempt, text=text)
        except StaleAttemptError as error:
            known.warning("job.abandoned", reason=str(error))
        except ApiUnreachableError as error:
            known.error("job.end_not_told", reason=str(error))

    def _finish(self, held: HeldJob, done: Json, text: str) -> None:
        try:
            self._client.save_log(held.id, attempt=held.attempt, text=text)
        except ApiRefusedError as error:  # a result is worth more than its log
            log.warning("log.refused", job=held.id, attempt=held.attempt, reason=str(error))
        try:
            self._client.done(held.id, done)
        except StaleAttemptError:
            raise
        except ApiRefusedError as error:
            refused: dict[str, Any] = {
                "attempt": held.attempt,
                "outcome": "failed",
                "reason": f"the result was refused: {error}",
                "result": {},
                "measurements": [],
            }
            self._client.done(held.id, refused)

    def _on_wait(self) -> None:
        """While the API is away: a supervisor that was asked to stop does not wait for long."""
        if self._stopping.is_set() and time.monotonic() - self._stopped_at > LAST_WORDS_SECONDS:
            raise ApiUnreachableError(f"the API at {self._settings.url} does not answer, and this worker has to stop")


def _given_back(kind: ReleaseKind, reason: str, *, replace: bool = False) -> Message:
    return {"type": "release", "kind": kind.value, "reason": reason, "replace": replace}

"""One slot: claims jobs, hands them to its executor, keeps the lease, and tells the API how they ended. No torch.

Whatever happens to the executor - it dies, hangs, exceeds its time - happens in another process: the slot gives the
job back with a reason and the end of the log, and starts a fresh executor.
"""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any

import structlog

from services.common.settings import PROTOCOL, WorkerSettings
from services.worker.api_client import ApiClient, Json
from services.worker.channel import Message
from services.worker.child import ExecutorChild
from services.worker.desk import Desk
from services.worker.devices import SlotPlan
from services.worker.errors import ApiRefusedError, ApiUnreachableError, StaleAttemptError, WorkerError
from services.worker.heartbeat import Heartbeat, HeldJob
from services.worker.keeper import ExecutorKeeper
from services.worker.watch import JobWatch

LAST_WORDS_SECONDS = 2.0  # how long we try to give a lease back when we are asked to stop
GOODBYE_SECONDS = 0.5  # nobody waits for it: a worker that is not heard of is forgotten anyway
HOLD_SECONDS = 1.0  # between looks whether a paused worker may work again

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Slot:
    """One executor, one job at a time. `run` returns when the worker was asked to stop, or this slot to end."""

    def __init__(
        self,
        settings: WorkerSettings,
        plan: SlotPlan,
        token: str,
        desk: Desk,
        *,
        on_ready: Callable[[str], None] = lambda _device_class: None,
    ) -> None:
        self._settings = settings
        self._plan = plan
        self._desk = desk
        self._on_ready = on_ready
        self._client = ApiClient(settings.url, token, on_wait=self._on_wait)
        self._incarnation = secrets.token_hex(8)
        self._stopping = threading.Event()
        self._stopped_at = 0.0
        configuration = {
            "url": settings.url,
            "token": token,
            "home": str(settings.home),
            "device": plan.device,
            "threads": settings.threads,
            "checkpoint_seconds": settings.checkpoint_seconds,
            "cache_bytes": settings.cache_bytes,
            "data_root": None if settings.data_root is None else str(settings.data_root),
            "job_plugin": settings.job_plugin,
        }
        self._keeper = ExecutorKeeper(
            configuration, plan.environment, log_tail=settings.log_tail, wait=self._stopping.wait
        )
        self._worker_id: int | None = None
        self._identity: Json = {}
        self._resident: list[str] = []
        self._resident_of: ExecutorChild | None = None

    def stop(self) -> None:
        """Give the lease back and end; may be called from a signal handler."""
        if not self._stopping.is_set():
            self._stopped_at = time.monotonic()
            self._stopping.set()

    def run(self) -> None:
        """Until stopped or told to end. Raises WorkerError with one sentence when the API does not want this worker."""
        structlog.contextvars.bind_contextvars(worker=self._plan.name, slot=self._plan.index)
        try:
            while not self._stopping.is_set():
                child = self._keeper.ready()
                if child is not None and self._turn(child) == "end":
                    log.info("worker.drained")
                    break
            self._say_goodbye()
        except ApiUnreachableError:
            if not self._stopping.is_set():
                raise
        finally:
            self._desk.leave(self._plan.index)
            self._keeper.kill()
            self._client.close()

    def _turn(self, child: ExecutorChild) -> str:
        """Ask for a job once, and do what the answer says; returns the answer's directive."""
        if self._worker_id is None:
            self._register(child)
        reply = self._claim(child)
        if reply is None:
            return "work"
        directive: str = reply["directive"]
        if reply["job"] is not None:
            self._run_job(child, reply["job"])
        elif directive == "hold":
            self._desk.leave(self._plan.index)
            self._stopping.wait(HOLD_SECONDS)
        elif directive == "work":
            self._wait_for_work(child)
        return directive

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
                "name": self._plan.name,
                "device_name": about["device_name"],
                "facts": {**about["facts"], "platform": self._settings.platform},
                **self._identity,
            }
        )
        self._worker_id = answer["id"]
        log.info("worker.registered", id=self._worker_id, device_name=about["device_name"], **self._identity)
        self._on_ready(about["device_class"])

    def _claim(self, child: ExecutorChild) -> Json | None:
        """The API's answer; none when we are stopping, or when it has forgotten us: then we register anew."""
        if self._stopping.is_set():
            return None
        held = self._resident if self._resident_of is child else []
        try:
            return self._client.claim({"worker": self._worker_id, "resident": held, **self._identity})
        except StaleAttemptError as error:
            log.warning("worker.forgotten", reason=str(error))
            self._worker_id = None
            return None

    def _wait_for_work(self, child: ExecutorChild) -> None:
        """Nothing to do now. An executor that dies idle is noticed by the next round."""
        if self._settings.broker_url is None:
            self._stopping.wait(self._settings.poll_seconds)
        else:
            # Not all at once: a thousand workers that were started together would ask together for ever.
            seconds = self._settings.unrung_poll_seconds * random.uniform(0.8, 1.0)
            self._desk.wait(self._plan.index, seconds, lambda: self._stopping.is_set() or not child.alive)
        while not child.messages.empty():
            child.receive(0)

    def _say_goodbye(self) -> None:
        if self._worker_id is None:
            return
        try:
            self._client.goodbye(self._worker_id, self._incarnation, patience_seconds=GOODBYE_SECONDS)
        except WorkerError as error:
            log.warning("worker.goodbye_not_told", reason=str(error))

    # one job

    def _run_job(self, child: ExecutorChild, job: Json) -> None:
        held = HeldJob.claimed(job)
        with structlog.contextvars.bound_contextvars(job=held.id, attempt=held.attempt):
            log.info("job.claimed", kind=job["kind"])
            child.log.clear(job=held.id, attempt=held.attempt)
            child.send({"type": "job", "job": job})
            with Heartbeat(self._client, held, child.log) as beat:
                ending = JobWatch(child, held, beat, self._settings).ending(self._stopping.is_set)
                beat.stop()
                self._settle(child, held, ending)

    def _settle(self, child: ExecutorChild, held: HeldJob, ending: Message) -> None:
        """Tell the API how the attempt ended."""
        if ending.get("replace", False):
            self._keeper.replace()
        else:
            child.log.settle()
            if "resident" in ending:
                self._resident, self._resident_of = ending["resident"], child
        text = child.log.text()
        try:
            if ending["type"] == "done":
                self._finish(held, ending["done"], text)
                log.info("job.done", outcome=ending["done"]["outcome"])
            elif ending["type"] == "release":
                kind, reason = ending["kind"], ending["reason"]
                log.warning("job.released", kind=kind, reason=reason)
                body = {"attempt": held.attempt, "kind": kind, "reason": reason, "log": text}
                self._client.release(held.id, body)
            else:
                log.warning("job.abandoned", reason="another attempt holds it")
                self._client.save_log(held.id, attempt=held.attempt, text=text)
        except StaleAttemptError as error:
            log.warning("job.abandoned", reason=str(error))
        except ApiUnreachableError as error:
            log.error("job.end_not_told", reason=str(error))

    def _finish(self, held: HeldJob, done: Json, text: str) -> None:
        try:
            self._client.save_log(held.id, attempt=held.attempt, text=text)
        except ApiRefusedError as error:  # a result is worth more than its log
            log.warning("log.refused", reason=str(error))
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
        """While the API is away: a worker that was asked to stop does not wait for long."""
        if self._stopping.is_set() and time.monotonic() - self._stopped_at > LAST_WORDS_SECONDS:
            raise ApiUnreachableError(f"the API at {self._settings.url} does not answer, and this worker has to stop")

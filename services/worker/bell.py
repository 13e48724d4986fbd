"""The Celery consumer of a worker: hears bells in a thread of its own and hands them to the desk.

Whatever happens here, jobs are not touched: slots look for work by themselves now and then, so a broker that is away,
or a consumer that dies, costs seconds and no result.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import structlog

from services.common.messages import ANY, JOB, TASK, celery_app, queue_name

PATIENCE_SECONDS = 2.0  # how long a bell waits for an idle slot before it goes back to its queue, for somebody else
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 10.0

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class BellListener:
    """Consumes the queues of one device class, at most one bell per slot at a time.

    `ring(patience)` returns once the slot that it woke is idle again, False when no slot was idle.
    """

    def __init__(self, url: str, *, name: str, device_class: str, slots: int, ring: Callable[[float], bool]) -> None:
        self._url = url
        self._name = name
        self._queues = [queue_name(ANY), queue_name(device_class)]
        self._slots = slots
        self._ring = ring
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="doorbell", daemon=True)

    def start(self) -> None:
        for noisy in ("celery", "kombu", "amqp"):  # a line for every bell says nothing
            logging.getLogger(noisy).setLevel(logging.WARNING)
        self._thread.start()

    def stop(self) -> None:
        """Consume no more; bells that wait for a slot go back. Does not wait."""
        from celery.worker import state

        self._stopping.set()
        state.should_stop = 0

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)

    def _run(self) -> None:
        structlog.contextvars.bind_contextvars(worker=self._name)
        pause = FIRST_PAUSE_SECONDS
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                self._consume()
            except Exception:  # a library's mistake may not end the worker: slots look for work without a bell
                log.exception("doorbell.failed", again_in_s=pause)
            else:
                if not self._stopping.is_set():
                    log.warning("doorbell.ended", again_in_s=pause)
            if time.monotonic() - started > LONGEST_PAUSE_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            self._stopping.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _consume(self) -> None:
        """Until stopped; a broker that is away is waited for in here."""
        from celery.app.trace import setup_worker_optimizations
        from celery.worker import WorkController, state

        app = celery_app(self._url)
        hostname = f"nasdet@{self._name}"
        app.task(name=TASK, shared=False, acks_late=True, ignore_result=True)(self._heard)
        app.finalize()
        for foreign in [name for name in app.tasks if name != TASK]:
            app.tasks.unregister(foreign)  # Celery's own could run others
        setup_worker_optimizations(app, hostname)  # tasks are looked up in this application, not in a default one
        controller = WorkController(
            app=app,
            hostname=hostname,
            pool_cls="threads",
            concurrency=self._slots,
            queues=self._queues,
            loglevel="WARNING",
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
        )
        state.should_stop = None
        if self._stopping.is_set():  # looked at last: whoever stops us sets it first, and should_stop after
            return
        log.info("doorbell.listening", queues=self._queues, slots=self._slots)
        controller.start()

    def _heard(self, *unnamed: Any, **message: Any) -> None:
        """Celery's task. A bell that finds every slot busy goes back to its queue."""
        from celery.exceptions import Reject

        job = message.get(JOB)
        if unnamed or set(message) != {JOB} or not isinstance(job, int):
            log.warning("doorbell.not_a_bell", worker=self._name, fields=sorted(map(str, message))[:10])
            return
        log.debug("doorbell.heard", worker=self._name, job=job)
        if not self._ring(PATIENCE_SECONDS):
            raise Reject("no slot is idle", requeue=True)

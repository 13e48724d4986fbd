"""The supervisor: one process for all devices of a machine, a slot for each, and one ear for the doorbell. No torch."""

from __future__ import annotations

import os
import threading

import structlog

from services.common.alive import SignOfLife
from services.common.settings import WorkerSettings
from services.worker.api_client import read_token
from services.worker.bell import BellListener
from services.worker.desk import Desk
from services.worker.devices import plan_slots
from services.worker.slot import Slot

GLANCE_SECONDS = 0.2
BELL_STOP_SECONDS = 1.0

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Supervisor:
    """Runs its slots until `stop` was called, or until every one of them was told to end."""

    def __init__(self, settings: WorkerSettings) -> None:
        """Raises WorkerError with one sentence when there is no token, or not the devices that were asked for."""
        self._settings = settings
        self._desk = Desk()
        self._stopping = threading.Event()
        self._failures: list[BaseException] = []
        self._listener: BellListener | None = None
        self._listening = threading.Lock()
        token = read_token(settings.worker_token_path)
        self._slots = [
            Slot(settings, plan, token, self._desk, on_ready=self._listen) for plan in plan_slots(settings, os.environ)
        ]

    def stop(self) -> None:
        """Give every lease back and end; may be called from a signal handler."""
        self._stopping.set()
        for slot in self._slots:
            slot.stop()

    def run(self) -> None:
        """Raises WorkerError with one sentence when the API does not want this worker; all slots end then."""
        threads = [
            threading.Thread(target=self._run_slot, args=(slot,), name=f"slot-{number}", daemon=True)
            for number, slot in enumerate(self._slots)
        ]
        for thread in threads:
            thread.start()
        sign = SignOfLife(self._settings.home)
        for thread in threads:
            while thread.is_alive():  # not one long wait: signals are served between two of them
                sign.beat()
                thread.join(GLANCE_SECONDS)
        if self._listener is not None:
            self._stopping.set()
            self._listener.stop()
            self._listener.join(BELL_STOP_SECONDS)
        if self._failures:
            raise self._failures[0]

    def _run_slot(self, slot: Slot) -> None:
        try:
            slot.run()
        except BaseException as error:
            # What ends one slot - refused by the API, no device, our mistake - would end the others too.
            self._failures.append(error)
            self.stop()

    def _listen(self, device_class: str) -> None:
        """A slot has registered: now the class of our devices is known, and with it the queues."""
        with self._listening:
            url = self._settings.resolved_broker_url
            if url is None or self._listener is not None or self._stopping.is_set():
                return
            self._listener = BellListener(
                url,
                name=self._settings.name,
                device_class=device_class,
                slots=len(self._slots),
                ring=lambda patience: self._desk.ring(patience, self._stopping.is_set),
            )
            self._listener.start()

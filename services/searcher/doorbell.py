"""Rings for queued jobs through Celery, so that an idle worker looks at once. Only where there is a broker.

A thread of its own: a broker that is away makes nobody wait who steps searches. Nothing hangs on a message. It is sent
after the mark in the database was committed; where it is lost, or never sent, its job is rung for again, and workers
look by themselves now and then. Two searchers mark different jobs.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import structlog

from services.common.db.repositories.doorbells import Bell, DoorbellRepository
from services.common.db.session import DATABASE_AWAY, Database
from services.common.messages import JOB, TASK, broker_away, celery_app, queue_name
from services.common.settings import SearcherSettings

if TYPE_CHECKING:
    from kombu import Connection, Producer

LOOK_SECONDS = 0.25
SEND_SECONDS = 2.0  # the longest that one step of a send may take
BELLS_PER_LOOK = 100
AWAY_SECONDS = 2.0  # between tries while the broker is away
LIVE_LEASES = 2  # a worker that was not seen for so many leases is not rung for

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Doorbell:
    """`start`, and `stop` at the end. `look` does one round."""

    def __init__(self, database: Database, settings: SearcherSettings, broker_url: str) -> None:
        self._database = database
        self._settings = settings
        self._app = celery_app(broker_url, send_seconds=SEND_SECONDS)
        self._unreachable = broker_away()
        self._connection: Connection | None = None
        self._producer: Producer | None = None
        self._away = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="doorbell", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(SEND_SECONDS)

    def look(self) -> int:
        """Ring for what is due; returns how many messages were sent."""
        with self._database.write_session() as session:
            bells = DoorbellRepository(session).due(
                ring_seconds=self._settings.ring_seconds,
                live_seconds=max(LIVE_LEASES * self._settings.lease_seconds, self._settings.ring_seconds),
                limit=BELLS_PER_LOOK,
            )
        return self._send(bells) if bells else 0

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.look()
            except DATABASE_AWAY as error:
                log.warning("doorbell.database", error=str(error))
            except Exception:  # the searcher goes on, and so do we: workers look by themselves
                log.exception("doorbell.failed")
                self._hang_up()
            self._stopping.wait(AWAY_SECONDS if self._away else LOOK_SECONDS)
        self._hang_up()

    def _send(self, bells: Sequence[Bell]) -> int:
        """As many as the broker takes; it is told once that it is away, and once that it is back."""
        sent = 0
        try:
            for bell in bells:
                self._app.send_task(
                    TASK,
                    kwargs={JOB: bell.job_id},
                    queue=queue_name(bell.device_class),
                    producer=self._ready_producer(),
                    retry=False,
                    ignore_result=True,
                )
                sent += 1
        except self._broker_errors() as error:
            self._hang_up()
            if not self._away:
                log.warning("doorbell.broker_away", error=f"{type(error).__name__}: {error}", unsent=len(bells) - sent)
            self._away = True
        else:
            if self._away:
                log.info("doorbell.broker_back")
            self._away = False
        return sent

    def _ready_producer(self) -> Producer:
        if self._producer is None:
            self._connection = self._app.connection_for_write()
            self._producer = self._app.amqp.Producer(self._connection, auto_declare=False)
        return self._producer

    def _broker_errors(self) -> tuple[type[BaseException], ...]:
        connection: Any = self._connection
        known = () if connection is None else (*connection.connection_errors, *connection.channel_errors)
        return (OSError, self._unreachable, *known)

    def _hang_up(self) -> None:
        """The next message is sent over a new connection."""
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            try:
                connection.release()
            except (OSError, self._unreachable, *connection.connection_errors, *connection.channel_errors) as error:
                log.debug("doorbell.hang_up", error=str(error))

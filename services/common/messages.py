"""The doorbell's message: what the searcher sends through Celery, and workers hear.

A message says only that a job is queued; it may be lost or come twice. The job itself is claimed at the API, so that
whoever can write to the broker can wake a worker and do nothing else. Celery is imported by whoever has a broker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from celery import Celery

TASK = "nasdet.ring"
JOB = "job"  # the message's only field: id of a queued job
ANY = "any"
DEVICE_CLASSES = ("cpu", "cuda")
# A bell is held unacknowledged for as long as the job that it led to. Brokers that would take it back earlier are told
# to wait; one that does it nonetheless makes a second bell, which is harmless.
HELD_SECONDS = 4 * 3600
KEPT_BELLS = 10_000  # older ones are dropped; the dispatcher rings again


def queue_name(device_class: str) -> str:
    """The queue of the jobs for one class of devices; everybody listens to that of "any" as well."""
    return f"nasdet.{device_class}"


def celery_app(url: str, *, send_seconds: float | None = None) -> Celery:
    """A Celery application on this broker that knows our queues and no task at all.

    Messages are JSON: anything else in a queue, pickle above all, is refused before it is decoded. With
    `send_seconds` the application is one that sends: no step takes longer, and nothing is tried twice.
    """
    from celery import Celery
    from kombu import Exchange, Queue

    app = Celery("nasdet", broker=url, set_as_current=False)
    # Classic queues, which know the one prefetch limit for all queues of a worker that a busy worker needs. RabbitMQ
    # wants the arguments equal wherever a queue is declared; Redis knows none of them.
    arguments = {"x-consumer-timeout": HELD_SECONDS * 1000, "x-max-length": KEPT_BELLS}
    exchange = Exchange("nasdet", type="direct", durable=True)
    queues = [
        Queue(queue_name(name), exchange, routing_key=name, queue_arguments=arguments)
        for name in (ANY, *DEVICE_CLASSES)
    ]
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        result_accept_content=["json"],
        event_serializer="json",
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_acks_late=True,
        task_queues=queues,
        task_default_queue=queue_name(ANY),
        task_default_exchange="nasdet",
        task_default_routing_key=ANY,
        task_default_delivery_mode="transient",
        task_create_missing_queues=False,
        task_send_sent_event=False,
        worker_send_task_events=False,
        worker_enable_remote_control=False,  # nobody stops a worker through the broker
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=4.0 if send_seconds is None else send_seconds,
        broker_heartbeat=30 if send_seconds is None else 0,
        broker_transport_options=_transport_options(url, send_seconds),
    )
    return app


def broker_away() -> type[Exception]:
    """What Celery raises, whatever the broker, when it cannot be reached."""
    from kombu.exceptions import OperationalError

    error: type[Exception] = OperationalError
    return error


def _transport_options(url: str, send_seconds: float | None) -> dict[str, Any]:
    """What each kind of broker understands; unknown ones get none."""
    scheme = urlsplit(url).scheme
    if scheme.startswith("redis"):
        listening = {
            "visibility_timeout": HELD_SECONDS,
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,
            "socket_timeout": 30,
            "health_check_interval": 25,
        }
        sending = {"socket_timeout": send_seconds, "retry_on_timeout": False}
        return {
            "global_keyprefix": "nasdet:",
            "socket_keepalive": True,
            "socket_connect_timeout": 4 if send_seconds is None else send_seconds,
            **(listening if send_seconds is None else sending),
        }
    if scheme in ("amqp", "amqps", "pyamqp"):
        return {} if send_seconds is None else {"read_timeout": send_seconds, "write_timeout": send_seconds}
    return {}

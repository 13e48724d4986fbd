"""The doorbell's Celery application: what it may carry, and who imports it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from services.common.messages import HELD_SECONDS, celery_app

ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "amqp://127.0.0.1:1//"])
def test_json_only_late_and_one_at_a_time(url: str) -> None:
    conf = celery_app(url).conf
    assert (conf.task_serializer, conf.accept_content, conf.result_backend) == ("json", ["json"], None)
    assert (conf.task_acks_late, conf.worker_prefetch_multiplier, conf.task_ignore_result) == (True, 1, True)
    assert conf.worker_enable_remote_control is False  # nobody stops a worker through the broker
    assert conf.worker_hijack_root_logger is False
    assert {queue.name for queue in conf.task_queues} == {"nasdet.any", "nasdet.cpu", "nasdet.cuda"}


def test_a_bell_is_not_taken_back_while_its_job_lasts() -> None:
    options = celery_app("redis://127.0.0.1:1/0").conf.broker_transport_options
    assert options["visibility_timeout"] == HELD_SECONDS >= 4 * 3600
    assert options["global_keyprefix"] == "nasdet:"
    (first, *_) = celery_app("amqp://127.0.0.1:1//").conf.task_queues
    assert first.queue_arguments["x-consumer-timeout"] == HELD_SECONDS * 1000


def test_without_a_broker_nobody_imports_celery() -> None:
    script = (
        "import sys; import services.searcher.main, services.worker.supervisor, services.api.main; "
        "print(sorted({'celery', 'kombu', 'redis'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

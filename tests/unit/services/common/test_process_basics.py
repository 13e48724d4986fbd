"""Settings, logs and the watch over the parent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from services.common.logging import redact
from services.common.parent_watch import EXIT_PARENT_GONE, watch_parent
from services.common.settings import ApiSettings, WorkerSettings


def test_settings_come_from_the_environment_and_arguments_win(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NASDET_HOME", str(tmp_path / "from-environment"))
    monkeypatch.setenv("NASDET_LEASE_SECONDS", "9")
    settings = ApiSettings(port=1)  # type: ignore[call-arg]  # the home comes from the environment
    assert (settings.lease_seconds, settings.heartbeat_seconds, settings.port) == (9, 3, 1)
    assert settings.resolved_database_url == f"sqlite:///{tmp_path / 'from-environment' / 'nasdet.db'}"
    assert ApiSettings(home=tmp_path).operator_token_path == tmp_path / "token"


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "70000"), ("LEASE_SECONDS", "0"), ("THREADS", "x"), ("LOG_FORMAT", "xml")]
)
def test_a_wrong_setting_fails_at_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str
) -> None:
    monkeypatch.setenv(f"NASDET_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        ApiSettings(home=tmp_path)


def test_worker_settings_have_their_own_defaults(tmp_path: Path) -> None:
    settings = WorkerSettings(home=tmp_path)
    assert (settings.poll_seconds, settings.no_progress_seconds, settings.job_plugin) == (0.3, 300, None)


def test_nobody_watches_where_there_is_no_parent() -> None:
    assert watch_parent(None) is None


def test_a_child_ends_when_its_parent_is_gone() -> None:
    watched, held = os.pipe()
    code = (
        f"from services.common.parent_watch import watch_parent; import time; watch_parent({watched}); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], pass_fds=[watched])
    os.close(watched)
    os.close(held)
    assert child.wait(timeout=30) == EXIT_PARENT_GONE


def test_a_log_line_is_json_on_stderr_with_fields_and_no_local_values() -> None:
    code = """
import structlog
from services.common.logging import configure_logging
configure_logging("api", log_format="json")
log = structlog.get_logger()
log.info("job.claimed", job=3)
try:
    secret = "hunter2" * 2
    raise ValueError("broken")
except ValueError:
    log.exception("failed")
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == ""
    first, second = (json.loads(line) for line in ended.stderr.splitlines())
    assert (first["event"], first["job"], first["service"], first["level"]) == ("job.claimed", 3, "api", "info")
    assert "ValueError: broken" in second["exception"]
    assert "hunter2hunter2" not in ended.stderr


def test_no_secret_reaches_a_log_line() -> None:
    code = """
import logging, sys, structlog
from services.common.logging import configure_logging
configure_logging("api", log_format=sys.argv[1])
log = structlog.get_logger()
url, token = "redis://:hunter2@127.0.0.1:6379/0", "nasdet_" + "k" * 43
log.info("asked", url=url, headers={"Authorization": f"Bearer {token}"}, argv=["--token", token], error=OSError(url))
logging.getLogger("celery").warning("cannot reach %s with %s", "amqp://me:hun%40ter2@host//", token)
try:
    raise ValueError(f"postgresql+psycopg://nasdet:hunter2@host/nasdet {token}")
except ValueError:
    log.exception("failed")
"""
    for log_format in ("json", "text"):
        ended = subprocess.run([sys.executable, "-c", code, log_format], capture_output=True, text=True, check=True)
        assert "hunter2" not in ended.stderr
        assert "hun%40ter2" not in ended.stderr
        assert "kkkk" not in ended.stderr
        for kept in ("redis://:***@127.0.0.1:6379/0", "amqp://me:***@host//", "nasdet:***@host/nasdet", "ValueError"):
            assert kept in ended.stderr, log_format


@pytest.mark.parametrize(
    "text", ["http://127.0.0.1:8765/v1/searches", "at 12:30 a@b wrote", "worker nasdet_node-1", "bearer of news"]
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text

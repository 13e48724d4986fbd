"""The API as a process: a socket from its parent, its parent's end, refusals at start, readers beside a writer."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from services.api.__main__ import main
from services.common.db.migrations import upgrade
from services.common.db.session import Database
from services.common.parent_watch import EXIT_PARENT_GONE
from tests.support import stores
from tests.support.api_platform import Platform

START_SECONDS = 60.0


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.api", *arguments],
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.mark.integration
def test_the_process_serves_an_inherited_socket_and_ends_with_its_parent(
    tmp_path: Path, listener: socket.socket
) -> None:
    watched, held = os.pipe()
    home = tmp_path / "home"
    process = subprocess.Popen(
        [sys.executable, "-m", "services.api", "--home", str(home), "--fd", str(listener.fileno())],
        pass_fds=(listener.fileno(), watched),
        env={**os.environ, "NASDET_PARENT_PIPE": str(watched)},
        stderr=subprocess.DEVNULL,
    )
    os.close(watched)
    try:
        # Sent before the API is up: it waits in the socket's queue.
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with httpx.Client(base_url=url, timeout=START_SECONDS, trust_env=False) as client:
            assert client.get("/readyz").json() == {"status": "ready"}
            token = (home / "token").read_text().strip()
            headers = {"Authorization": f"Bearer {token}"}
            assert client.get("/v1/searches", headers=headers).json()["items"] == []
        os.close(held)
        assert process.wait(timeout=10) == EXIT_PARENT_GONE
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.1", "::", "example.com"])
def test_another_address_than_loopback_is_refused_with_a_sentence(
    tmp_path: Path, host: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    monkeypatch.setattr(sys, "argv", ["api", "--home", str(home), "--host", host])
    assert main() == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"this machine only, but the host is {host}" in said
    assert not home.exists()


def test_a_home_of_a_newer_version_is_refused_with_a_sentence(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'nasdet.db'}")
    upgrade(database.write_engine)
    with database.write_session() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    ended = run("--home", str(tmp_path), "--port", "0")
    assert ended.returncode == 2
    assert "newer version" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_readers_do_not_wait_for_a_writer(start: Callable[..., Platform]) -> None:
    platform = start()
    platform.user.get("/v1/searches")  # the use of the token is noted
    with platform.api.database.write_session() as session:
        stores.new_rows(session)  # the write lock is held from here on
        began = time.monotonic()
        assert platform.user.get("/v1/searches").json()["items"] == []
        assert platform.user.get("/v1/jobs").status_code == 200
        assert time.monotonic() - began < 5
    assert len(platform.user.get("/v1/searches").json()["items"]) == 1


def test_the_api_does_not_need_torch() -> None:
    code = "import sys, services.api.main, services.api.__main__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

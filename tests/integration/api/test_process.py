"""The API as a process: a socket from its parent, its parent's end, refusals at start, readers beside a writer."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from services.api.__main__ import main
from services.common.db.migrations import upgrade
from services.common.db.session import Database
from services.common.parent_watch import EXIT_PARENT_GONE
from services.common.tokens import new_token
from tests.support import stores
from tests.support.api_platform import Platform
from tests.support.servers import free_port

START_SECONDS = 60.0


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.api", *arguments],
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )


class Refused:
    """Starts the API in this process, which refuses with one sentence."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch = monkeypatch
        self.capsys = capsys

    def __call__(self, *arguments: str, says: Sequence[str], status: int = 2, **settings: str) -> str:
        for name, value in settings.items():
            self.monkeypatch.setenv(f"NASDET_{name.upper()}", value)
        assert main(list(arguments)) == status
        said = self.capsys.readouterr().err
        assert said.count("\n") == 1, said
        for part in says:
            assert part in said
        return said


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Refused]:
    handlers = logging.getLogger().handlers
    yield Refused(monkeypatch, capsys)
    logging.getLogger().handlers = handlers


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
            assert client.get("/readyz").json()["status"] == "ready"
            token = (home / "token").read_text().strip()
            headers = {"Authorization": f"Bearer {token}"}
            assert client.get("/v1/searches", headers=headers).json()["items"] == []
        os.close(held)
        assert process.wait(timeout=10) == EXIT_PARENT_GONE
    finally:
        process.kill()
        process.wait()


class TestBinding:
    """To other machines the API is closed unless somebody opened it on purpose."""

    @pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.1", "::", "example.com", "127.0.0.1.example.com", ""])
    def test_without_a_token_made_before_it_refuses_to_listen_to_others(
        self, refused: Refused, tmp_path: Path, host: str
    ) -> None:
        home = tmp_path / "home"
        refused("--home", str(home), "--host", host, allowed_hosts="me", says=["there is no token yet in", str(home)])
        assert not home.exists()

    def test_an_inherited_socket_is_looked_at_too(self, refused: Refused, tmp_path: Path) -> None:
        with socket.create_server(("0.0.0.0", 0)) as listener:
            number = str(listener.fileno())
            refused("--home", str(tmp_path), "--fd", number, says=["listening on 0.0.0.0", "no token yet"])
        refused("--home", str(tmp_path), "--fd", number, says=["--fd"])

    def test_nobody_could_reach_it_without_an_allowed_name(self, refused: Refused, tmp_path: Path) -> None:
        (tmp_path / "token").write_text(new_token())
        refused("--home", str(tmp_path), "--host", "0.0.0.0", says=["nobody could reach", "--allow-host"])

    @pytest.mark.parametrize("names", ["*", "*.example.com", "me:8765", "http://me", "me/x", "a b", ".me"])
    def test_a_pattern_or_an_address_is_no_name(self, refused: Refused, tmp_path: Path, names: str) -> None:
        hosts = f"good.example,{names}"
        refused("--home", str(tmp_path), allowed_hosts=hosts, says=["NASDET_ALLOWED_HOSTS", names])

    def test_a_token_file_that_cannot_be_read_is_refused(self, refused: Refused, tmp_path: Path) -> None:
        missing = tmp_path / "secret"
        for host in ("0.0.0.0", "127.0.0.1"):
            given: dict[str, str] = {"allowed_hosts": "me", "operator_token_file": str(missing)}
            says = [str(missing), "NASDET_OPERATOR_TOKEN_FILE"]
            refused("--home", str(tmp_path), "--host", host, says=says, status=2, **given)

    def test_opened_on_purpose_it_answers_under_the_allowed_name_alone(self, tmp_path: Path) -> None:
        secret = tmp_path / "secret"
        secret.write_text(token := new_token())
        with socket.create_server(("0.0.0.0", 0)) as listener:
            port = listener.getsockname()[1]
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "services.api",
                    "--home",
                    str(tmp_path / "home"),
                    "--fd",
                    str(listener.fileno()),
                ],
                pass_fds=[listener.fileno()],
                env={**os.environ, "NASDET_OPERATOR_TOKEN_FILE": str(secret), "NASDET_ALLOWED_HOSTS": "gpu-node"},
                stderr=subprocess.DEVNULL,
            )
        try:
            headers = {"Authorization": f"Bearer {token}"}
            with httpx.Client(
                base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60, trust_env=False
            ) as http:
                assert http.get("/v1/searches").status_code == 200
                assert http.get("/v1/searches", headers={"Host": f"gpu-node:{port}"}).status_code == 200
                assert http.get("/v1/searches", headers={"Host": f"other:{port}"}).status_code == 400
        finally:
            process.kill()
            process.wait()


def test_a_database_that_stays_away_ends_the_start_with_a_sentence(refused: Refused, tmp_path: Path) -> None:
    url = f"postgresql+psycopg://nasdet:hunter2@127.0.0.1:{free_port()}/nasdet"
    given = {"database_url": url, "database_wait_seconds": "1", "log_level": "error"}
    said = refused("--home", str(tmp_path), status=1, says=["did not let us in within 1 s"], **given)
    assert "hunter2" not in said


@pytest.mark.parametrize("url", ["hunter2", "postgresql+psycopg://me:hunter2@host:port/x", "nosuch://me:hunter2@h/x"])
def test_a_database_address_that_is_none_is_refused(refused: Refused, tmp_path: Path, url: str) -> None:
    assert "hunter2" not in refused("--home", str(tmp_path), database_url=url, says=["NASDET_DATABASE_URL"])


def test_metrics_that_cannot_be_served_end_the_start(refused: Refused, tmp_path: Path, listener: socket.socket) -> None:
    taken = str(listener.getsockname()[1])
    refused("--home", str(tmp_path), metrics_port=taken, log_level="error", says=["NASDET_METRICS_PORT"])


def test_metrics_for_other_machines_need_a_token(refused: Refused, tmp_path: Path) -> None:
    refused(
        "--home", str(tmp_path / "home"), metrics_port="0", metrics_host="0.0.0.0", says=["NASDET_METRICS_TOKEN_FILE"]
    )
    assert not (tmp_path / "home").exists()
    (file := tmp_path / "metrics").write_text("short")
    says = [str(file), "NASDET_METRICS_TOKEN_FILE"]
    refused("--home", str(tmp_path / "home"), says=says, metrics_token_file=str(file))


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

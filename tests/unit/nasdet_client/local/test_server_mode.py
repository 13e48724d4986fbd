"""What `nasdet doctor` says inside a process of server mode."""

from __future__ import annotations

import http.server
import importlib.util
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nasdet_client.local import doctor
from nasdet_client.local.finding import Finding
from nasdet_client.local.server_mode import ServerMode
from tests.support.servers import PostgresServer, RedisServer, free_port

TOKEN = "nasdet_" + "x" * 43


def look(**variables: object) -> dict[str, Finding]:
    """Findings by subject, with these NASDET_ variables (written without the prefix)."""
    environment = {f"NASDET_{name.upper()}": str(value) for name, value in variables.items()}
    return {finding.subject: finding for finding in ServerMode(environment).examine()}


def in_file(folder: Path, secret: str, name: str = "secret") -> Path:
    file = folder / name
    file.write_text(secret + "\n")
    return file


class TestDatabase:
    def test_password_from_a_file(self, postgres_server: PostgresServer, tmp_path: Path) -> None:
        url = f"postgresql+psycopg://nasdet@127.0.0.1:{postgres_server.port}/postgres"

        found = look(database_url=url, database_password_file=in_file(tmp_path, postgres_server.password))["database"]

        assert found.verdict == "ok"
        assert "PostgreSQL" in found.text
        assert postgres_server.password not in found.text

    def test_wrong_password(self, postgres_server: PostgresServer, tmp_path: Path) -> None:
        url = f"postgresql+psycopg://nasdet@127.0.0.1:{postgres_server.port}/postgres"

        found = look(database_url=url, database_password_file=in_file(tmp_path, "secret-guess"))["database"]

        assert found.verdict == "fails"
        assert "NASDET_DATABASE_URL" in found.text
        assert "secret-guess" not in found.text

    def test_nobody_there(self) -> None:
        found = look(database_url=f"postgresql+psycopg://nasdet:hidden@127.0.0.1:{free_port()}/nasdet")["database"]

        assert found.verdict == "fails"
        assert "hidden" not in found.text

    def test_password_file_that_is_not_there(self, tmp_path: Path) -> None:
        found = look(
            database_url="postgresql+psycopg://nasdet@127.0.0.1/nasdet", database_password_file=tmp_path / "gone"
        )["database"]

        assert found.verdict == "fails"
        assert str(tmp_path / "gone") in found.text

    def test_sqlite(self, tmp_path: Path) -> None:
        assert look(database_url=f"sqlite:///{tmp_path}/nasdet.db")["database"].verdict == "ok"


class TestBroker:
    def test_password_from_a_file(self, redis_server: RedisServer, tmp_path: Path) -> None:
        url = f"redis://127.0.0.1:{redis_server.port}/0"

        found = look(broker_url=url, broker_password_file=in_file(tmp_path, redis_server.password))["broker"]

        assert found.verdict == "ok"
        assert redis_server.password not in found.text

    def test_one_that_drops_messages(self, redis_server: RedisServer) -> None:
        client = redis_server.client()
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            found = look(broker_url=redis_server.url())["broker"]
        finally:
            client.config_set("maxmemory-policy", "noeviction")
            client.close()

        assert found.verdict == "warning"
        assert "noeviction" in found.text

    def test_wrong_password(self, redis_server: RedisServer, tmp_path: Path) -> None:
        url = f"redis://127.0.0.1:{redis_server.port}/0"

        assert look(broker_url=url, broker_password_file=in_file(tmp_path, "guess"))["broker"].verdict == "fails"

    @pytest.mark.parametrize("scheme", ["redis", "amqp"])
    def test_nobody_there(self, scheme: str) -> None:
        found = look(broker_url=f"{scheme}://:hidden@127.0.0.1:{free_port()}/0")["broker"]

        assert found.verdict == "fails"
        assert "NASDET_BROKER_URL" in found.text
        assert "hidden" not in found.text


class TestDataRoot:
    def test_names_of_the_data_sets(self, tmp_path: Path) -> None:
        for name in ("cells", "roads", ".hidden"):
            (tmp_path / name).mkdir()

        found = look(data_root=tmp_path)["data root"]

        assert (found.verdict, found.text) == ("ok", f"{tmp_path}: cells, roads")

    def test_empty(self, tmp_path: Path) -> None:
        assert look(data_root=tmp_path)["data root"].verdict == "warning"

    def test_not_there(self, tmp_path: Path) -> None:
        found = look(data_root=tmp_path / "gone")["data root"]

        assert found.verdict == "fails"
        assert "NASDET_DATA_ROOT" in found.text

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_a_data_set_that_may_not_be_read(self, tmp_path: Path) -> None:
        (tmp_path / "cells").mkdir(mode=0o000)

        assert look(data_root=tmp_path)["data root"].verdict == "fails"


class TestTokens:
    def test_good_one_is_not_shown(self, tmp_path: Path) -> None:
        found = look(worker_token_file=in_file(tmp_path, TOKEN, "worker_token"))["worker token"]

        assert found.verdict == "ok"
        assert TOKEN not in found.text

    def test_short_one(self, tmp_path: Path) -> None:
        assert look(operator_token_file=in_file(tmp_path, "short"))["operator token"].verdict == "fails"


class _Ready(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/readyz" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Silent."""


class _NotReady(_Ready):
    status = 503


@pytest.fixture(params=[_Ready, _NotReady])
def api(request: pytest.FixtureRequest) -> Iterator[tuple[str, bool]]:
    """Address of something that answers /readyz, and whether it says it is ready."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), request.param) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", request.param is _Ready
        server.shutdown()
        thread.join()


class TestApi:
    def test_a_worker_asks_whether_it_is_ready(self, api: tuple[str, bool], tmp_path: Path) -> None:
        url, ready = api

        found = look(url=url, worker_token_file=in_file(tmp_path, TOKEN))["API"]

        assert found.verdict == ("ok" if ready else "fails")

    def test_nobody_there(self, tmp_path: Path) -> None:
        found = look(url=f"http://127.0.0.1:{free_port()}", worker_token_file=in_file(tmp_path, TOKEN))["API"]

        assert found.verdict == "fails"
        assert "NASDET_URL" in found.text


class TestDoctor:
    @pytest.fixture
    def no_torch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        find = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))

    def _verdicts(self, home: Path) -> dict[str, str]:
        return {finding.subject: finding.verdict for finding in doctor.examine(home, free_port())}

    @pytest.mark.usefixtures("no_torch")
    def test_api_and_searcher_do_without_torch(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NASDET_DATABASE_URL", f"sqlite:///{tmp_path}/nasdet.db")

        verdicts = self._verdicts(tmp_path)

        assert verdicts["torch"] == "ok"
        assert {"device", "port"}.isdisjoint(verdicts)

    @pytest.mark.usefixtures("no_torch")
    def test_a_worker_does_not(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NASDET_URL", f"http://127.0.0.1:{free_port()}")
        monkeypatch.setenv("NASDET_WORKER_TOKEN_FILE", str(in_file(tmp_path, TOKEN)))

        verdicts = self._verdicts(tmp_path)

        assert (verdicts["torch"], verdicts["API"]) == ("fails", "fails")

    @pytest.mark.usefixtures("no_torch")
    def test_without_server_mode_nothing_changes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in [name for name in os.environ if name.startswith("NASDET_")]:
            monkeypatch.delenv(name)

        verdicts = self._verdicts(tmp_path)

        assert verdicts["torch"] == "fails"
        assert "port" in verdicts
        assert {"database", "broker", "data root", "API"}.isdisjoint(verdicts)

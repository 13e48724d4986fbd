"""The embedded platform as its user meets it: what starts, what is refused, what comes back after a kill."""

from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from nasdet_client.errors import CommandError
from nasdet_client.local.embedded import Embedded
from nasdet_client.local.home import HOME_SCHEMA, Home
from nasdet_client.sdk import ApiError
from tests.support.processes import is_running, kill

pytestmark = pytest.mark.integration

DETECTOR: dict[str, Any] = {
    "backbone": {"space": "detnas-300m", "width": 0.25},
    "neck": {"model": "fpn", "channels": 16, "extra_levels": 0},
    "head": {"model": "fcos", "convs": 1, "norm_groups": 4},
}
SPECIFICATION: dict[str, Any] = {
    "schema": 1,
    "name": "a search",
    "dataset": "scenes",
    "detector": DETECTOR,
    "search": {"algorithm": "random", "trials": 4},
}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    """A platform without workers: what is submitted to it stays queued."""
    folder = tmp_path_factory.mktemp("embedded")
    home = Home(folder / "home")
    (folder / "scenes").mkdir()
    with Embedded(home, workers=0) as running:
        home.register_dataset(folder / "scenes")
        yield running


def wait_until(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def nasdet(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nasdet_client", *arguments, "--home", str(home)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def assert_refused(done: subprocess.CompletedProcess[str], *words: str, exit_code: int = 2) -> None:
    """One sentence on stderr, nothing on stdout, and the exit code of the design."""
    assert done.returncode == exit_code, done.stderr
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in lines[0]


class TestProcesses:
    @pytest.mark.parametrize("name", ["api", "searcher"])
    def test_one_that_is_killed_comes_back(self, platform: Embedded, name: str) -> None:
        before = platform.processes()[name]

        kill(before)
        wait_until(lambda: platform.processes().get(name, before) != before)

        with platform.client() as client:
            wait_until(client.ready)
            assert client.searches() == client.searches()

    def test_all_end_when_their_parent_is_killed(self, tmp_path: Path) -> None:
        home = tmp_path / "home"
        command = [sys.executable, "-m", "nasdet_client", "up", "--port", "0", "--workers", "1", "--home", str(home)]
        parent = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            assert parent.stderr is not None
            assert "nasdet is up" in parent.stderr.readline()
            pids = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]
            ours = [pid for pid in pids if str(home) in _arguments(pid) and pid != parent.pid]
            assert len(ours) >= 3  # API, searcher, supervisor
        finally:
            parent.kill()
            parent.communicate()
        wait_until(lambda: not any(is_running(pid) for pid in ours))
        again = Home(home)
        again.open()
        again.close()


def _arguments(pid: int) -> str:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


class TestStart:
    def test_a_port_in_use_is_named(self, tmp_path: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]

            done = nasdet("up", "--port", str(port), home=tmp_path / "home")

        assert_refused(done, f"port {port}", "in use", "--port")

    def test_an_open_home_is_named(self, platform: Embedded) -> None:
        assert_refused(nasdet("up", "--port", "0", home=platform.home.path), "already open", "--home")

    def test_a_home_of_a_newer_version_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "home.json").write_text(json.dumps({"schema": HOME_SCHEMA + 1}))

        assert_refused(nasdet("up", "--port", "0", home=tmp_path), "newer nasdet")

    def test_a_database_of_a_newer_version_is_refused_in_one_sentence(self, tmp_path: Path) -> None:
        home = Home(tmp_path / "home")
        with Embedded(home, workers=0):
            pass
        with sqlite3.connect(home.path / "nasdet.db") as database:
            database.execute("update alembic_version set version_num = 'of_the_future'")

        with pytest.raises(CommandError, match="newer"):
            Embedded(home, workers=0).start()

    def test_other_machines_are_let_in_on_purpose_only(self, tmp_path: Path) -> None:
        home = Home(tmp_path / "home")
        with pytest.raises(CommandError, match="has no token yet; run `nasdet up` once without --host"):
            Embedded(home, host="0.0.0.0", allowed_hosts=["gpu-node"])
        assert not home.path.exists()
        home.path.mkdir()
        home.token_file.write_text("nasdet_" + "x" * 43)
        with pytest.raises(CommandError, match="--allow-host"):
            Embedded(home, host="0.0.0.0")
        with pytest.raises(CommandError, match="NASDET_ALLOWED_HOSTS"):
            Embedded(home, host="0.0.0.0", allowed_hosts=["*"], workers=0).start()

        with Embedded(home, host="0.0.0.0", allowed_hosts=["gpu-node", "10.0.0.5"], workers=0) as running:
            assert running.url.startswith("http://127.0.0.1:")
            headers = {"Authorization": "Bearer nasdet_" + "x" * 43}
            for host, status in (("gpu-node", 200), ("10.0.0.5:8765", 200), ("evil.example", 400)):
                url = f"{running.url}/v1/searches"
                assert httpx.get(url, headers={**headers, "Host": host}, trust_env=False).status_code == status

    def test_a_token_file_is_for_its_owner_alone(self, platform: Embedded) -> None:
        for file in (platform.home.token_file, platform.home.worker_token_file):
            assert file.stat().st_mode & 0o777 == 0o600


class TestSubmit:
    def test_a_search_is_listed_shown_and_cancelled(self, platform: Embedded, tmp_path: Path) -> None:
        file = tmp_path / "spec.yaml"
        file.write_text(json.dumps(SPECIFICATION))
        home = platform.home.path

        submitted = json.loads(nasdet("search", "submit", str(file), "--json", home=home).stdout)
        number = str(submitted["search"]["id"])
        shown = json.loads(nasdet("search", "show", number, "--json", home=home).stdout)
        listed = json.loads(nasdet("search", "list", "--json", home=home).stdout)
        cancelled = json.loads(nasdet("search", "cancel", number, "--json", home=home).stdout)
        watched = nasdet("search", "watch", number, "--json", home=home)

        assert shown["search"]["state"] == "running"
        assert number in [str(entry["id"]) for entry in listed]
        assert cancelled["search"]["state"] == "cancelled"
        assert watched.returncode == 1
        assert json.loads(watched.stdout)["search"]["state"] == "cancelled"

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"supernet": {"epoch": 3}}, ("supernet.epoch", "epochs")),
            ({"frobnicate": 1}, ("frobnicate", "known")),
            ({"dataset": "nowhere"}, ("nowhere",)),
            ({"dataset": "../../etc"}, ("dataset",)),
            ({"detector": {**DETECTOR, "backbone": {"space": "resnet-9000"}}}, ("resnet-9000", "detnas-300m")),
            (
                {"detector": {**DETECTOR, "backbone": {"space": "detnas-300m", "width": 0.25, "genotype": "1 2"}}},
                ("20", "2"),
            ),
            (
                {
                    "detector": {
                        **DETECTOR,
                        "head": {"model": "faster-rcnn"},
                        "neck": {"model": "fpn", "levels": ["c4"]},
                    }
                },
                ("c4",),
            ),
            ({"limits": [{"metric": "macs", "part": "backbone", "max": 1000}]}, ("reaches from", "to", "raise max")),
            ({"objectives": ["box_map", "macs"]}, ("objectives",)),
            ({"search": {"algorithm": "annealing"}}, ("annealing", "detnas")),
            ({"schema": 2}, ("schema",)),
            ({"seed": -1}, ("seed",)),
        ],
    )
    def test_what_cannot_be_run_is_refused_in_one_sentence(
        self, platform: Embedded, tmp_path: Path, change: dict[str, Any], words: tuple[str, ...]
    ) -> None:
        file = tmp_path / "spec.yaml"
        file.write_text(json.dumps({**SPECIFICATION, **change}))

        assert_refused(nasdet("search", "submit", str(file), home=platform.home.path), *words)

    def test_the_same_key_with_another_body_is_refused(self, platform: Embedded) -> None:
        with platform.client() as client:
            first = client.submit_search(SPECIFICATION, idempotency_key="one-key")
            again = client.submit_search(SPECIFICATION, idempotency_key="one-key")
            assert first["search"]["id"] == again["search"]["id"]
            with pytest.raises(ApiError) as refused:
                client.submit_search({**SPECIFICATION, "seed": 7}, idempotency_key="one-key")
            client.cancel_search(first["search"]["id"])

        assert refused.value.status == 409

    def test_an_unknown_search_is_named(self, platform: Embedded) -> None:
        assert_refused(nasdet("search", "show", "4711", home=platform.home.path), "4711")

    def test_a_wrong_token_is_one_sentence(self, platform: Embedded) -> None:
        done = nasdet("search", "list", "--token", "wrong", home=platform.home.path)

        assert_refused(done, "token", exit_code=2)

    def test_no_running_platform_is_one_sentence(self, tmp_path: Path) -> None:
        assert_refused(nasdet("search", "list", home=tmp_path), "no platform is running", "nasdet up")


class TestRun:
    def test_a_missing_dataset_starts_nothing(self, tmp_path: Path) -> None:
        file = tmp_path / "spec.yaml"
        file.write_text(json.dumps(SPECIFICATION))

        done = nasdet("run", str(file), "--data", str(tmp_path / "nowhere"), home=tmp_path / "home")

        assert_refused(done, "nowhere", "does not exist", "--data")
        assert not (tmp_path / "home").exists()

    def test_a_missing_specification_starts_nothing(self, tmp_path: Path) -> None:
        assert_refused(nasdet("run", str(tmp_path / "none.yaml"), home=tmp_path / "home"), "none.yaml")

    def test_told_to_stop_it_ends_in_order_and_can_go_on(self, tmp_path: Path) -> None:
        home, file = tmp_path / "home", tmp_path / "spec.yaml"
        (tmp_path / "scenes").mkdir()
        file.write_text(json.dumps(SPECIFICATION))
        arguments = ["run", str(file), "--data", str(tmp_path / "scenes"), "--home", str(home), "--workers", "1"]
        process = subprocess.Popen(
            [sys.executable, "-m", "nasdet_client", *arguments],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        assert "home" in process.stderr.readline()
        assert "search 1" in process.stderr.readline()

        process.terminate()
        output, errors = process.communicate(timeout=60)

        assert process.returncode == 130
        assert output == ""
        assert errors.strip().splitlines()[-1].startswith("nasdet: stopped")
        again = Home(home)
        again.open()
        again.close()

    def test_broken_data_are_bad_input_and_looked_at_again_the_next_time(self, tmp_path: Path) -> None:
        home, file = tmp_path / "home", tmp_path / "spec.yaml"
        (tmp_path / "scenes" / "annotations").mkdir(parents=True)
        (tmp_path / "scenes" / "annotations" / "instances_train.json").write_text('{"images": [')
        file.write_text(json.dumps(SPECIFICATION))
        arguments = ["run", str(file), "--data", str(tmp_path / "scenes"), "--json", "--workers", "1"]

        first, second = nasdet(*arguments, home=home), nasdet(*arguments, home=home)

        for number, done in ((1, first), (2, second)):
            assert done.returncode == 2, done.stderr
            assert json.loads(done.stdout)["search"]["id"] == number
            last = done.stderr.strip().splitlines()[-1]
            assert last.startswith(f"nasdet: search {number} failed")
            assert "instances_train.json" in last
        assert "search 1 failed" in second.stderr
        assert "starting anew" in second.stderr

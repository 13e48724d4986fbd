"""Uploads and downloads between real processes: cut at every region of bytes, two clients, two APIs, a kill, S3."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from nasdet_client.sdk import NasdetClient
from nasdet_client.sdk.upload import UploadRefusedError, send_archive
from services.worker.api_client import ApiClient
from services.worker.errors import ApiRefusedError
from tests.support.api_process import ApiProcess, started_api
from tests.support.cutting_proxy import CuttingProxy
from tests.support.s3_server import S3Server, started_s3
from tests.support.servers import PostgresServer

pytestmark = pytest.mark.integration

SIZE = 300_000
PIECE = 40_000


class Bytes:
    """An archive in memory, another one each time, and the name of a dataset for it."""

    def __init__(self, content: bytes | None = None) -> None:
        self.content = os.urandom(SIZE) if content is None else content
        self.size = len(self.content)
        self.sha256 = hashlib.sha256(self.content).hexdigest()
        self.name = f"cars-{self.sha256[:8]}"

    def read(self, offset: int, count: int) -> bytes:
        return self.content[offset : offset + count]


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with started_s3() as server:
        yield server


@pytest.fixture(scope="module")
def settings(postgres_server: PostgresServer) -> Iterator[dict[str, object]]:
    url = postgres_server.create()
    yield {"database_url": url, "collect_seconds": 0.3}
    postgres_server.drop(url)


@pytest.fixture(scope="module")
def apis(tmp_path_factory: pytest.TempPathFactory, settings: dict[str, object]) -> Iterator[list[ApiProcess]]:
    """Two API processes on one home and one Postgres."""
    home = tmp_path_factory.mktemp("apis") / "home"
    with ExitStack() as stack:
        yield [stack.enter_context(started_api(home, **settings)) for _ in range(2)]


def port(api: ApiProcess) -> int:
    return urlsplit(api.url).port or 0


def client(api: ApiProcess, url: str | None = None) -> NasdetClient:
    return NasdetClient(url or api.url, api.operator_token, patience_s=30, timeout_s=10)


def send(api: ApiProcess, archive: Bytes, url: str | None = None, piece: int = PIECE) -> dict[str, object]:
    with client(api, url) as speaker:
        return send_archive(speaker, archive.name, archive, archive.sha256, piece=piece)


def worker(api: ApiProcess, url: str | None = None) -> ApiClient:
    return ApiClient(url or api.url, (api.home / "worker-token").read_text().strip())


def check(api: ApiProcess, archive: Bytes) -> None:
    """The dataset's archive is what was sent, and nothing lies about."""
    with client(api) as speaker:
        assert speaker.dataset(archive.name)["archive"] == archive.sha256
    with worker(api) as reader:
        assert reader.get_artifact(archive.sha256) == archive.content
    assert list((api.home / "artifacts" / "uploads").iterdir()) == []


def test_cut_off_at_every_region_of_bytes(apis: list[ApiProcess]) -> None:
    """In headers, bodies and answers; every connection goes to the other API than the one before."""
    rng, archive = random.Random(0), Bytes()
    regions = [0, 1, 100, 230, 400, 5_000, PIECE - 1, PIECE, PIECE + 300, PIECE + 700]
    cuts: list[tuple[int | None, int | None]] = [(region or 1, None) for region in regions]
    cuts += [(None, region) for region in (1, 20, 150, 400)]
    cuts += [(rng.randrange(1, 2 * PIECE), None) for _ in range(10)]
    with CuttingProxy([port(api) for api in apis], cuts) as proxy:
        finished = send(apis[0], archive, proxy.url)
        assert proxy.cut >= len(cuts) - 2
    assert finished["state"] == "finished"
    check(apis[1], archive)


def test_a_client_that_died_goes_on_in_another_process(apis: list[ApiProcess]) -> None:
    archive = Bytes()
    with client(apis[0]) as dying:
        upload = dying.begin_upload(archive.name, archive.size, archive.sha256)
        dying.send_piece(upload["id"], 0, archive.content[:123_456])
    sent: list[int] = []
    with client(apis[1]) as speaker:
        send_archive(
            speaker, archive.name, archive, archive.sha256, piece=PIECE, progress=lambda now: sent.append(now["offset"])
        )
    assert sent[0] == 123_456
    check(apis[0], archive)


def test_two_clients_at_once_send_one_archive(apis: list[ApiProcess]) -> None:
    failed: list[BaseException] = []
    archive = Bytes()

    def work(api: ApiProcess) -> None:
        try:
            assert send(api, archive)["state"] == "finished"
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(apis[number % 2],)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    check(apis[0], archive)


def test_an_api_that_is_killed_in_the_middle_is_made_good_by_the_other(
    apis: list[ApiProcess], settings: dict[str, object]
) -> None:
    archive = Bytes(os.urandom(4 << 20))
    with started_api(apis[0].home, **settings) as dying, client(dying) as speaker:
        upload = speaker.begin_upload(archive.name, archive.size, archive.sha256)

        def pieces() -> Iterator[bytes]:
            for offset in range(0, 2 << 20, 1 << 16):
                yield archive.read(offset, 1 << 16)
            dying.process.kill()
            dying.process.wait()
            while True:
                yield bytes(1 << 16)

        headers = {"Authorization": f"Bearer {dying.operator_token}", "Upload-Offset": "0"}
        with pytest.raises(httpx.TransportError):
            httpx.patch(f"{dying.url}/v1/uploads/{upload['id']}", content=pieces(), headers=headers, trust_env=False)
    assert send(apis[1], archive, piece=1 << 20)["id"] == upload["id"]
    check(apis[1], archive)


def test_a_source_that_changes_while_it_is_sent_is_refused(apis: list[ApiProcess]) -> None:
    archive = Bytes()
    whole = archive.content
    archive.content = whole[:-1] + bytes([whole[-1] ^ 1])
    with pytest.raises(UploadRefusedError, match="has changed while it was sent"):
        send(apis[0], archive)
    assert list((apis[0].home / "artifacts" / "uploads").iterdir()) == []
    archive.content = whole
    send(apis[1], archive)
    check(apis[0], archive)


def test_what_a_broken_connection_brought_is_kept(apis: list[ApiProcess]) -> None:
    archive = Bytes()
    with client(apis[0]) as speaker:
        upload = speaker.begin_upload(archive.name, archive.size, archive.sha256)
        headers = {"Authorization": f"Bearer {apis[0].operator_token}", "Upload-Offset": "0"}
        path = f"/v1/uploads/{upload['id']}"
        with CuttingProxy([port(apis[0])], [(100_000, None)]) as proxy, pytest.raises(httpx.TransportError):
            httpx.patch(f"{proxy.url}{path}", content=archive.content, headers=headers, trust_env=False)
        deadline = time.monotonic() + 10
        while (offset := speaker.upload(upload["id"])["offset"]) == 0 and time.monotonic() < deadline:
            time.sleep(0.05)
    assert 90_000 < offset < 100_000
    send(apis[1], archive)
    check(apis[0], archive)


def test_a_download_that_is_cut_off_goes_on(apis: list[ApiProcess], tmp_path: Path) -> None:
    archive = Bytes()
    send(apis[0], archive)
    cuts = [(None, 50), (None, 100_000), (None, 1000), (100, None), (None, 150_000)]
    asked: list[int] = []
    with CuttingProxy([port(api) for api in apis], cuts) as proxy, worker(apis[0], proxy.url) as reader:
        reader.download(archive.sha256, tmp_path / "archive", asked.append)
        assert proxy.cut == len(cuts)
    assert (tmp_path / "archive").read_bytes() == archive.content
    assert set(asked) == {archive.size}


def test_a_file_is_put_although_connections_break(apis: list[ApiProcess], tmp_path: Path) -> None:
    archive = Bytes()
    (tmp_path / "weights").write_bytes(archive.content)
    cuts = [(50, None), (200_000, None), (None, 10), (1000, None)]
    with CuttingProxy([port(api) for api in apis], cuts) as proxy, worker(apis[0], proxy.url) as writer:
        assert writer.put_file(tmp_path / "weights") == archive.sha256
    with worker(apis[1]) as reader:
        assert reader.get_artifact(archive.sha256) == archive.content


def test_a_damaged_file_of_the_store_is_noticed_on_the_way_out(apis: list[ApiProcess], tmp_path: Path) -> None:
    archive = Bytes()
    send(apis[0], archive)
    (apis[0].home / "artifacts" / archive.sha256[:2] / archive.sha256).write_bytes(bytes(archive.size))
    with worker(apis[1]) as reader, pytest.raises(ApiRefusedError, match="its file is damaged"):
        reader.download(archive.sha256, tmp_path / "archive", lambda _size: None)
    assert not (tmp_path / "archive").exists()


@pytest.mark.parametrize("where", ["folder", "s3"])
def test_a_large_artifact_passes_through_an_api_of_bounded_memory(
    tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """An upload in pieces, and an artifact both ways: the API's memory grows by less than half of it."""
    settings: dict[str, object] = {"collect_seconds": 0.3}
    if where == "s3":
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        settings["artifacts_url"] = s3.url("large")
    large = Bytes(os.urandom(1 << 20) * 80)
    with started_api(tmp_path / "home", **settings) as api:
        send(api, Bytes(os.urandom(18 << 20)), piece=8 << 20)
        before = _memory(api.process.pid)
        send(api, large, piece=8 << 20)
        with worker(api) as speaker:
            speaker.download(large.sha256, tmp_path / "large", lambda _size: None)
            (tmp_path / "large").write_bytes(large.content[1:])
            speaker.put_file(tmp_path / "large")
        assert _memory(api.process.pid) - before < large.size // 2
        kept = list((api.home / "artifacts").glob("??/*"))
        assert (kept == []) is (where == "s3")


def _memory(pid: int) -> int:
    """The most bytes that a process had."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) << 10

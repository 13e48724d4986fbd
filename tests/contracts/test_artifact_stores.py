"""The artifact suite on a folder and on a real S3 server over HTTP."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.api.artifacts.local import LocalStore
from services.api.artifacts.remote import RemoteStore
from services.api.artifacts.store import ArtifactStore
from services.common.errors import NotFoundError, SettingError, UnavailableError
from tests.contracts.artifact_store_contract import DIGEST, ArtifactStoreContract, put
from tests.support.s3_server import S3Server, started_s3


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with started_s3() as server:
        yield server


class TestLocalStore(ArtifactStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> LocalStore:
        store = LocalStore(tmp_path / "artifacts")
        store.prepare()
        return store

    @pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
    def test_only_ordinary_files_are_opened(self, store: LocalStore, tmp_path: Path, kind: str) -> None:
        put(store)
        path = store.path(DIGEST)
        path.unlink()
        if kind == "link":
            (tmp_path / "secret").write_text("secret")
            path.symlink_to(tmp_path / "secret")
        elif kind == "folder":
            path.mkdir()
        else:
            os.mkfifo(path)
        with pytest.raises(NotFoundError):
            store.open(DIGEST)

    def test_only_old_drafts_are_cleared_at_start(self, store: LocalStore) -> None:
        old, young = store.drafts / "old", store.drafts / "young"
        for path in (old, young):
            path.write_bytes(b"")
        os.utime(old, (0, 0))
        store.prepare()
        assert list(store.drafts.iterdir()) == [young]


class TestS3Store(ArtifactStoreContract):
    @pytest.fixture
    def store(
        self, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
    ) -> Iterator[ArtifactStore]:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        store = RemoteStore(s3.url(f"{request.node.name}/of tests"), tmp_path / "tmp")
        store.prepare()
        yield store
        for digest in list(store.digests()):
            store.remove(digest)

    def test_two_processes_see_each_others_files_at_once(self, store: RemoteStore, tmp_path: Path) -> None:
        other = RemoteStore(store.url, tmp_path / "other")
        assert list(other.digests()) == []
        assert put(store) == DIGEST
        assert list(other.digests()) == [DIGEST]
        with other.open(DIGEST) as file:
            assert file.read() == b"weights"
        other.remove(DIGEST)
        draft = store.draft()
        draft.write(b"weights")
        assert not store.publish(draft.path, 7, DIGEST)
        draft.abandon()

    def test_what_is_half_as_long_is_not_published(self, store: RemoteStore) -> None:
        put(store)
        assert not store.publish(Path("/dev/null"), 8, DIGEST)

    def test_a_server_that_is_away_is_a_sentence(
        self, store: RemoteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        with pytest.raises(UnavailableError, match=r"s3://nasdet-artifacts/.*when the store answers"):
            RemoteStore(store.url, tmp_path / "away").prepare()

    @pytest.mark.usefixtures("store")
    def test_a_bucket_that_is_not_there_is_told_at_start(self, tmp_path: Path) -> None:
        with pytest.raises(UnavailableError, match="s3://no-such-bucket/prefix"):
            RemoteStore("s3://no-such-bucket/prefix", tmp_path / "none").prepare()


@pytest.mark.parametrize("url", ["", "bucket/prefix", "s3://", "file:///tmp/artifacts", "nonsense://bucket/prefix"])
def test_an_address_that_is_no_object_store_is_a_sentence(url: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"NASDET_ARTIFACTS_URL|cannot be reached"):
        RemoteStore(url, tmp_path)

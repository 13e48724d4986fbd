"""Files of artifacts: whole or not there, named by their hash, never outside their folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.api.artifacts.store import ArtifactStore
from services.common.errors import InvalidRequestError, NotFoundError
from tests.support.stores import digest_of

DIGEST = digest_of("weights")


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    store = ArtifactStore(tmp_path / "artifacts")
    store.prepare()
    return store


def put(store: ArtifactStore, content: bytes = b"weights") -> str:
    draft = store.draft()
    draft.write(content)
    digest = draft.finish()
    store.publish(draft, digest)
    draft.abandon()
    return digest


def test_a_published_file_is_read_back_and_its_draft_is_gone(store: ArtifactStore) -> None:
    assert put(store) == DIGEST
    with store.open(DIGEST) as file:
        assert file.read() == b"weights"
    assert list(store.drafts.iterdir()) == []
    assert list(store.digests()) == [DIGEST]
    store.remove(DIGEST)
    store.remove(DIGEST)
    with pytest.raises(NotFoundError):
        store.open(DIGEST)


def test_an_abandoned_draft_leaves_nothing(store: ArtifactStore) -> None:
    draft = store.draft()
    draft.write(b"half of it")
    draft.abandon()
    assert list(store.drafts.iterdir()) == []
    assert list(store.digests()) == []


@pytest.mark.parametrize("name", ["", "..", "../" + "a" * 61, "A" * 64, "a" * 65, "a" * 64 + "\n", "a" * 63 + "/"])
def test_only_a_digest_is_a_name(store: ArtifactStore, name: str) -> None:
    with pytest.raises(InvalidRequestError):
        store.path(name)


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_only_ordinary_files_are_opened(store: ArtifactStore, tmp_path: Path, kind: str) -> None:
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


def test_only_old_drafts_are_cleared_at_start(store: ArtifactStore) -> None:
    old, young = store.drafts / "old", store.drafts / "young"
    for path in (old, young):
        path.write_bytes(b"")
    os.utime(old, (0, 0))
    store.prepare()
    assert list(store.drafts.iterdir()) == [young]

"""What every store of artifacts must do. Subclasses give `store`."""

from __future__ import annotations

import hashlib
import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.api.artifacts.draft import CHUNK
from services.api.artifacts.store import ArtifactStore
from services.common.errors import InvalidRequestError, NotFoundError
from tests.support.stores import digest_of

DIGEST = digest_of("weights")


def put(store: ArtifactStore, content: bytes = b"weights") -> str:
    draft = store.draft()
    draft.write(content)
    digest = draft.finish()
    store.transfer(draft.path, draft.size, digest)
    assert store.publish(draft.path, draft.size, digest)
    draft.abandon()
    return digest


def read(store: ArtifactStore, digest: str, offset: int = 0) -> bytes:
    with store.open(digest, offset) as file:
        return file.read()


class ArtifactStoreContract:
    @pytest.fixture
    def store(self) -> Iterator[ArtifactStore]:
        raise NotImplementedError

    def test_a_published_file_is_read_back_and_its_draft_is_gone(self, store: ArtifactStore) -> None:
        assert put(store) == DIGEST
        assert read(store, DIGEST) == b"weights"
        assert read(store, DIGEST, 3) == b"ghts"
        assert list(store.drafts.iterdir()) == []
        assert list(store.digests()) == [DIGEST]
        store.remove(DIGEST)
        store.remove(DIGEST)
        assert list(store.digests()) == []
        with pytest.raises(NotFoundError):
            store.open(DIGEST)

    def test_an_abandoned_draft_leaves_nothing(self, store: ArtifactStore) -> None:
        draft = store.draft()
        draft.write(b"half of it")
        draft.abandon()
        assert list(store.drafts.iterdir()) == []
        assert list(store.digests()) == []

    def test_published_again_it_is_whole_again(self, store: ArtifactStore) -> None:
        """Also by a transaction that was rolled back and tried again."""
        draft = store.draft()
        draft.write(b"weights")
        digest = draft.finish()
        for _ in range(2):
            store.transfer(draft.path, draft.size, digest)
            assert store.publish(draft.path, draft.size, digest)
        assert [path.name for path in store.drafts.iterdir()] == [draft.path.name]
        draft.abandon()
        assert read(store, digest) == b"weights"

    def test_what_a_collector_took_away_is_transferred_again(self, store: ArtifactStore) -> None:
        draft = store.draft()
        draft.write(b"weights")
        digest = draft.finish()
        store.transfer(draft.path, draft.size, digest)
        store.remove(digest)
        if not store.publish(draft.path, draft.size, digest):
            store.transfer(draft.path, draft.size, digest)
            assert store.publish(draft.path, draft.size, digest)
        draft.abandon()
        assert read(store, digest) == b"weights"

    @settings(
        max_examples=60,
        deadline=None,  # the suite runs on several stores, each in a class of its own; the names are the same
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
    )
    @given(
        name=st.one_of(
            st.text(max_size=70),
            st.from_regex(r"(\.\./|%2e%2e%2f|\.\.\\|//|;|\?|#|\x00|[0-9a-fA-F]){1,70}", fullmatch=True),
            st.sampled_from(["A" * 64, "a" * 65, "a" * 64 + "\n", "a" * 63 + "/", "../" + "a" * 61]),
        ).filter(lambda name: not (len(name) == 64 and set(name) <= set("0123456789abcdef")))
    )
    def test_only_a_digest_is_a_name(self, store: ArtifactStore, name: str) -> None:
        for use in (store.open, store.remove, lambda wrong: store.transfer(Path("/dev/null"), 0, wrong)):
            with pytest.raises(InvalidRequestError):
                use(name)
        with pytest.raises(InvalidRequestError):
            store.publish(Path("/dev/null"), 0, name)

    def test_many_read_and_write_at_once(self, store: ArtifactStore) -> None:
        contents = [os.urandom(300_000 + number) for number in range(6)]
        wrong: list[str] = []

        def work(content: bytes) -> None:
            for _ in range(3):
                if read(store, put(store, content)) != content:
                    wrong.append(hashlib.sha256(content).hexdigest())

        threads = [threading.Thread(target=work, args=(contents[number % 3],)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert sorted(store.digests()) == sorted(hashlib.sha256(content).hexdigest() for content in contents[:3])

    def test_a_large_file_passes_in_bounded_memory(self, store: ArtifactStore) -> None:
        """In both directions; the memory of this process may grow by a third of the file at most."""
        size, block = 120 << 20, os.urandom(CHUNK)
        put(store, block)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        draft, found = store.draft(), hashlib.sha256()
        for number in range(size // CHUNK):
            draft.write(number.to_bytes(8, "big") + block[8:])
        digest = draft.finish()
        store.transfer(draft.path, draft.size, digest)
        assert store.publish(draft.path, draft.size, digest)
        draft.abandon()
        with store.open(digest) as file:
            while chunk := file.read(CHUNK):
                found.update(chunk)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
        assert found.hexdigest() == digest
        assert grown < size // 3
        with store.open(digest, size - 10) as file:
            assert file.read() == block[-10:]

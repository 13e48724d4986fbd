"""Files by their hash: checked, bounded, freed, and never reached by a path."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest
from sqlalchemy import update

from services.api.artifacts.local import LocalStore
from services.common.db.models import ArtifactReference
from services.common.db.repositories import TokenRepository
from services.common.db.types import db_now
from tests.support import stores
from tests.support.api_platform import Platform

DIGEST = stores.digest_of("weights")


def put(platform: Platform, content: bytes = b"weights", digest: str = DIGEST) -> int:
    return platform.worker.put(f"/v1/artifacts/{digest}", content=content).status_code


def files(platform: Platform) -> list[str]:
    return list(platform.api.store.digests())


def test_what_is_put_can_be_read_back(platform: Platform) -> None:
    assert put(platform) == 201
    assert put(platform) == 200
    response = platform.worker.get(f"/v1/artifacts/{DIGEST}")
    assert (response.content, response.headers["content-length"]) == (b"weights", "7")
    assert response.headers["content-type"] == "application/octet-stream"
    head = platform.user.head(f"/v1/artifacts/{DIGEST}")
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "7", b"")
    path = platform.home / "artifacts" / DIGEST[:2] / DIGEST
    assert path.read_bytes() == b"weights"
    assert list(platform.api.store.drafts.iterdir()) == []


def test_bytes_of_another_hash_are_refused_and_gone(platform: Platform) -> None:
    assert put(platform, b"other bytes") == 422
    assert platform.worker.head(f"/v1/artifacts/{DIGEST}").status_code == 404
    assert files(platform) == []
    assert list(platform.api.store.drafts.iterdir()) == []


def test_a_large_artifact_is_streamed_and_bounded(start: Callable[..., Platform]) -> None:
    platform = start(max_body=2000, max_artifact=5_000_000)
    content = os.urandom(4_000_000)
    import hashlib

    digest = hashlib.sha256(content).hexdigest()
    assert put(platform, content, digest) == 201
    assert platform.worker.get(f"/v1/artifacts/{digest}").content == content
    assert put(platform, os.urandom(5_000_001), "a" * 64) == 413
    assert list(platform.api.store.drafts.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        "A" * 64,
        "a" * 63,
        "a" * 65,
        "a" * 64 + "%0a",
        "..%2f..%2ftoken",
        "%252e%252e%252ftoken",
        "..;/token",
        "..\\token",
        "%00" + "a" * 63,
        "token?x",
        "token%23",
        "é" * 64,
    ],
)
def test_no_spelling_of_a_path_gets_through(shared: Platform, name: str) -> None:
    for method in ("GET", "HEAD", "PUT"):
        response = shared.worker.request(method, f"/v1/artifacts/{name}", content=b"")
        assert response.status_code in (404, 405, 422), (method, name, response.status_code)
        assert b"nasdet_" not in response.content


def local(platform: Platform) -> LocalStore:
    store = platform.api.store
    assert isinstance(store, LocalStore)
    return store


def test_a_link_in_the_place_of_a_file_is_not_followed(platform: Platform) -> None:
    assert put(platform) == 201
    path = local(platform).path(DIGEST)
    path.unlink()
    path.symlink_to(platform.home / "token")
    assert platform.worker.get(f"/v1/artifacts/{DIGEST}").status_code == 404
    folder = path.parent
    path.unlink()
    folder.rename(platform.home / "elsewhere")
    (platform.home / "elsewhere" / DIGEST).write_bytes(b"weights")
    folder.symlink_to(platform.home / "elsewhere")
    assert platform.worker.get(f"/v1/artifacts/{DIGEST}").status_code == 404


def test_the_hash_alone_grants_nothing(platform: Platform) -> None:
    assert put(platform) == 201
    with platform.api.database.write_session() as session:
        stranger = TokenRepository(session).ensure_owner("stranger", "another project")
        TokenRepository(session).add(stranger, "theirs", "t" * 40, ["read"])
    response = platform.anonymous.get(f"/v1/artifacts/{DIGEST}", headers={"Authorization": "Bearer " + "t" * 40})
    assert response.status_code == 404


def age_uploads(platform: Platform, seconds: float) -> None:
    with platform.api.database.write_session() as session:
        session.execute(update(ArtifactReference).values(created_at=db_now() - seconds))


def test_an_upload_nobody_used_is_freed_after_its_time_and_not_before(platform: Platform) -> None:
    assert put(platform) == 201
    age_uploads(platform, 3000)
    assert platform.api.collector.collect() == []
    age_uploads(platform, 4000)
    assert platform.api.collector.collect() == [DIGEST]
    assert files(platform) == []
    assert platform.worker.get(f"/v1/artifacts/{DIGEST}").status_code == 404
    assert put(platform) == 201


def test_asking_for_it_keeps_an_upload(platform: Platform) -> None:
    """A worker that finds its bytes there does not send them again: they must not be freed meanwhile."""
    assert put(platform) == 201
    age_uploads(platform, 4000)
    assert platform.worker.head(f"/v1/artifacts/{DIGEST}").status_code == 200
    assert platform.api.collector.collect() == []


def test_the_collector_works_when_it_is_woken(platform: Platform) -> None:
    assert put(platform) == 201
    age_uploads(platform, 4000)
    platform.api.collector.wake()
    deadline = time.monotonic() + 10
    while files(platform) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert files(platform) == []


def test_files_without_a_row_are_removed_at_start(platform: Platform) -> None:
    assert put(platform) == 201
    orphan = local(platform).path("a" * 64)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"left behind")
    assert platform.api.collector.remove_orphans() == ["a" * 64]
    assert files(platform) == [DIGEST]

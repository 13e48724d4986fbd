"""Archives that come in pieces: cut off anywhere, sent twice, sent wrong, and what becomes of them."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from services.api.datasets.drafts import ArchiveDraft
from services.common.db.models import Upload
from services.common.db.repositories import ArtifactRepository, DatasetRepository, TokenRepository, UploadRepository
from services.common.db.repositories.datasets import archive_owner
from services.common.db.states import JobKind
from services.common.db.types import db_now
from tests.support import stores
from tests.support.api_platform import Platform

Json = dict[str, Any]
CONTENT = os.urandom(5000)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def begin(platform: Platform, content: bytes = CONTENT, name: str = "cars", **changes: Any) -> httpx.Response:
    body = {"size": len(content), "sha256": sha256(content), **changes}
    return platform.user.post(f"/v1/datasets/{name}/uploads", json=body)


def send(platform: Platform, upload: Json, offset: int, data: bytes) -> httpx.Response:
    return platform.user.patch(f"/v1/uploads/{upload['id']}", content=data, headers={"Upload-Offset": str(offset)})


def state(platform: Platform, upload: Json) -> Json:
    response = platform.user.get(f"/v1/uploads/{upload['id']}")
    assert response.status_code == 200, response.text
    return dict(response.json())


def wait_ended(platform: Platform, upload: Json) -> Json:
    deadline = time.monotonic() + 20
    while (now := state(platform, upload))["state"] == "checking":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return now


def upload_all(platform: Platform, content: bytes = CONTENT, name: str = "cars") -> Json:
    upload = begin(platform, content, name).json()
    if upload["state"] == "receiving":
        assert send(platform, upload, upload["offset"], content[upload["offset"] :]).status_code == 200
    ended = wait_ended(platform, upload)
    assert ended["state"] == "finished", ended
    return ended


def drafts(platform: Platform) -> list[Path]:
    return list((platform.home / "artifacts" / "uploads").iterdir())


def test_pieces_become_the_datasets_archive(platform: Platform) -> None:
    response = begin(platform)
    assert response.status_code == 201
    upload = response.json()
    assert (upload["offset"], upload["state"], upload["name"]) == (0, "receiving", "cars")
    piece = send(platform, upload, 0, CONTENT[:2000])
    assert (piece.status_code, piece.json()["offset"]) == (200, 2000)
    assert state(platform, upload)["offset"] == 2000
    assert send(platform, upload, 2000, CONTENT[2000:]).status_code == 200
    assert wait_ended(platform, upload)["state"] == "finished"
    dataset = platform.user.get("/v1/datasets/cars").json()
    assert dataset["archive"] == sha256(CONTENT)
    assert platform.worker.get(f"/v1/artifacts/{dataset['archive']}").content == CONTENT
    assert drafts(platform) == []
    sources = platform.user.get("/v1/dataset-sources").json()["items"]
    assert sources == [{"name": "cars", "kind": "archive"}, {"name": "cells", "kind": "registered"}]


def test_the_same_archive_again_goes_on_where_it_was(platform: Platform) -> None:
    upload = begin(platform).json()
    send(platform, upload, 0, CONTENT[:1234])
    again = begin(platform)
    assert (again.status_code, again.json()["id"], again.json()["offset"]) == (200, upload["id"], 1234)
    other = begin(platform, CONTENT + b"another")
    assert (other.status_code, other.json()["offset"]) == (201, 0)


def test_an_archive_that_is_there_is_not_sent_again(platform: Platform) -> None:
    upload_all(platform)
    again = begin(platform)
    assert (again.status_code, again.json()["state"], again.json()["offset"]) == (200, "finished", len(CONTENT))
    elsewhere = begin(platform, name="lorries")
    assert elsewhere.json()["state"] == "finished"
    assert platform.user.get("/v1/datasets/lorries").json()["archive"] == sha256(CONTENT)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(offset=st.integers(0, len(CONTENT) + 10), length=st.integers(0, 300))
def test_a_piece_that_does_not_fit_is_told_where_it_goes_on(platform: Platform, offset: int, length: int) -> None:
    upload = begin(platform).json()
    there = upload["offset"]
    if there + 400 > len(CONTENT):
        return
    response = send(platform, upload, offset, CONTENT[offset : offset + length])
    if offset == there:
        assert response.status_code == 200
        assert response.json()["offset"] == offset + length
    else:
        assert response.status_code == 409
        assert response.json()["offset"] == there
        assert response.json()["type"].endswith(":upload-offset")
    with (platform.home / "artifacts" / "uploads" / _draft(platform, upload)).open("rb") as file:
        assert file.read() == CONTENT[: state(platform, upload)["offset"]]


def _draft(platform: Platform, upload: Json) -> str:
    with platform.api.database.read_session() as session:
        row = session.get(Upload, upload["id"])
        assert row is not None
        return row.draft


def test_bytes_of_another_hash_are_refused_and_gone(platform: Platform) -> None:
    upload = begin(platform).json()
    send(platform, upload, 0, bytes(len(CONTENT)))
    ended = wait_ended(platform, upload)
    assert ended["state"] == "refused"
    assert "do not hash to" in ended["reason"]
    assert platform.user.get("/v1/datasets/cars").status_code == 404
    assert drafts(platform) == []
    assert list(platform.api.store.digests()) == []
    assert send(platform, upload, 0, CONTENT).status_code == 409
    assert begin(platform).json()["id"] != upload["id"]


def test_limits_are_sentences(start: Callable[..., Platform]) -> None:
    platform = start(max_archive=10_000, max_chunk=2000)
    large = begin(platform, size=10_001)
    assert large.status_code == 413
    assert "NASDET_MAX_ARCHIVE" in large.json()["detail"]
    upload = begin(platform).json()
    assert send(platform, upload, 0, CONTENT[:2001]).status_code == 413
    assert state(platform, upload)["offset"] == 0
    for offset in (0, 2000):
        assert send(platform, upload, offset, CONTENT[offset : offset + 2000]).status_code == 200
    beyond = send(platform, upload, 4000, CONTENT[4000:] + b"more")
    assert (beyond.status_code, state(platform, upload)["offset"]) == (422, 4000)
    assert send(platform, upload, 4000, CONTENT[4000:]).status_code == 200
    assert wait_ended(platform, upload)["state"] == "finished"


@pytest.mark.parametrize("size", [10**18, 2**63 - 1])
def test_a_disk_without_room_says_so_before_anything_is_sent(start: Callable[..., Platform], size: int) -> None:
    platform = start(max_archive=2**63)
    response = begin(platform, size=size)
    assert response.status_code == 507
    with platform.api.database.read_session() as session:
        assert session.query(Upload).count() == 0


def test_the_name_of_a_folder_is_not_taken(start: Callable[..., Platform], tmp_path: Path) -> None:
    (tmp_path / "data" / "scenes").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "outside")
    platform = start(data_root=tmp_path / "data")
    for name in ("cells", "scenes"):
        assert begin(platform, name=name).status_code == 409
    assert "leads out of" in begin(platform, name="linked").json()["detail"]


def test_folders_of_the_data_root_are_datasets(start: Callable[..., Platform], tmp_path: Path) -> None:
    for name in ("scenes", "b-roll", ".hidden", "with space"):
        (tmp_path / "data" / name).mkdir(parents=True)
    (tmp_path / "data" / "file").write_text("")
    (tmp_path / "secret").mkdir()
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "secret")
    platform = start(data_root=tmp_path / "data")
    sources = platform.user.get("/v1/dataset-sources").json()["items"]
    assert [(item["name"], item["kind"]) for item in sources] == [
        ("b-roll", "data_root"), ("cells", "registered"), ("scenes", "data_root"),
    ]  # fmt: skip
    assert platform.user.post("/v1/datasets", json={"name": "scenes"}).status_code == 201
    assert platform.user.post("/v1/datasets", json={"name": "scenes"}).status_code == 200
    for name, sentence in (("linked", "leads out of"), ("secret", "knows no dataset"), ("file", "knows no dataset")):
        response = platform.user.post("/v1/datasets", json={"name": name})
        assert response.status_code == 404
        assert sentence in response.json()["detail"]
        assert str(tmp_path / "secret") not in response.text


def test_others_see_nothing_of_it(platform: Platform) -> None:
    upload = begin(platform).json()
    with platform.api.database.write_session() as session:
        stranger = TokenRepository(session).ensure_owner("stranger", "another project")
        TokenRepository(session).install(stranger, "theirs", "t" * 40, ["read", "write"])
    headers = {"Authorization": "Bearer " + "t" * 40, "Upload-Offset": "0"}
    assert platform.anonymous.get(f"/v1/uploads/{upload['id']}", headers=headers).status_code == 404
    assert platform.anonymous.patch(f"/v1/uploads/{upload['id']}", headers=headers, content=b"x").status_code == 404
    assert platform.worker.patch(f"/v1/uploads/{upload['id']}", headers=headers, content=b"x").status_code in (403, 404)


def test_who_holds_the_file_is_waited_for(platform: Platform) -> None:
    upload = begin(platform).json()
    folder = platform.home / "artifacts" / "uploads"
    with ArchiveDraft(folder, _draft(platform, upload), create=True):
        response = send(platform, upload, 0, CONTENT)
        assert (response.status_code, response.json()["offset"]) == (409, 0)
        assert "another request" in response.json()["detail"]
    assert send(platform, upload, 0, CONTENT).status_code == 200


def test_bytes_that_a_disk_lost_are_asked_for_again(platform: Platform) -> None:
    upload = begin(platform).json()
    send(platform, upload, 0, CONTENT[:3000])
    path = platform.home / "artifacts" / "uploads" / _draft(platform, upload)
    os.truncate(path, 1000)
    assert state(platform, upload)["offset"] == 1000
    assert send(platform, upload, 1000, CONTENT[1000:2000]).json()["offset"] == 2000
    path.unlink()
    assert send(platform, upload, 0, CONTENT).status_code == 200
    assert wait_ended(platform, upload)["state"] == "finished"


def test_bytes_that_were_never_counted_do_not_stay(platform: Platform) -> None:
    """An API that was killed in the middle of a piece."""
    upload = begin(platform).json()
    send(platform, upload, 0, CONTENT[:3000])
    with (platform.home / "artifacts" / "uploads" / _draft(platform, upload)).open("ab") as file:
        file.write(b"half a piece")
    assert state(platform, upload)["offset"] == 3000
    assert send(platform, upload, 3000, CONTENT[3000:]).status_code == 200
    assert wait_ended(platform, upload)["state"] == "finished"


def test_uploads_that_nobody_goes_on_with_are_removed(platform: Platform) -> None:
    upload = begin(platform).json()
    send(platform, upload, 0, CONTENT[:3000])
    platform.api.finisher.tidy()
    assert state(platform, upload)["offset"] == 3000
    with platform.api.database.write_session() as session:
        session.execute(update(Upload).values(created_at=db_now() - 8 * 86400))
    platform.api.finisher.tidy()
    assert platform.user.get(f"/v1/uploads/{upload['id']}").status_code == 404
    assert drafts(platform) == []


def test_a_new_archive_replaces_the_old_one_when_no_check_needs_it(platform: Platform) -> None:
    """Searches that run keep theirs: an open check by its payload, what was checked by its version."""
    old, new = upload_all(platform)["sha256"], sha256(b"new")
    with platform.api.database.write_session() as session:
        dataset = DatasetRepository(session).by_name(1, "cars")
        rows = stores.new_rows(session)
        payload = {"dataset": "cars", "archive": old}
        job = platform.api.jobs(session).create(rows.search_id, JobKind.CHECK_DATASET, "check", payload)
    upload_all(platform, b"new")

    def references(digest: str) -> list[str]:
        platform.api.finisher.tidy()
        with platform.api.database.read_session() as session:
            return list(ArtifactRepository(session).references(digest))

    assert references(old) == [archive_owner(dataset.id)]
    with platform.api.database.write_session() as session:
        platform.api.jobs(session).cancel_search(rows.search_id)
    assert references(old) == []
    assert references(new) == [archive_owner(dataset.id)]
    deadline = time.monotonic() + 10  # the platform's own collector may be at it
    while list(platform.api.store.digests()) != [new] and time.monotonic() < deadline:
        platform.api.collector.collect()
    assert list(platform.api.store.digests()) == [new]
    assert job.payload["archive"] == old


def test_a_version_keeps_the_archive_that_it_was_read_from(platform: Platform) -> None:
    digest = upload_all(platform)["sha256"]
    with platform.api.database.write_session() as session:
        datasets = DatasetRepository(session)
        dataset = datasets.by_name(1, "cars")
        owner = TokenRepository(session).ensure_owner("operator")
        body = {
            "digest": "d" * 64, "manifest": "e" * 64, "class_names": [], "splits": {}, "split_names": {}, "report": {},
            "archive": digest,
        }  # fmt: skip
        version = datasets.add_version(owner, dataset.id, body)
        assert datasets.add_version(owner, dataset.id, body).id == version.id
        assert version.archive == digest
    upload_all(platform, b"new")
    platform.api.finisher.tidy()
    platform.api.collector.collect()
    assert digest in set(platform.api.store.digests())
    assert platform.user.get("/v1/datasets/cars").json()["versions"][0]["archive"] == digest


def test_a_kill_between_the_last_byte_and_the_check_is_made_good(platform: Platform) -> None:
    """Any API process finishes what is whole."""
    upload = begin(platform).json()
    with platform.api.database.write_session() as session:
        UploadRepository(session).advance(upload["id"], 0, len(CONTENT))
    (platform.home / "artifacts" / "uploads" / _draft(platform, upload)).write_bytes(CONTENT)
    platform.api.finisher.finish_all()
    assert state(platform, upload)["state"] == "finished"


def test_every_change_is_audited_once(platform: Platform) -> None:
    upload_all(platform)
    begin(platform)
    with platform.api.database.read_session() as session:
        from services.common.db.models import Audit

        rows = [(row.action, row.target) for row in session.query(Audit)]
    assert rows == [("dataset.upload", "dataset cars")]

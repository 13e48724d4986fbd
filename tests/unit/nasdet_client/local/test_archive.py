"""A folder as a tar file that is never written down: the same bytes each time, from whatever place they are read."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nasdet_client.errors import CommandError
from nasdet_client.local.archive import Archive, FolderArchive, open_archive, sha256_of

FILES = {
    "annotations/train.json": b"{}" * 700,
    "images/b.jpg": b"B" * 512,
    "images/a.jpg": b"A" * 513,
    "empty": b"",
    "n" * 120 + "/" + "m" * 120: b"long",
    "ü.txt": "ü".encode(),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(content)
    return tmp_path / "set"


def whole(archive: Archive) -> bytes:
    return archive.read(0, archive.size)


def test_it_is_a_tar_file_of_the_folder(folder: Path) -> None:
    archive = FolderArchive(folder)
    data = whole(archive)
    assert len(data) == archive.size
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = {info.name: (tar.extractfile(info) or io.BytesIO()).read() for info in tar}
        assert {(info.mtime, info.uid, info.gid, info.uname, info.mode) for info in tar} == {(0, 0, 0, "", 0o644)}
    assert found == FILES
    assert list(found) == sorted(FILES, key=str.encode)
    assert sha256_of(archive, lambda _done: None) == hashlib.sha256(data).hexdigest()


def test_the_same_folder_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    before = whole(FolderArchive(folder))
    copy = tmp_path / "elsewhere"
    for name in reversed(FILES):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(FILES[name])
        os.utime(copy / name, (1, 1))
        (copy / name).chmod(0o755)
    assert whole(FolderArchive(copy)) == before


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(offset=st.integers(0, 12_000), count=st.integers(0, 5_000))
def test_it_is_read_from_any_place(folder: Path, offset: int, count: int) -> None:
    archive = FolderArchive(folder)
    assert archive.read(offset, count) == whole(archive)[offset : offset + count]


def test_hidden_files_are_left_out_and_links_followed(folder: Path, tmp_path: Path) -> None:
    before = whole(FolderArchive(folder))
    (folder / ".DS_Store").write_text("x")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("x")
    assert whole(FolderArchive(folder)) == before
    (folder / "images").rename(tmp_path / "disk")
    (folder / "images").symlink_to(tmp_path / "disk")
    assert whole(FolderArchive(folder)) == before


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda folder: (folder / "loop").symlink_to("."), "leads back to a folder"),
        (lambda folder: (folder / "gone").symlink_to("nothing"), "a link that leads nowhere"),
        (lambda folder: os.mkfifo(folder / "pipe"), "no ordinary file"),
        (lambda folder: (folder / os.fsdecode(b"\xff")).write_text("x"), "no UTF-8 text"),
    ],
)
def test_what_cannot_be_packed_is_a_sentence(folder: Path, break_it: object, sentence: str) -> None:
    assert callable(break_it)
    break_it(folder)
    with pytest.raises(CommandError, match=sentence):
        FolderArchive(folder)


def test_a_file_that_became_shorter_is_a_sentence(folder: Path) -> None:
    archive = FolderArchive(folder)
    (folder / "images" / "a.jpg").write_bytes(b"")
    with pytest.raises(CommandError, match=r"a\.jpg became shorter"):
        sha256_of(archive, lambda _done: None)


def test_archives_are_sent_as_they_are(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "set.tar.gz"
    with tarfile.open(file, "w:gz") as tar:
        tar.add(folder, ".")
    archive = open_archive(file)
    assert whole(archive) == file.read_bytes()
    for name, content, sentence in (
        ("set.rar", b"x", "another file"),
        ("empty.zip", b"", "is empty"),
        ("nothing.zip", None, "does not exist"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(CommandError, match=sentence):
            open_archive(tmp_path / name)
    (tmp_path / "no files").mkdir()
    with pytest.raises(CommandError, match="has no files"):
        open_archive(tmp_path / "no files")

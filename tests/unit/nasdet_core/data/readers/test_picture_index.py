"""The picture that an annotation file means, whatever has become of its name."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from nasdet_core.data.readers.picture_index import Found, PictureIndex

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "Zürich.jpg") for form in ("NFC", "NFD"))


def index_of(root: Path, *files: str) -> PictureIndex:
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return PictureIndex(root)


def recorded_scans(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every folder that is read from now on."""
    folders: list[Path] = []
    scan = os.scandir

    def recording(path: str) -> object:
        folders.append(Path(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", recording)
    return folders


class TestFind:
    @pytest.mark.parametrize("name", ["a.jpg", "./a.jpg", ".//./a.jpg"])
    def test_exact(self, tmp_path: Path, name: str) -> None:
        assert index_of(tmp_path, "train/a.jpg", "train/A.jpg").find("train", name) == Found("train/a.jpg", None)

    def test_exact_with_folders(self, tmp_path: Path) -> None:
        index = index_of(tmp_path, "images/train/a.jpg")
        for folder, name in (("", "images/train/a.jpg"), ("images", "train/a.jpg"), ("images", "./train//a.jpg")):
            assert index.find(folder, name) == Found("images/train/a.jpg", None)

    @pytest.mark.parametrize(
        ("listed", "there"),
        [
            ("train\\a.jpg", "train/a.jpg"),
            (".\\train\\a.jpg", "train/a.jpg"),
            ("train/A.JPG", "train/a.jpg"),
            ("Train/a.jpg", "train/a.jpg"),
            ("train/a.jpg", "train/a.png"),
            ("train/a.jpg", "train/A.JPEG"),
            ("train/a", "train/a.jpg"),
            ("train/a.gif", "train/a.webp"),
            ("train/a.b.jpg", "train/a.b.png"),
            (f"train/{COMPOSED}", f"train/{DECOMPOSED}"),
            (f"train/{DECOMPOSED}", f"train/{COMPOSED}"),
            (f"train/{DECOMPOSED.upper()}", f"train/{COMPOSED}"),
        ],
    )
    def test_tolerant_with_a_remark(self, tmp_path: Path, listed: str, there: str) -> None:
        found = index_of(tmp_path, there).find("", listed)
        assert found is not None
        assert found.file == there
        assert found.remark is not None
        assert found.remark.endswith(f"is listed, found as {there}")

    @pytest.mark.parametrize("name", ["b.jpg", "a.jpg.png", "", ".", "/", "train", "a.b", "x/a.jpg"])
    def test_nothing_fits(self, tmp_path: Path, name: str) -> None:
        assert index_of(tmp_path, "a.jpg", "train/b.jpg").find("", name) is None

    def test_the_closest_of_several(self, tmp_path: Path) -> None:
        index = index_of(tmp_path, "A.jpg", "a.JPG", "b.png", "B.webp", f"{DECOMPOSED}", COMPOSED.upper())
        assert index.find("", "a.jpg") == Found(
            "A.jpg", "'a.jpg' is listed, found as A.jpg, the first of 2 files that fit"
        )
        assert (index.find("", "b.jpg") or Found("", None)).file == "b.png"
        assert (index.find("", COMPOSED) or Found("", None)).file == DECOMPOSED

    def test_another_suffix_is_another_file_where_it_is_no_picture(self, tmp_path: Path) -> None:
        index = index_of(tmp_path, "a.txt.jpg", "b.TXT")
        assert index.find_file("", "a.txt") is None
        assert index.find_file("", "b.txt") == Found("b.TXT", "'b.txt' is listed, found as b.TXT")

    @pytest.mark.parametrize(
        "name",
        [
            "../outside.jpg",
            "train/../../outside.jpg",
            "..\\outside.jpg",
            "{root}/a.jpg",
            "a\0.jpg",
            "x" * 5000,
            "x/" * 40,
        ],
    )
    def test_names_that_leave_the_dataset_are_never_looked_up(
        self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "outside.jpg").write_bytes(b"")
        index = index_of(tmp_path / "data", "a.jpg", "train/a.jpg")
        assert index.find("", "a.jpg") is not None
        looked_at = recorded_scans(monkeypatch)
        assert index.find("", name.replace("{root}", str(tmp_path / "data"))) is None
        assert index.find("../", "outside.jpg") is None
        assert looked_at == []

    def test_each_folder_is_read_once_and_only_when_asked_for(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        index = index_of(tmp_path, "train/a.jpg", "val/b.jpg")
        read = recorded_scans(monkeypatch)
        for name in ("a.jpg", "b.jpg", "A.jpg", "missing.jpg"):
            index.find("train", name)
        assert read == [tmp_path / "train"]


class TestListings:
    def test_pictures_by_name_without_hidden_files(self, tmp_path: Path) -> None:
        index = index_of(tmp_path, "x/b.JPG", "x/a.png", "x/._a.png", "x/a.txt", "x/y/c.jpg", "x/.cache/d.jpg")
        assert index.pictures("x") == ("x/a.png", "x/b.JPG")
        assert index.files("x", ".txt") == ("x/a.txt",)
        assert index.folders("x") == ("y",)
        assert list(index.pictures_below("x")) == [("x", ("x/a.png", "x/b.JPG")), ("x/y", ("x/y/c.jpg",))]
        assert index.pictures("nowhere") == ()

    def test_two_pictures_of_one_stem(self, tmp_path: Path) -> None:
        stems = index_of(tmp_path, "a.png", "a.jpg", "b.c.jpg").by_stem("")
        assert stems == {
            "a": Found("a.jpg", "a.jpg, a.png have the same name, a.jpg is used"),
            "b.c": Found("b.c.jpg", None),
        }

    def test_stem_with_tolerance(self, tmp_path: Path) -> None:
        index = index_of(tmp_path, "x/Über.jpg", "x/b.jpg")
        assert index.find_stem("x", "b") == Found("x/b.jpg", None)
        found = index.find_stem("x", unicodedata.normalize("NFD", "über"))
        assert found is not None
        assert found.file == "x/Über.jpg"
        assert found.remark is not None
        assert index.find_stem("x", "c") is None

    def test_place(self, tmp_path: Path) -> None:
        index = index_of(tmp_path, "Images/Train/a.jpg")
        assert index.place("", "images/train") == "Images/Train"
        assert index.place("Images", "./Train/") == "Images/Train"
        assert (index.place("", "."), index.place("", "")) == ("", "")
        assert (index.place("", ".."), index.place("", "/"), index.place("", "Images/Val")) == (None, None, None)


class TestOddFileSystems:
    def test_names_that_cannot_be_decoded(self, tmp_path: Path) -> None:
        index = index_of(tmp_path, os.fsdecode(b"caf\xe9.jpg"), "a.jpg")
        assert index.pictures("") == ("a.jpg", "caf\udce9.jpg")
        assert index.find("", "caf\udce9.jpg") == Found("caf\udce9.jpg", None)
        assert (index.find("", "CAF\udce9.png") or Found("", None)).file == "caf\udce9.jpg"
        assert index.find("", "\ud800.jpg") is None
        assert index.find("\ud800", "a.jpg") is None

    def test_loops_of_links(self, tmp_path: Path) -> None:
        index_of(tmp_path, "a/x.jpg", "b/y.jpg")
        (tmp_path / "a" / "up").symlink_to(tmp_path)
        (tmp_path / "a" / "self").symlink_to(tmp_path / "a")
        (tmp_path / "a" / "b").symlink_to(tmp_path / "b")
        (tmp_path / "b" / "a").symlink_to(tmp_path / "a")
        (tmp_path / "b" / "ring").symlink_to("ring")
        index = PictureIndex(tmp_path)
        assert [picture for _, pictures in index.pictures_below("") for picture in pictures] == ["a/x.jpg", "a/b/y.jpg"]
        assert index.find("", "a/up/a/x.jpg") is None
        assert index.find("", "a/b/y.jpg") == Found("a/b/y.jpg", None)

    def test_links_to_pictures_elsewhere_are_pictures(self, tmp_path: Path) -> None:
        (tmp_path / "store").mkdir()
        (tmp_path / "store" / "1.jpg").write_bytes(b"")
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "a.jpg").symlink_to(tmp_path / "store" / "1.jpg")
        (tmp_path / "data" / "train").symlink_to(tmp_path / "store")
        (tmp_path / "data" / "broken.jpg").symlink_to(tmp_path / "nothing")
        index = PictureIndex(tmp_path / "data")
        assert index.pictures("") == ("a.jpg",)
        assert index.find("train", "1.jpg") == Found("train/1.jpg", None)

    def test_names_with_backslashes_are_no_files_of_a_dataset(self, tmp_path: Path) -> None:
        assert index_of(tmp_path, "images\\a.jpg").pictures("") == ()

    def test_many_tolerant_look_ups_are_quick(self, tmp_path: Path) -> None:
        count = 2000
        index = index_of(tmp_path, *(f"train/picture{number:06d}.png" for number in range(count)))
        assert all(index.find("Train/..", "x") is None for _ in range(count))
        found = [index.find("", f"Train\\PICTURE{number:06d}.jpg") for number in range(count)]
        assert all(found)

"""Names of splits and lists of pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from nasdet_core.data.readers import names
from nasdet_core.data.readers.names import listed_lines, split_name
from nasdet_core.errors import DatasetError


@pytest.mark.parametrize(
    ("word", "split"),
    [
        ("train2017", "train"),
        ("val", "val"),
        ("minival2014", "val"),
        ("valid", "val"),
        ("Validation", "val"),
        ("test-2", "test"),
        ("testdev2017", "test"),
        ("training", "train"),
        ("cells", "cells"),
        ("2017", "2017"),
    ],
)
def test_split_names(word: str, split: str) -> None:
    assert split_name(word) == split


class TestLists:
    def test_white_space_and_byte_order_mark_are_no_part_of_a_name(self, tmp_path: Path) -> None:
        path = tmp_path / "train.txt"
        path.write_bytes(b"\xef\xbb\xbfa.jpg \r\n\r\n\tb c.jpg")
        assert listed_lines(path, "train.txt") == ["a.jpg", "", "b c.jpg"]

    def test_names_in_another_encoding_are_those_of_the_files(self, tmp_path: Path) -> None:
        (tmp_path / "train.txt").write_bytes(b"caf\xe9.jpg\n")
        assert listed_lines(tmp_path / "train.txt", "train.txt") == ["caf\udce9.jpg"]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("a.jpg\n".encode("utf-16"), "expected UTF-8 text with one picture a line in train.txt"),
            (None, "the list train.txt cannot be read: No such file"),
            (b"a" * 101, "at most 100 bytes, train.txt has 101"),
        ],
    )
    def test_what_is_no_list(
        self, tmp_path: Path, content: bytes | None, message: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(names, "MAX_LIST_BYTES", 100)
        if content is not None:
            (tmp_path / "train.txt").write_bytes(content)
        with pytest.raises(DatasetError, match=message):
            listed_lines(tmp_path / "train.txt", "train.txt")

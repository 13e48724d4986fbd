"""Specifications on disk are YAML 1.2."""

from __future__ import annotations

from pathlib import Path

import pytest

from nasdet_client.errors import CommandError
from nasdet_client.local.spec_file import read_specification, specification_key


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "spec.yaml"


def test_numbers_are_those_of_yaml_1_2(file: Path) -> None:
    file.write_text("limits: [{max: 80e6}]\nname: on\nseed: 010\n")

    body = read_specification(file)

    assert body["limits"][0]["max"] == 80e6
    assert body["name"] == "on"  # YAML 1.1 would read a truth value
    assert body["seed"] == 10


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "line 1"),
        ("- 1\n", "expected a mapping"),
        ("", "expected a mapping"),
        ("a: .nan\n", "JSON cannot carry"),
        ("a: 2024-01-01\n", "JSON cannot carry"),
        ("a: 1\na: 2\n", "line 2"),
    ],
)
def test_what_is_no_specification_is_one_sentence(file: Path, text: str, message: str) -> None:
    file.write_text(text)

    with pytest.raises(CommandError, match=message) as refused:
        read_specification(file)

    assert refused.value.exit_code == 2
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"none\.yaml: No such file"):
        read_specification(tmp_path / "none.yaml")


def test_bytes_that_are_no_text_are_refused(file: Path) -> None:
    file.write_bytes(b"a: \xff\xfe")

    with pytest.raises(CommandError, match="expected UTF-8"):
        read_specification(file)


def test_a_huge_file_is_refused_unread(file: Path) -> None:
    file.write_bytes(b" " * (1 << 21))

    with pytest.raises(CommandError, match="at most 1 MiB"):
        read_specification(file)


def test_the_key_hangs_on_the_content_and_not_on_its_order() -> None:
    assert specification_key({"a": 1, "b": 2}) == specification_key({"b": 2, "a": 1})
    assert specification_key({"a": 1}) != specification_key({"a": 2})

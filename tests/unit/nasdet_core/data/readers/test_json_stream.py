"""Entry by entry through JSON files, sound and broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nasdet_core.data.readers import json_stream
from nasdet_core.data.readers.json_stream import Broken, Entry, JsonLists
from nasdet_core.errors import DatasetError

KEYS = ("images", "annotations", "categories")
BODY = {
    "info": {"text": 'a "quoted" [bracket] }', "numbers": [1, 2, {"b": "]"}]},
    "images": [{"id": number, "file_name": f"é{number}.jpg"} for number in range(5)],
    "annotations": [{"id": number, "bbox": [1, 2, 3, 4.5]} for number in range(3)],
    "categories": [{"id": 1, "name": "x"}],
}
TEXT = json.dumps(BODY, indent=1, ensure_ascii=False)


@pytest.fixture(params=[7, 50, 4 << 20], ids=lambda size: f"chunks of {size}")
def _chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The window slides over every place of the text."""
    monkeypatch.setattr(json_stream, "CHUNK_BYTES", request.param)


def read(tmp_path: Path, content: str | bytes) -> tuple[list[Entry], list[Broken]]:
    path = tmp_path / "a.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = list(JsonLists(path, "a.json", KEYS))
    return [e for e in found if isinstance(e, Entry)], [e for e in found if isinstance(e, Broken)]


def values(entries: list[Entry], key: str) -> list[Any]:
    return [entry.value for entry in entries if entry.key == key]


@pytest.mark.usefixtures("_chunks")
class TestSound:
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
    def test_every_entry_with_its_line(self, tmp_path: Path, encoding: str) -> None:
        entries, broken = read(tmp_path, TEXT.encode(encoding))
        assert broken == []
        for key in KEYS:
            assert values(entries, key) == BODY[key]
        lines = TEXT.split("\n")
        for entry in entries:
            assert lines[entry.line - 1].strip() == "{"
            assert f'"id": {entry.value["id"]}' in lines[entry.line]

    def test_lists_in_any_order_and_empty_ones(self, tmp_path: Path) -> None:
        entries, broken = read(tmp_path, '{"categories":[],"annotations":[1,2 , 3],"images":[\n]}')
        assert (values(entries, "annotations"), broken) == ([1, 2, 3], [])

    def test_bytes_that_are_no_utf8_keep_the_rest(self, tmp_path: Path) -> None:
        entries, broken = read(tmp_path, b'{"images": [{"file_name": "caf\xe9.jpg"}], "annotations": []}')
        assert (entries[0].value["file_name"].encode("utf-8", "surrogateescape"), broken) == (b"caf\xe9.jpg", [])

    def test_progress_ends_at_the_size_of_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "a.json").write_text(TEXT)
        seen: list[tuple[int, int]] = []
        list(JsonLists(tmp_path / "a.json", "a.json", KEYS, lambda done, total: seen.append((done, total))))
        size = len(TEXT.encode())
        assert seen[-1] == (size, size)


@pytest.mark.usefixtures("_chunks")
class TestBroken:
    @pytest.mark.parametrize(
        ("old", "new", "lost", "entry", "at"),
        [
            ('"id": 1,\n   "bbox"', '"id" 1,\n   "bbox"', {"annotations": 1}, "annotations[1]", ' 1,\n   "bbox"'),
            ("},\n  {", "}\n  {", {}, "images[1]", "{"),
            ('"images": [\n  {', '"images": [\n  ,{', {}, "images[0]", ",{"),
            ('"images": [', '"images": [ nonsense', {}, "images[0]", "nonsense"),
            ('{\n   "id": 3', '{\n   "id": 3 3', {"images": 1}, "images[3]", "3,"),
        ],
    )
    def test_costs_itself_and_is_named(
        self, tmp_path: Path, old: str, new: str, lost: dict[str, int], entry: str, at: str
    ) -> None:
        text = TEXT.replace(old, new, 1)
        entries, broken = read(tmp_path, text)
        assert len(broken) == 1
        assert not broken[0].ends
        for key in KEYS:
            assert len(values(entries, key)) == len(BODY[key]) - lost.get(key, 0)
        place = text.index(at, TEXT.index(old))
        line = text.count("\n", 0, place) + 1
        assert broken[0].where.split(":")[0].startswith(f"line {line} column ")
        column = int(broken[0].where.split(":")[0].rsplit(" ", 1)[1])
        assert abs(column - (place - text.rfind("\n", 0, place))) <= 1  # the decoder points before or behind a blank
        assert broken[0].where.endswith(f": {entry}")

    @pytest.mark.parametrize("key", KEYS[:2])
    @pytest.mark.parametrize(
        ("closing", "reason"), [("},\n ],", "a comma before"), ("}\n ,", "not closed"), ("},", "")]
    )
    def test_the_end_of_a_list(self, tmp_path: Path, key: str, closing: str, reason: str) -> None:
        """A comma too many, or no bracket: the file's other lists stay."""
        place = TEXT.index("}\n ],", TEXT.index(f'"{key}"'))
        entries, broken = read(tmp_path, TEXT[:place] + closing + TEXT[place + len("}\n ],") :])
        for name in KEYS:
            assert values(entries, name) == BODY[name]
        assert len(broken) == 1
        assert reason in broken[0].reason

    def test_control_characters_in_a_string_are_no_json(self, tmp_path: Path) -> None:
        """Zeroed bytes from inside one string to inside another would make one entry of two."""
        text = TEXT.replace("é1.jpg", "\0\0\0").replace('"file_name": "\0', '"file_name": "\0', 1)
        entries, broken = read(tmp_path, text)
        assert [value["id"] for value in values(entries, "images")] == [0, 2, 3, 4]
        assert "control character" in broken[0].reason

    def test_a_file_that_ends_too_early(self, tmp_path: Path) -> None:
        cut = TEXT.index('"id": 2') + 5
        entries, broken = read(tmp_path, TEXT[:cut])
        assert values(entries, "images") == BODY["images"][:2]  # type: ignore[index]  # a list
        assert [(item.where.split(": ")[1], item.reason, item.ends) for item in broken] == [
            ("images[2]", "the file ends in the middle of it", True)
        ]

    def test_two_broken_entries_are_two(self, tmp_path: Path) -> None:
        text = TEXT.replace('"id": 1,', '"id" 1,').replace('"id": 4,', '"id": x,')
        entries, broken = read(tmp_path, text)
        assert len(broken) == 4  # images 1 and 4, annotation 1, the category
        assert [value["id"] for value in values(entries, "images")] == [0, 2, 3]
        assert [value["id"] for value in values(entries, "annotations")] == [0, 2]

    def test_nesting_and_long_numbers(self, tmp_path: Path) -> None:
        deep = '{"id": 9, "a": ' + "[" * 5000 + "]" * 5000 + "}"
        long = '{"id": 9, "a": ' + "9" * 5000 + "}"
        entries, broken = read(tmp_path, f'{{"images": [{{"id": 1}}, {deep}, {long}, {{"id": 2}}], "annotations": []}}')
        assert [value["id"] for value in values(entries, "images")] == [1, 2]
        assert broken[0].reason == "nested too deeply"
        assert "4300 digits" in broken[1].reason


@pytest.mark.parametrize("content", [b"", b"  \n", b"[1]", b"hello", b"\xff\xd8\xff", b"PK\x03\x04"])
def test_what_does_not_begin_as_an_object_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DatasetError, match=r"a\.json: expected a JSON object with images, annotations, categories"):
        read(tmp_path, content)


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"a\.json cannot be read: Is a directory"):
        list(JsonLists(tmp_path, "a.json", KEYS))

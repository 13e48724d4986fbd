"""Whatever an annotation file holds: a report or one sentence; no stack trace, no hang, no memory without bound."""

from __future__ import annotations

import copy
import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nasdet_core.data.check import check_dataset
from nasdet_core.errors import DatasetError
from tests.support.damage import sound_draft, write

SPLITS = {"train": 6, "val": 3}
CASES = settings(
    max_examples=200,
    deadline=None,  # a hang ends by pytest's own time limit; a busy machine must not look like one
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
MEMORY_KIB = 2 << 20  # of the whole process, most of which is the test's own

_NASTY = (
    b"\0", b"\xff", b"\xef\xbb\xbf", b"<", b">", b"&", b"]]>", b"<!DOCTYPE x>", b"<![CDATA[", b"&#0;", b"{", b"}", b"[",
    b"]", b'"', b",", b":", b"\\", b"\\ud800", b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"[" * 3000, b"<a>" * 3000,
    "\U0001f9ff".encode(), b"null", b"-1", b"0",
)  # fmt: skip
_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        [[], {}, [[[[]]]], {"id": 1}, [1, 2, 3, 4], [0, 0, 0, 0], "../../etc/passwd", "", "x" * 300, -1, 0]
    ),
    st.lists(st.floats(), min_size=4, max_size=4),
)


@st.composite
def byte_edits(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """A few cuts, copies and insertions at places given as shares of the length."""
    edits = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["delete", "repeat", "insert", "replace", "cut"]),
                st.floats(0, 1),
                st.floats(0, 0.3),
                st.sampled_from(_NASTY) | st.binary(max_size=6),
            ),
            min_size=1,
            max_size=4,
        )
    )

    def apply(content: bytes) -> bytes:
        for kind, at, length, piece in edits:
            start = int(at * len(content))
            stop = min(len(content), start + max(1, int(length * 60)))
            content = {
                "delete": content[:start] + content[stop:],
                "repeat": content[:stop] + content[start:stop] * 2 + content[stop:],
                "insert": content[:start] + piece + content[start:],
                "replace": content[:start] + piece + content[stop:],
                "cut": content[:start],
            }[kind]
        return content

    return apply


def nodes(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every node of a JSON value."""
    found = []
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys):
        found.append((value, key))
        found += nodes(value[key])
    return found


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        layout: write(sound_draft(layout, SPLITS), tmp_path_factory.mktemp(layout))
        for layout in ("coco", "voc", "yolo")
    }


def examine(root: Path, file: Path, content: bytes) -> None:
    """Check the dataset with this content of one of its files; the file is put back afterwards."""
    before = file.read_bytes()
    file.write_bytes(content)
    try:
        sentences = sentences_of(root)
    finally:
        file.write_bytes(before)
    assert all(sentence and "\n" not in sentence for sentence in sentences)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < MEMORY_KIB


def sentences_of(root: Path) -> list[str]:
    """What a check says: the defects of its report, or the one sentence with which it refuses the dataset."""
    try:
        report = check_dataset(root)
    except DatasetError as error:
        return [str(error)]
    json.dumps(report, allow_nan=False)
    return [defect["message"] for defect in report["defects"]]


class TestJson:
    @CASES
    @given(edit=byte_edits())
    def test_bytes(self, datasets: dict[str, Path], edit: Callable[[bytes], bytes]) -> None:
        file = datasets["coco"] / "annotations" / "instances_train.json"
        examine(datasets["coco"], file, edit(file.read_bytes()))

    @CASES
    @given(places=st.lists(st.tuples(st.floats(0, 0.999), _VALUES, st.booleans()), min_size=1, max_size=3))
    def test_values(self, datasets: dict[str, Path], places: list[tuple[float, Any, bool]]) -> None:
        """Any node replaced by anything, or removed."""
        file = datasets["coco"] / "annotations" / "instances_val.json"
        body = json.loads(file.read_text())
        for at, value, removed in places:
            found = nodes(body)
            if not found:
                break
            container, key = found[int(at * len(found))]
            if removed:
                del container[key]
            else:
                container[key] = copy.deepcopy(value)
        examine(datasets["coco"], file, json.dumps(body).encode())


class TestXml:
    @CASES
    @given(edit=byte_edits())
    def test_bytes(self, datasets: dict[str, Path], edit: Callable[[bytes], bytes]) -> None:
        file = datasets["voc"] / "Annotations" / "train002.xml"
        examine(datasets["voc"], file, edit(file.read_bytes()))

    @CASES
    @given(edit=byte_edits())
    def test_split_lists(self, datasets: dict[str, Path], edit: Callable[[bytes], bytes]) -> None:
        file = datasets["voc"] / "ImageSets" / "Main" / "train.txt"
        examine(datasets["voc"], file, edit(file.read_bytes()))


class TestYolo:
    @CASES
    @given(edit=byte_edits())
    def test_labels(self, datasets: dict[str, Path], edit: Callable[[bytes], bytes]) -> None:
        file = datasets["yolo"] / "labels" / "train" / "train003.txt"
        examine(datasets["yolo"], file, edit(file.read_bytes()))

    @CASES
    @given(edit=byte_edits())
    def test_yaml(self, datasets: dict[str, Path], edit: Callable[[bytes], bytes]) -> None:
        file = datasets["yolo"] / "data.yaml"
        examine(datasets["yolo"], file, edit(file.read_bytes()))

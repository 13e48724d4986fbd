"""The yaml file of a YOLO dataset (Ultralytics' form): classes, and where the pictures of each split are.

Only the nodes of the file are composed, no Python objects are made of them: nothing a stranger writes is
constructed, an alias costs nothing, and every value knows its line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from nasdet_core.data.defects import DefectLog
from nasdet_core.errors import DatasetError

MAX_BYTES = 2**19  # ten thousands of names; the parser takes seconds for more
MAX_CLASSES = 100_000
SPLIT_KEYS = ("train", "val", "valid", "test")
_NULL = "tag:yaml.org,2002:null"
_KEY = r"(?m)(?:^|[{{,][ \t]*)[\"']?(?:{})[\"']?[ \t]*:"  # of the outermost mapping, in block or flow form
_NAMES_KEY = re.compile(_KEY.format("names").encode())
_SPLIT_KEY = re.compile(_KEY.format("|".join(SPLIT_KEYS)).encode())


@dataclass(frozen=True, slots=True)
class YoloEntry:
    """One place of pictures that the file names for a split: a folder or a list."""

    key: str  # 'train', 'val', 'valid' or 'test'
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class YoloDescription:
    """What the yaml file says."""

    class_names: tuple[str, ...]
    class_ids: tuple[int, ...]  # as label files write them, in the order of class_names
    path: str  # '' where there is none
    entries: tuple[YoloEntry, ...]
    keypoint_values: int  # numbers after the box in each line of a pose dataset, else 0


def looks_like_description(path: Path) -> bool:
    """Whether a yaml file has `names` and one of the splits, from its beginning and without parsing it."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES)
    except OSError:  # not readable, so nothing that could be used
        return False
    return _NAMES_KEY.search(content) is not None and _SPLIT_KEY.search(content) is not None


def read_description(path: Path, shown: str, log: DefectLog) -> YoloDescription:
    """Raises DatasetError (with file and line) where the file is no YAML or lacks classes or splits."""
    keys = _keys(_compose(path, shown), shown)
    if "names" not in keys:
        raise DatasetError(f"{shown}: expected `names` with the classes, found none")
    classes = _classes(keys["names"], shown)
    _compare_number(keys.get("nc"), len(classes), shown, log)
    entries = tuple(entry for key in SPLIT_KEYS if key in keys for entry in _entries(key, keys[key], shown))
    if not entries:
        raise DatasetError(f"{shown}: expected a folder or list of pictures under `train`, `val` or `test`, found none")
    return YoloDescription(
        class_names=tuple(classes.values()),
        class_ids=tuple(classes),
        path=_scalar(keys["path"], "path", shown) if "path" in keys else "",
        entries=entries,
        keypoint_values=_keypoint_values(keys.get("kpt_shape"), shown),
    )


def _compose(path: Path, shown: str) -> Node | None:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DatasetError(f"expected a YAML file of at most {MAX_BYTES} bytes, {shown} has {size}")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DatasetError(f"{shown} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"expected UTF-8 text in {shown}, but byte {error.start} is something else") from error
    try:
        node: Node | None = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        where = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise DatasetError(f"{shown}{where}: broken YAML ({error.problem or 'not well-formed'})") from error
    except (YAMLError, RecursionError, ValueError) as error:  # control characters, nesting, absurd escapes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DatasetError(f"{shown}: broken YAML ({reason})") from error
    return node


def _keys(node: Node | None, shown: str) -> Mapping[str, Node]:
    if not isinstance(node, MappingNode):
        raise DatasetError(f"{shown}: expected keys such as `names:` and `train:`, found something else")
    keys: dict[str, Node] = {}
    for key, value in node.value:
        if isinstance(key, ScalarNode) and keys.setdefault(key.value, value) is not value:
            raise DatasetError(f"{shown} line {_line(key)}: {key.value[:100]!r} is there twice; leave one of them")
    return keys


def _classes(node: Node, shown: str) -> dict[int, str]:
    """Id -> name, by id."""
    pairs: list[tuple[int, Node]] = []
    if isinstance(node, SequenceNode):
        pairs = list(enumerate(node.value))
    elif isinstance(node, MappingNode):
        pairs = [(_class_id(key, shown), value) for key, value in node.value]
    if not pairs:
        raise DatasetError(f"{shown} line {_line(node)}: expected a list of names, or ids with names, under `names`")
    if len(pairs) > MAX_CLASSES:
        raise DatasetError(f"{shown} line {_line(node)}: expected at most {MAX_CLASSES} names, found {len(pairs)}")
    names: dict[int, str] = {}
    ids: dict[str, int] = {}
    for identity, value in pairs:
        name = _scalar(value, f"names: {identity}", shown)
        if not name:
            raise DatasetError(f"{shown} line {_line(value)}: class {identity} has no name")
        if identity in names or name in ids:
            other = identity if identity in names else ids[name]
            raise DatasetError(
                f"{shown} line {_line(value)}: class {identity} ({name[:100]!r}) repeats the id or the name of class "
                f"{other}; every class needs its own"
            )
        names[identity], ids[name] = name, identity
    return {identity: names[identity] for identity in sorted(names)}


def _class_id(key: Node, shown: str) -> int:
    text = key.value if isinstance(key, ScalarNode) else ""
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    raise DatasetError(f"{shown} line {_line(key)}: expected an integer from 0 as the id of a class under `names`")


def _compare_number(node: Node | None, names: int, shown: str, log: DefectLog) -> None:
    if node is not None and _scalar(node, "nc", shown) != str(names):
        written = _scalar(node, "nc", shown)[:100]
        log.add(
            "class_count_differs",
            f"{shown} line {_line(node)}: nc is {written}, but `names` has {names}; the {names} names are used",
        )


def _entries(key: str, node: Node, shown: str) -> list[YoloEntry]:
    values = node.value if isinstance(node, SequenceNode) else [node]
    entries = [YoloEntry(key, _scalar(value, key, shown), _line(value)) for value in values]
    return [entry for entry in entries if entry.text]


def _keypoint_values(node: Node | None, shown: str) -> int:
    if node is None:
        return 0
    values = [_scalar(value, "kpt_shape", shown) for value in node.value] if isinstance(node, SequenceNode) else []
    if len(values) != 2 or not all(value.isascii() and value.isdigit() and len(value) < 6 for value in values):
        raise DatasetError(f"{shown} line {_line(node)}: expected two integers [points, values a point] in `kpt_shape`")
    return int(values[0]) * int(values[1])


def _scalar(node: Node, key: str, shown: str) -> str:
    """The text of a plain value ('' for nothing), as written: a class called `no` or `1.0` stays so."""
    if not isinstance(node, ScalarNode):
        raise DatasetError(f"{shown} line {_line(node)}: expected plain text under `{key}`, found a list or keys")
    return "" if node.tag == _NULL and node.style is None else str(node.value).strip()


def _line(node: Node) -> int:
    line: int = node.start_mark.line
    return line + 1

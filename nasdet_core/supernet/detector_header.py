"""What a detector file says about its detector: parts, classes and input. Reading it needs neither torch nor
safetensors, and touches no weights.

A safetensors file begins with 8 bytes of length and a JSON object of that length; ours has one text under
`__metadata__` that is the header in JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasdet_core.data.input_format import InputFormat
from nasdet_core.errors import CheckpointError, NasDetError, SettingError
from nasdet_core.search_spaces.detector_space import DetectorSpace

KIND = "nasdet detector"
SCHEMA = 2  # since 2 a file says its input itself; in 1 it was part of the recipe among the metadata
READABLE_SCHEMAS = (1, 2)
MAX_HEADER_BYTES = 16 * 2**20  # the description of some thousand tensors takes less than 1 MiB

_HEADER_KEY = "nasdet"  # as nasdet_core.training.tensor_file writes it
_LENGTH_BYTES = 8


@dataclass(frozen=True)
class DetectorHeader:
    """The header of a detector file, checked."""

    space: DetectorSpace  # with searched blocks when the file holds a supernet
    class_names: tuple[str, ...]
    input: InputFormat
    metadata: Mapping[str, Any]  # whatever the writer added: recipe, seed, dataset
    schema: int = SCHEMA

    def to_json(self) -> dict[str, Any]:
        """The header as it is written; reading it back gives an equal one."""
        return {
            "schema": SCHEMA,
            "kind": KIND,
            "space": self.space.to_description(),
            "class_names": list(self.class_names),
            "input": self.input.to_json(),
            "metadata": dict(self.metadata),
        }


def read_detector_header(source: bytes | Path) -> DetectorHeader:
    """Header of a detector file; CheckpointError when it is something else or describes no detector.

    A missing or unreadable file is an OSError.
    """
    where = file_words(source)
    header = _raw_header(source, where)
    if header.get("kind") != KIND or header.get("schema") not in READABLE_SCHEMAS:
        raise CheckpointError(
            f"{where}: expected a {KIND} of schema {' or '.join(map(str, READABLE_SCHEMAS))}, got "
            f"{header.get('kind')!r:.80} of schema {header.get('schema')!r:.80}"
        )
    try:
        class_names = _class_names(header.get("class_names"))
        return DetectorHeader(
            space=DetectorSpace.from_description(header.get("space", {}), len(class_names)),
            class_names=class_names,
            input=_input_format(header),
            metadata=_mapping("metadata", header.get("metadata")),
            schema=header["schema"],
        )
    except NasDetError as error:
        raise CheckpointError(f"{where}: its header describes no detector: {error!s:.500}") from error


def file_words(source: bytes | Path) -> str:
    """How messages name the file."""
    return "these bytes" if isinstance(source, bytes) else f"file {source.name}"


def _raw_header(source: bytes | Path, where: str) -> Mapping[str, Any]:
    try:
        header = json.loads(json.loads(_header_text(source))["__metadata__"][_HEADER_KEY])
        if not isinstance(header, dict):
            raise TypeError("the header is no mapping")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{where}: expected a {KIND} in safetensors format, got something else") from error
    return header


def _header_text(source: bytes | Path) -> bytes:
    if isinstance(source, bytes):
        length = _bounded_length(source[:_LENGTH_BYTES])
        return source[_LENGTH_BYTES : _LENGTH_BYTES + length]
    with source.open("rb") as file:
        return file.read(_bounded_length(file.read(_LENGTH_BYTES)))


def _bounded_length(prefix: bytes) -> int:
    length = int.from_bytes(prefix, "little")
    if not 0 < length <= MAX_HEADER_BYTES:
        raise ValueError(f"a header of 1 to {MAX_HEADER_BYTES} bytes was expected, but {length} came")
    return length


def _class_names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        raise SettingError(f"class_names: a list of names was expected, but {value!r:.80} came")
    return tuple(value)


def _input_format(header: Mapping[str, Any]) -> InputFormat:
    if header["schema"] >= 2:
        return InputFormat.from_json(header.get("input"))
    recipe = _mapping("metadata", header.get("metadata")).get("recipe")
    if not isinstance(recipe, Mapping) or not {"image_size", "pixel_format"} <= set(recipe):
        raise SettingError(
            "a file of schema 1 says its input in metadata.recipe (image_size, pixel_format), but it has none; "
            "write the detector anew with its input format"
        )
    return InputFormat(recipe["image_size"], recipe["pixel_format"])


def _mapping(key: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise SettingError(f"{key}: a mapping was expected, but {value!r:.80} came")
    return value

"""Files of tensors with a JSON header, in safetensors format: reading one runs no code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from nasdet_core.errors import CheckpointError

_HEADER_KEY = "nasdet"


def pack_tensors(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> bytes:
    """The same tensors and header give the same bytes."""
    portable = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return save(portable, metadata={_HEADER_KEY: json.dumps(header, sort_keys=True)})


def unpack_tensors(source: bytes | Path, *, kind: str, schema: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of a file that says it is a `kind` of this `schema`."""
    where = "these bytes" if isinstance(source, bytes) else f"file {source.name}"
    data = source if isinstance(source, bytes) else source.read_bytes()
    try:
        length = int.from_bytes(data[:8], "little")  # safetensors: 8 bytes of length, then JSON, then the tensors
        header = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][_HEADER_KEY])
        described = header.get("kind"), header.get("schema")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{where}: expected a {kind} in safetensors format, got something else") from error
    if described != (kind, schema):
        raise CheckpointError(
            f"{where}: expected a {kind} of schema {schema}, got {described[0]!r} of schema {described[1]!r}"
        )
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise CheckpointError(
            f"{where}: the tensors are damaged ({error}); copy the file anew from where it came from"
        ) from error
    return tensors, header


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

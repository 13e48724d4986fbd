"""Detector files: weights in safetensors, and beside them in the same file what is needed to rebuild the
network and to feed it.

A file is known by the SHA-256 of its bytes. The same detector with the same metadata gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nasdet_core.data.input_format import InputFormat
from nasdet_core.detectors.detector import Detector, build_detector
from nasdet_core.errors import CheckpointError, NasDetError
from nasdet_core.search_spaces.detector_space import DetectorSpace
from nasdet_core.supernet.detector_header import KIND, DetectorHeader, read_detector_header
from nasdet_core.training.placement import place
from nasdet_core.training.tensor_file import pack_tensors, sha256, unpack_tensors


@dataclass(frozen=True)
class SavedDetector:
    """A detector read from a file."""

    model: Detector
    space: DetectorSpace  # with searched blocks when the file holds a supernet
    class_names: tuple[str, ...]
    input: InputFormat  # of the pictures it was trained on
    digest: str  # SHA-256 of the file
    metadata: Mapping[str, Any]  # whatever the writer added: recipe, seed, dataset


def pack_detector(
    model: Detector,
    *,
    class_names: Sequence[str],
    input: InputFormat,
    metadata: Mapping[str, Any] | None = None,
) -> tuple[bytes, str]:
    """The bytes of a detector file and their SHA-256. `metadata` is JSON."""
    header = DetectorHeader(model.space, tuple(class_names), input, dict(metadata or {}))
    data = pack_tensors(model.state_dict(), header.to_json())
    return data, sha256(data)


def save_detector(
    path: Path,
    model: Detector,
    *,
    class_names: Sequence[str],
    input: InputFormat,
    metadata: Mapping[str, Any] | None = None,
) -> str:
    """Write a detector file and return its SHA-256; a file that is cut short never appears under `path`."""
    data, digest = pack_detector(model, class_names=class_names, input=input, metadata=metadata)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    partial.replace(path)
    return digest


def load_detector(source: bytes | Path, *, device: str | torch.device = "cpu") -> SavedDetector:
    """Rebuild a detector from its file, in evaluation mode and channels-last memory."""
    data = source if isinstance(source, bytes) else source.read_bytes()
    header = read_detector_header(source)
    tensors, _ = unpack_tensors(source, kind=KIND, schema=header.schema)
    try:
        model = build_detector(header.space, elastic=bool(header.space.blocks), init="framework", seed=0)
    except NasDetError as error:
        raise CheckpointError(f"the detector that the file describes cannot be built: {error}") from error
    _check_fit(model.state_dict(), tensors)
    model.load_state_dict(tensors, strict=True)
    return SavedDetector(
        place(model, device).eval(), header.space, header.class_names, header.input, sha256(data), header.metadata
    )


def _check_fit(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """CheckpointError that names the first tensor of each kind that is missing, left over or of another shape."""
    kinds = {
        "missing": sorted(set(expected) - set(found)),
        "without a place": sorted(set(found) - set(expected)),
        "of another shape": sorted(k for k in set(found) & set(expected) if found[k].shape != expected[k].shape),
    }
    said = [
        f"{len(names)} tensor{'s' if len(names) > 1 else ''} {kind} (first: {names[0]})"
        for kind, names in kinds.items()
        if names
    ]
    if said:
        raise CheckpointError(
            f"the weights do not fit the detector that their file describes: {', '.join(said)}; is the file damaged?"
        )

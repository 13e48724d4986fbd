"""Detector files: weights in safetensors, and beside them in the same file what is needed to rebuild the
network.

A file is known by the SHA-256 of its bytes. The same detector with the same metadata gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nasdet_core.detectors.detector import Detector, build_detector
from nasdet_core.errors import CheckpointError, NasDetError
from nasdet_core.search_spaces.detector_space import DetectorSpace
from nasdet_core.training.placement import place
from nasdet_core.training.tensor_file import pack_tensors, sha256, unpack_tensors

SCHEMA = 1
_KIND = "nasdet detector"


@dataclass(frozen=True)
class SavedDetector:
    """A detector read from a file."""

    model: Detector
    space: DetectorSpace  # with searched blocks when the file holds a supernet
    class_names: tuple[str, ...]
    digest: str  # SHA-256 of the file
    metadata: Mapping[str, Any]  # whatever the writer added: recipe, seed, dataset


def pack_detector(
    model: Detector, *, class_names: Sequence[str], metadata: Mapping[str, Any] | None = None
) -> tuple[bytes, str]:
    """The bytes of a detector file and their SHA-256. `metadata` is JSON."""
    header = {
        "schema": SCHEMA,
        "kind": _KIND,
        "space": model.space.to_description(),
        "class_names": list(class_names),
        "metadata": dict(metadata or {}),
    }
    data = pack_tensors(model.state_dict(), header)
    return data, sha256(data)


def save_detector(
    path: Path, model: Detector, *, class_names: Sequence[str], metadata: Mapping[str, Any] | None = None
) -> str:
    """Write a detector file and return its SHA-256; a file that is cut short never appears under `path`."""
    data, digest = pack_detector(model, class_names=class_names, metadata=metadata)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    partial.replace(path)
    return digest


def load_detector(source: bytes | Path, *, device: str | torch.device = "cpu") -> SavedDetector:
    """Rebuild a detector from its file, in evaluation mode and channels-last memory."""
    data = source if isinstance(source, bytes) else source.read_bytes()
    tensors, header = unpack_tensors(source, kind=_KIND, schema=SCHEMA)
    class_names = tuple(header["class_names"])
    try:
        space = DetectorSpace.from_description(header["space"], len(class_names))
        model = build_detector(space, elastic=bool(space.blocks), init="framework", seed=0)
        model.load_state_dict(tensors, strict=True)
    except (NasDetError, RuntimeError) as error:
        raise CheckpointError(f"the weights do not fit the detector that their file describes: {error}") from error
    return SavedDetector(place(model, device).eval(), space, class_names, sha256(data), header["metadata"])

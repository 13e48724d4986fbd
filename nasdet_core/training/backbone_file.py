"""Backbone files: weights of a backbone alone, or with its ImageNet head, in safetensors, and beside them in the
same file what is needed to rebuild the network and to feed it.

A file is known by the SHA-256 of its bytes. The same network with the same source gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nasdet_core.backbones.classifier import DetNasClassifier
from nasdet_core.backbones.elastic_classifier import ElasticDetNasClassifier
from nasdet_core.backbones.shufflenet import DetNasBackboneNet, ElasticDetNasBackbone
from nasdet_core.data.input_format import InputFormat
from nasdet_core.errors import CheckpointError, NasDetError
from nasdet_core.search_spaces.parts import build_backbone
from nasdet_core.search_spaces.settings import whole_number
from nasdet_core.search_spaces.shufflenet_chain import DetNasBackbone
from nasdet_core.training.tensor_file import pack_tensors, sha256, unpack_tensors

KIND = "nasdet backbone"
SCHEMA = 1
FORMS = ("body", "classifier")
MAX_CHANNELS = 1_000_000  # of the last convolution; classes as well

Backbone = DetNasBackboneNet | ElasticDetNasBackbone | DetNasClassifier | ElasticDetNasClassifier


@dataclass(frozen=True)
class SavedBackbone:
    """A backbone read from a file; elastic when it is a supernet, a classifier when it has its ImageNet head."""

    model: Backbone
    part: DetNasBackbone
    input: InputFormat
    source: Mapping[str, Any]  # whatever the writer added: family, file and digest of what was imported
    digest: str  # SHA-256 of the file


def save_backbone(path: Path, model: Backbone, *, input: InputFormat, source: Mapping[str, Any]) -> str:
    """Write a backbone file and return its SHA-256; a file that is cut short never appears under `path`.

    `source` is JSON.
    """
    data = pack_tensors(model.state_dict(), _header(model, input, source))
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    partial.replace(path)
    return sha256(data)


def load_backbone_file(file: Path) -> SavedBackbone:
    """Rebuild a backbone from its file, on the CPU and in evaluation mode."""
    tensors, header = unpack_tensors(file, kind=KIND, schema=SCHEMA)
    try:
        part = build_backbone(header["part"])
        if not isinstance(part, DetNasBackbone):
            raise CheckpointError(f"a DetNAS backbone was expected, but {part.name} came")
        with torch.device("meta"):
            model = _build(part, header)
        model.load_state_dict(tensors, strict=True, assign=True)
        return SavedBackbone(
            model.eval(), part, InputFormat.from_json(header["input"]), header["source"], sha256(file.read_bytes())
        )
    except KeyError as error:
        raise CheckpointError(f"file {file.name}: its header must say {error}, but does not") from error
    except (NasDetError, RuntimeError) as error:
        raise CheckpointError(
            f"file {file.name}: the weights do not fit the backbone that it describes: {error}"
        ) from error


def _header(model: Backbone, input: InputFormat, source: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(model, DetNasClassifier | ElasticDetNasClassifier):
        linear = model.classifier
        head: dict[str, Any] = {
            "form": "classifier",
            "last_channels": linear.in_features,
            "num_classes": linear.out_features,
        }
        part = model.body.part
    else:
        head = {"form": "body", "last_channels": None, "num_classes": None}
        part = model.part
    return {
        "schema": SCHEMA,
        "kind": KIND,
        "part": part.to_description(),
        **head,
        "input": input.to_json(),
        "source": dict(source),
    }


def _build(part: DetNasBackbone, header: Mapping[str, Any]) -> Backbone:
    body = ElasticDetNasBackbone(part) if part.genotype is None else DetNasBackboneNet(part)
    if header["form"] == "body":
        return body
    if header["form"] != "classifier":
        raise CheckpointError(f"a form of {' or '.join(FORMS)} was expected, but {header['form']!r:.80} came")
    last_channels, num_classes = (
        whole_number(key, header[key], 1, MAX_CHANNELS) for key in ("last_channels", "num_classes")
    )
    if isinstance(body, ElasticDetNasBackbone):
        return ElasticDetNasClassifier(body, last_channels=last_channels, num_classes=num_classes)
    return DetNasClassifier(body, last_channels=last_channels, num_classes=num_classes)

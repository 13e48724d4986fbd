"""Backbone files: what is written comes back, and a file that contradicts itself is a sentence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from nasdet_core.backbones.classifier import DetNasClassifier
from nasdet_core.backbones.elastic_classifier import ElasticDetNasClassifier
from nasdet_core.backbones.shufflenet import DetNasBackboneNet, ElasticDetNasBackbone
from nasdet_core.data.input_format import InputFormat
from nasdet_core.errors import CheckpointError
from nasdet_core.search_spaces.shufflenet_chain import DetNasBackbone
from nasdet_core.training.backbone_file import KIND, SCHEMA, Backbone, load_backbone_file, save_backbone
from nasdet_core.training.tensor_file import pack_tensors, unpack_tensors

FIXED = DetNasBackbone("detnas-300m", width=0.25, split="even_odd", genotype=(0, 1, 2, 3) * 5)
SEARCHED = DetNasBackbone("detnas-300m", width=0.25)
INPUT = InputFormat((224, 224), "bgr_255")
SOURCE = {"family": "detnas", "file": "net.pkl"}
BACKBONES: Mapping[str, Backbone] = {
    "body": DetNasBackboneNet(FIXED),
    "supernet": ElasticDetNasBackbone(SEARCHED),
    "classifier": DetNasClassifier(DetNasBackboneNet(FIXED), last_channels=24, num_classes=5),
    "supernet classifier": ElasticDetNasClassifier(ElasticDetNasBackbone(SEARCHED), last_channels=24, num_classes=5),
}


@pytest.mark.parametrize("kind", BACKBONES)
def test_backbone_comes_back_with_all_that_belongs_to_it(kind: str, tmp_path: Path) -> None:
    model = BACKBONES[kind]
    digest = save_backbone(tmp_path / "net", model, input=INPUT, source=SOURCE)
    saved = load_backbone_file(tmp_path / "net")
    assert type(saved.model) is type(model)
    assert (saved.part, saved.input, saved.source, saved.digest) == (
        SEARCHED if "supernet" in kind else FIXED,
        INPUT,
        SOURCE,
        digest,
    )
    assert not saved.model.training
    state = saved.model.state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(state[name], tensor)
    assert save_backbone(tmp_path / "again", saved.model, input=INPUT, source=SOURCE) == digest


def test_header_says_what_the_file_is(tmp_path: Path) -> None:
    save_backbone(tmp_path / "net", BACKBONES["classifier"], input=INPUT, source=SOURCE)
    _, header = unpack_tensors(tmp_path / "net", kind=KIND, schema=SCHEMA)
    assert header == {
        "schema": 1,
        "kind": "nasdet backbone",
        "part": {"space": "detnas-300m", "width": 0.25, "split": "even_odd", "genotype": [0, 1, 2, 3] * 5},
        "form": "classifier",
        "last_channels": 24,
        "num_classes": 5,
        "input": {"image_size": [224, 224], "pixel_format": "bgr_255"},
        "source": SOURCE,
    }


def test_supernet_classifier_runs_the_path_it_is_given() -> None:
    """Like the standalone classifier of that path with its tensors."""
    elastic = BACKBONES["supernet classifier"]
    assert isinstance(elastic, ElasticDetNasClassifier)
    genotype = (3, 1, 0, 2) * 5
    standalone = DetNasClassifier(
        DetNasBackboneNet(DetNasBackbone("detnas-300m", width=0.25, genotype=genotype)), last_channels=24, num_classes=5
    )
    state = {f"body.{name}": tensor for name, tensor in elastic.body.subnet_state_dict(genotype).items()}
    state |= {name: tensor for name, tensor in elastic.state_dict().items() if not name.startswith("body.")}
    standalone.load_state_dict(state)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(elastic.eval()(images, genotype), standalone.eval()(images))


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("form", "detector", "a form of body or classifier was expected, but 'detector' came"),
        ("last_channels", -1, "last_channels: a whole number from 1"),
        ("num_classes", 6, "size mismatch"),
        ("part", {"space": "detnas-1.3g"}, "do not fit the backbone"),
        ("part", {"model": "fpn"}, "unknown backbone 'fpn'"),
        ("input", {}, "input: a mapping with the keys"),
        ("source", None, "its header must say 'source'"),
    ],
)
def test_header_that_does_not_fit_is_a_sentence(key: str, value: Any, reason: str, tmp_path: Path) -> None:
    save_backbone(tmp_path / "net", BACKBONES["classifier"], input=INPUT, source=SOURCE)
    tensors, header = unpack_tensors(tmp_path / "net", kind=KIND, schema=SCHEMA)
    changed = {**header, key: value} if value is not None else {k: v for k, v in header.items() if k != key}
    (tmp_path / "net").write_bytes(pack_tensors(tensors, json.loads(json.dumps(changed))))
    with pytest.raises(CheckpointError, match=reason):
        load_backbone_file(tmp_path / "net")


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "net").write_bytes(pack_tensors({}, {"kind": "nasdet detector", "schema": 1}))
    with pytest.raises(CheckpointError, match="expected a nasdet backbone of schema 1, got 'nasdet detector'"):
        load_backbone_file(tmp_path / "net")

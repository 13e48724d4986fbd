"""Strictness of the importer of DetNAS's published weights (names: the public reference code)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nasdet_core.backbones.shufflenet import DetNasBackboneNet, ElasticDetNasBackbone
from nasdet_core.errors import CheckpointError
from nasdet_core.importers.detnas import load_backbone, load_classifier, read_encoding, reference_names
from nasdet_core.search_spaces.shufflenet_chain import DetNasBackbone

GENOTYPE = (0, 1, 2, 3) * 5
PART = DetNasBackbone("detnas-300m", width=0.25, genotype=GENOTYPE)
HEAD_TENSORS = 8  # last convolution, its norm, classifier


@pytest.fixture
def checkpoint() -> dict[str, Tensor]:
    state = DetNasBackboneNet(PART).state_dict()
    return {reference: state[ours] for ours, reference in reference_names(PART).items()}


def test_names_of_the_300m_supernet_are_as_many_as_in_the_reference() -> None:
    assert len(reference_names(DetNasBackbone("detnas-300m"))) + HEAD_TENSORS == 1674
    assert len(reference_names(DetNasBackbone("detnas-1.3g"))) + HEAD_TENSORS == 3174


def test_names_are_those_of_the_reference() -> None:
    names = reference_names(DetNasBackbone("detnas-300m", genotype=GENOTYPE))
    assert names["blocks.7.main.4.norm.running_var"] == (
        "features.7.conv.2.interstellar2d_xception_3x3_branch2c_s_bn.running_var"
    )
    assert names["blocks.0.projection.1.norm.bias"] == "features.0.proj_conv.bn1a_proj.bias"
    supernet = reference_names(DetNasBackbone("detnas-300m"))
    assert supernet["blocks.5.1.main.2.conv.weight"] == (
        "features.5.1.conv.1.interstellar2b_shufflenet_5x5_branch2b.weight"
    )


def test_supernet_weights_are_loaded_into_the_elastic_backbone() -> None:
    space = DetNasBackbone("detnas-300m", width=0.25)
    state = ElasticDetNasBackbone(space).state_dict()
    published = {reference: state[ours] for ours, reference in reference_names(space).items()}
    loaded = load_backbone(space, published).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


def test_missing_tensor_is_refused_by_name(checkpoint: dict[str, Tensor]) -> None:
    del checkpoint["features.3.conv.2.interstellar1d_xception_3x3_branch2c.weight"]
    with pytest.raises(CheckpointError, match=r"must hold features\.3\.conv\.2\..*branch2c.weight, but it is missing"):
        load_backbone(PART, checkpoint)


def test_tensor_without_a_place_is_refused_by_name(checkpoint: dict[str, Tensor]) -> None:
    checkpoint["features.20.conv.0.weight"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=r"features\.20\.conv\.0\.weight, which has no place"):
        load_backbone(PART, checkpoint)


def test_wrong_width_is_refused_with_both_shapes(checkpoint: dict[str, Tensor]) -> None:
    with pytest.raises(CheckpointError, match=r"weight: shape \(8, 3, 3, 3\) was expected, but \(4, 3, 3, 3\) came"):
        load_backbone(DetNasBackbone("detnas-300m", width=0.5, genotype=GENOTYPE), checkpoint)


def test_batch_counters_and_imagenet_head_may_be_left_over(checkpoint: dict[str, Tensor]) -> None:
    checkpoint |= {"fc.fc.bias": torch.zeros(7), "first_conv.bn.num_batches_tracked": torch.tensor(5)}
    load_backbone(PART, checkpoint)


def test_imagenet_form_without_its_head_is_refused(checkpoint: dict[str, Tensor]) -> None:
    with pytest.raises(CheckpointError, match=r"must hold last_conv.conv.weight"):
        load_classifier(PART, checkpoint)


def test_encoding_is_read_from_a_single_network_only(checkpoint: dict[str, Tensor]) -> None:
    assert read_encoding({"state_dict": {f"module.{name}": value for name, value in checkpoint.items()}}) == GENOTYPE
    supernet = dict.fromkeys(reference_names(DetNasBackbone("detnas-300m")).values(), torch.zeros(0))
    with pytest.raises(CheckpointError, match="a supernet has one more index"):
        read_encoding(supernet)

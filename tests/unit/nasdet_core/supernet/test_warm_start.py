"""Warm start: what the other choices take over from the first path."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor, nn

from nasdet_core.detectors.detector import build_detector
from nasdet_core.errors import IncompatiblePartsError
from nasdet_core.layers.conv import ConvNorm
from nasdet_core.layers.shuffle_block import ShuffleBlock
from nasdet_core.supernet.path_sampling import UniformPathSampler
from nasdet_core.supernet.warm_start import copy_path_to_all_choices, warm_path
from tests.support.tiny_training import tiny_space

FIRST_PATH = (2,) * 20


@pytest.fixture
def backbone() -> nn.Module:
    model = build_detector(tiny_space(), elastic=True, seed=3)
    with torch.no_grad():  # trained batch norms differ from fresh ones
        for name, parameter in model.backbone.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
    return model.backbone


def candidates(backbone: nn.Module, block: int) -> list[ShuffleBlock]:
    blocks = cast(nn.ModuleList, backbone.blocks)
    return [cast(ShuffleBlock, candidate) for candidate in cast(nn.ModuleList, blocks[block])]


def layers(branch: nn.Module | None) -> list[ConvNorm]:
    return [] if branch is None else [cast(ConvNorm, layer) for layer in branch.children()]


def zero_outside_the_centre(block: ShuffleBlock, size: int) -> None:
    """Make the 7x7 kernels of a block what a smaller kernel can express."""
    margin = (7 - size) // 2
    for layer in (*layers(block.main), *layers(block.projection)):
        if layer.conv.kernel_size == (7, 7):
            mask = torch.zeros(7, 7)
            mask[margin : 7 - margin, margin : 7 - margin] = 1
            layer.conv.weight.data.mul_(mask)


def test_the_first_path_takes_the_largest_kernel_everywhere() -> None:
    assert warm_path(tiny_space()) == FIRST_PATH


def test_a_block_without_the_largest_kernel_cannot_be_warm_started() -> None:
    class Space:
        blocks = (type(tiny_space().blocks[0])("backbone.stage1.0", ("skip", "shuffle_3x3"), 4),)

    with pytest.raises(IncompatiblePartsError, match=r"backbone.stage1.0.*skip.*warm_start: 0"):
        warm_path(Space())  # type: ignore[arg-type]  # only its blocks are read


@pytest.mark.parametrize("block", [0, 1])  # stride 2 and stride 1
@pytest.mark.parametrize(("choice", "size"), [(0, 3), (1, 5)])
def test_shuffle_choices_equal_the_source_cut_to_their_kernel(
    backbone: nn.Module, block: int, choice: int, size: int
) -> None:
    blocks = candidates(backbone, block)
    source, target = blocks[2].eval(), blocks[choice].eval()
    zero_outside_the_centre(source, size)
    copy_path_to_all_choices(backbone, FIRST_PATH)
    width = layers(source.main)[0].conv.in_channels * (1 if block == 0 else 2)
    features = torch.randn(2, width, 12, 12)
    torch.testing.assert_close(target(features), source(features), rtol=1e-4, atol=1e-5)


def test_xception_choice_is_identities_around_the_source(backbone: nn.Module) -> None:
    copy_path_to_all_choices(backbone, FIRST_PATH)
    blocks = candidates(backbone, 1)
    source, target = layers(blocks[2].main), layers(blocks[3].main)
    for index in (0, 2, 3):
        features = torch.randn(2, target[index].conv.in_channels, 8, 8)
        torch.testing.assert_close(target[index].conv(features), features)
        assert torch.equal(target[index].norm.weight, torch.ones_like(target[index].norm.weight))
    assert torch.equal(target[1].conv.weight, source[0].conv.weight)
    assert torch.equal(target[4].conv.weight, source[1].conv.weight[..., 2:-2, 2:-2])
    assert torch.equal(target[5].norm.bias, source[2].norm.bias)


def test_source_path_stays_as_it_is(backbone: nn.Module) -> None:
    before: dict[str, Tensor] = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    copy_path_to_all_choices(backbone, FIRST_PATH)
    for name, tensor in backbone.state_dict().items():
        parts = name.split(".")
        if parts[0] != "blocks" or parts[2] == "2":
            assert torch.equal(tensor, before[name]), name


def test_paths_depend_on_seed_and_step_alone_and_use_every_candidate() -> None:
    space = tiny_space()
    sampler = UniformPathSampler(space, 7)
    paths = [sampler.path(step) for step in range(200)]
    assert paths[150] == UniformPathSampler(space, 7).path(150)
    assert paths != [UniformPathSampler(space, 8).path(step) for step in range(200)]
    for block in range(len(space.blocks)):
        counts = [sum(path[block] == choice for path in paths) for choice in range(4)]
        assert min(counts) > 25, (block, counts)  # 50 expected, s.d. 6

"""The feature pyramid: cost, levels, odd sizes, initialisation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from nasdet_core.evaluation.complexity import count_macs_by_hooks, count_parameters
from nasdet_core.necks.fpn import Fpn
from nasdet_core.search_spaces.base import ImageSize, LevelSpec
from nasdet_core.search_spaces.fpn_neck import FpnNeck
from nasdet_core.search_spaces.shufflenet_chain import DetNasBackbone

LEVELS = DetNasBackbone("detnas-300m", width=0.25).feature_levels()


def features(size: ImageSize) -> dict[str, Tensor]:
    return {level.name: torch.randn(2, level.channels, *cells(level, size)) for level in LEVELS}


def cells(level: LevelSpec, size: ImageSize) -> tuple[int, int]:
    return -(-size[0] // level.stride), -(-size[1] // level.stride)


@pytest.mark.parametrize("extra", [0, 1, 2])
@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("levels", [("c2", "c3", "c4", "c5"), ("c4", "c5")])
@pytest.mark.parametrize("size", [(64, 96), (75, 101)])
def test_levels_and_cost_are_the_declared_ones(extra: int, norm: str, levels: tuple[str, ...], size: ImageSize) -> None:
    part = FpnNeck(channels=8, levels=levels, extra_levels=extra, norm=norm)
    neck = Fpn(part, LEVELS).eval()
    declared = part.out_levels(LEVELS)
    maps = neck(features(size))
    assert list(maps) == [level.name for level in declared]
    for level in declared:
        assert maps[level.name].shape == (2, 8, *cells(level, size))
    cost = part.cost((), size, LEVELS)
    assert count_parameters(neck) == cost.params
    assert count_macs_by_hooks(neck, features(size)) == 2 * cost.macs  # two images


def test_every_convolution_starts_uniform_kaiming_without_bias() -> None:
    neck = Fpn(FpnNeck(channels=32, extra_levels=2), LEVELS)
    convs = [module for module in neck.modules() if isinstance(module, nn.Conv2d)]
    assert len(convs) == 8
    for conv in convs:
        fan_in = conv.weight[0].numel()
        bound = (3 / fan_in) ** 0.5  # sqrt(6 / ((1 + a**2) * fan_in)) with a = 1
        assert 0.9 * bound < conv.weight.abs().max().item() <= bound
        assert conv.bias is not None
        assert torch.all(conv.bias == 0)

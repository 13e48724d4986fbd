"""Feature pyramid network (Lin et al. 2017, arXiv:1612.03144) from torchvision's parts.

Uniform Kaiming initialisation with a = 1 and zero biases, in the extra levels too: with normal Kaiming the outputs are
ten times as large, which cost half of the AP of a short training.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool, LastLevelP6P7

from nasdet_core.layers.conv import BATCH_NORM_EPS
from nasdet_core.search_spaces.base import LevelSpec
from nasdet_core.search_spaces.fpn_neck import FpnNeck


class Fpn(nn.Module):
    """Lateral and output convolutions, top-down addition, extra coarse levels on top."""

    def __init__(self, part: FpnNeck, backbone_levels: Sequence[LevelSpec]) -> None:
        super().__init__()
        taken = part.in_levels(backbone_levels)
        self.inputs = tuple(level.name for level in taken)
        self.outputs = tuple(level.name for level in part.out_levels(backbone_levels))
        extra = (None, LastLevelMaxPool(), LastLevelP6P7(part.channels, part.channels))[part.extra_levels]
        self.pyramid = FeaturePyramidNetwork([level.channels for level in taken], part.channels, extra)
        if part.norm == "batch":
            # torchvision drops the bias of a convolution in front of a norm; DetNAS keeps it.
            for block in (*self.pyramid.inner_blocks, *self.pyramid.layer_blocks):
                block.append(nn.BatchNorm2d(part.channels, eps=BATCH_NORM_EPS))

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Backbone levels {"c3": (N, C3, H/8, W/8), ...} -> {"p3": (N, C, H/8, W/8), ...}, fine to coarse."""
        maps = self.pyramid({name: features[name] for name in self.inputs})
        return dict(zip(self.outputs, maps.values(), strict=True))

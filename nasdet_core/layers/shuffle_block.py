"""The four candidates of a DetNAS choice block (Chen et al. 2019, arXiv:1903.10979, section 3.2).

Three are ShuffleNetV2 blocks (Ma et al. 2018, arXiv:1807.11164) with depthwise kernels of 3, 5 and 7; the fourth
is an Xception-like block with three depthwise-separable convolutions. One class builds all four at both strides.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nasdet_core.errors import UnknownNameError
from nasdet_core.layers.channel_split import channel_split
from nasdet_core.layers.conv import depthwise, pointwise

# Candidate name -> depthwise kernel size; the names are those of the search space.
KERNEL_SIZES: Mapping[str, int] = {"shuffle_3x3": 3, "shuffle_5x5": 5, "shuffle_7x7": 7, "xception_3x3": 3}


class ShuffleBlock(nn.Module):
    """One candidate of a choice block.

    Stride 1: half of the channels pass untouched, the other half goes through `main`.
    Stride 2: `projection` and `main` both see the whole input; their outputs are concatenated, projection first.

    `main` is a sequence of ConvNorm. ShuffleNetV2: 1x1, depthwise, 1x1. Xception: depthwise, 1x1, three times.
    """

    def __init__(self, candidate: str, in_channels: int, out_channels: int, *, stride: int, split: str) -> None:
        super().__init__()
        if candidate not in KERNEL_SIZES:
            raise UnknownNameError(f"candidate '{candidate}' is unknown; a block is one of {', '.join(KERNEL_SIZES)}")
        self.candidate = candidate
        self.stride = stride
        self.split = split
        kernel = KERNEL_SIZES[candidate]
        mid = out_channels // 2
        branch_in = in_channels if stride == 2 else in_channels // 2
        branch_out = out_channels - in_channels if stride == 2 else out_channels // 2
        build = _xception_branch if candidate.startswith("xception") else _shuffle_branch
        self.main = build(branch_in, mid, branch_out, kernel=kernel, stride=stride)
        self.projection = _projection(in_channels, kernel) if stride == 2 else None
        self._split_channels = channel_split(split)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, ceil(H / stride), ceil(W / stride))."""
        if self.projection is not None:
            return torch.cat((self.projection(x), self.main(x)), dim=1)
        kept, processed = self._split_channels(x)
        return torch.cat((kept, self.main(processed)), dim=1)

    def extra_repr(self) -> str:
        return f"candidate={self.candidate}, stride={self.stride}, split={self.split}"


def _shuffle_branch(branch_in: int, mid: int, branch_out: int, *, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(pointwise(branch_in, mid), depthwise(mid, kernel, stride=stride), pointwise(mid, branch_out))


def _xception_branch(branch_in: int, mid: int, branch_out: int, *, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        depthwise(branch_in, kernel, stride=stride),
        pointwise(branch_in, mid),
        depthwise(mid, kernel),
        pointwise(mid, mid),
        depthwise(mid, kernel),
        pointwise(mid, branch_out),
    )


def _projection(channels: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(depthwise(channels, kernel, stride=2), pointwise(channels, channels))

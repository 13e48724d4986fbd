"""Convolution followed by batch normalisation and, when asked, a ReLU."""

from torch import Tensor, nn
from torch.nn import functional as F

BATCH_NORM_EPS = 1e-5


class ConvNorm(nn.Module):
    """Convolution, batch norm, optional ReLU; "same" padding for odd kernels.

    The ReLU is a flag and not a module, so that it owns no index in the state dict.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
        relu: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            groups=groups,
            bias=bias,
        )
        self.norm = nn.BatchNorm2d(out_channels, eps=BATCH_NORM_EPS)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, ceil(H / stride), ceil(W / stride))."""
        y: Tensor = self.norm(self.conv(x))
        return F.relu(y, inplace=True) if self.relu else y

    def extra_repr(self) -> str:
        return f"relu={self.relu}"


def depthwise(channels: int, kernel_size: int, *, stride: int = 1) -> ConvNorm:
    """Depthwise convolution and batch norm; the ShuffleNetV2 family has no ReLU behind it."""
    return ConvNorm(channels, channels, kernel_size, stride=stride, groups=channels, relu=False)


def pointwise(in_channels: int, out_channels: int) -> ConvNorm:
    """1x1 convolution, batch norm, ReLU."""
    return ConvNorm(in_channels, out_channels)

"""Closed-form cost of single layers, the vocabulary in which parts state theirs.

MACs count multiplications of convolutions and linear layers only; parameters count weights, biases and the
affine parameters of norms, not running statistics.
"""

from __future__ import annotations

from nasdet_core.search_spaces.base import Cost


def convolution(
    in_channels: int, out_channels: int, kernel: int, positions: int, *, bias: bool, norm: bool = False
) -> Cost:
    """A dense convolution evaluated at `positions` output cells, optionally followed by an affine norm."""
    weights = in_channels * out_channels * kernel**2
    return Cost(weights * positions, weights + out_channels * bias + 2 * out_channels * norm)


def depthwise(channels: int, kernel: int, positions: int, *, norm: bool = True) -> Cost:
    """A depthwise convolution (one filter per channel, no bias), by default followed by an affine norm."""
    weights = channels * kernel**2
    return Cost(weights * positions, weights + 2 * channels * norm)


def linear(in_features: int, out_features: int) -> Cost:
    """A fully connected layer with bias, applied once."""
    weights = in_features * out_features
    return Cost(weights, weights + out_features)

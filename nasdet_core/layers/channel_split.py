"""The two ways DetNAS splits channels in front of a stride-1 block.

DetNAS (Chen et al. 2019, arXiv:1903.10979). The supernet uses the classic channel shuffle ("shuffle"), the
published single networks take even and odd channels ("even_odd"). Both mix the halves of the block before, but
they hand different channels to the branch: weights trained under one are worthless under the other.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from nasdet_core.errors import UnknownNameError

ChannelSplit = Callable[[Tensor], tuple[Tensor, Tensor]]


def split_shuffle(x: Tensor) -> tuple[Tensor, Tensor]:
    """Shuffle with two groups, then cut in halves: (N, C, H, W) -> two of (N, C/2, H, W).

    The first result holds channels 0, C/2, 1, C/2 + 1, ..., the second C/4, 3C/4, C/4 + 1, ...; 4 divides C.
    """
    n, channels, height, width = x.shape
    quarter = channels // 4
    if x.is_contiguous(memory_format=torch.channels_last):
        # Shuffling in the order of memory keeps the format; a copy in (N, C, H, W) costs a tenth of a block.
        pairs = x.permute(0, 2, 3, 1).reshape(n, height, width, 2, channels // 2).transpose(3, 4)
        halves = (pairs[..., :quarter, :], pairs[..., quarter:, :])
        kept, processed = (half.reshape(n, height, width, channels // 2).permute(0, 3, 1, 2) for half in halves)
        return kept, processed
    pairs = x.reshape(n, 2, channels // 2, height, width).transpose(1, 2)
    kept, processed = (half.reshape(n, channels // 2, height, width) for half in torch.split(pairs, quarter, dim=1))
    return kept, processed


def split_even_odd(x: Tensor) -> tuple[Tensor, Tensor]:
    """Even channels pass, odd channels are processed: (N, C, H, W) -> two of (N, C/2, H, W)."""
    return x[:, 0::2], x[:, 1::2]


CHANNEL_SPLITS: Mapping[str, ChannelSplit] = {"shuffle": split_shuffle, "even_odd": split_even_odd}


def channel_split(name: str) -> ChannelSplit:
    """The split function called `name`."""
    try:
        return CHANNEL_SPLITS[name]
    except KeyError:
        raise UnknownNameError(f"channel split '{name}' is unknown; use one of {', '.join(CHANNEL_SPLITS)}") from None

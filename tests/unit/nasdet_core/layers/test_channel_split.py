"""Which channels a stride-1 block keeps and which it processes (numbers as in DetNAS's public code)."""

from __future__ import annotations

import pytest
import torch

from nasdet_core.errors import UnknownNameError
from nasdet_core.layers.channel_split import channel_split


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize(
    ("name", "kept", "processed"),
    [("shuffle", [0, 4, 1, 5], [2, 6, 3, 7]), ("even_odd", [0, 2, 4, 6], [1, 3, 5, 7])],
)
def test_split_takes_the_channels_of_its_method(
    name: str, kept: list[int], processed: list[int], memory_format: torch.memory_format
) -> None:
    channels = torch.arange(8.0).reshape(1, 8, 1, 1).expand(2, 8, 3, 5).contiguous(memory_format=memory_format)
    halves = channel_split(name)(channels)
    for half, expected in zip(halves, (kept, processed), strict=True):
        assert half.shape == (2, 4, 3, 5)
        assert half[1, :, 2, 4].tolist() == expected


def test_unknown_split_is_refused_by_name() -> None:
    with pytest.raises(UnknownNameError, match="'halves' is unknown; use one of shuffle, even_odd"):
        channel_split("halves")

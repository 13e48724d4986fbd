"""MACs of a real forward pass, counted by hooks on convolutions and linear layers.

One multiply-accumulate is one MAC; biases, norms, activations and pooling count nothing, as in DetNAS's search.
The closed forms of the search spaces are tested against this. Works on the "meta" device too.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def count_macs_by_hooks(module: nn.Module, *inputs: Any) -> int:
    """MACs of `module(*inputs)` for the whole batch that is handed in."""
    return count_macs_of_call(module, lambda: module(*inputs))


def count_macs_of_call(module: nn.Module, call: Callable[[], Any]) -> int:
    """MACs that the convolutions and linear layers of `module` do while `call` runs."""
    total = 0

    def add(layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        total += output.numel() * _macs_per_output(layer)

    handles = [
        layer.register_forward_hook(add) for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    try:
        with torch.no_grad():
            call()
    finally:
        for handle in handles:
            handle.remove()
    return total


def count_parameters(module: nn.Module) -> int:
    """Elements of all parameters; buffers (BN statistics) are not parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def _macs_per_output(layer: nn.Module) -> int:
    if isinstance(layer, nn.Conv2d):
        height, width = layer.kernel_size
        return layer.in_channels // layer.groups * height * width
    if isinstance(layer, nn.Linear):
        return layer.in_features
    raise TypeError(f"MACs are counted for Conv2d and Linear, not for {type(layer).__name__}")

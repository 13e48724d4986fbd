"""BN recalibration: the step that everyone forgets, as one visible function."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nasdet_core.errors import RecalibrationError
from nasdet_core.supernet.recipe import LARGEST_REST, MIN_EXPONENTIAL_BATCHES, enough_for_exponential


@torch.no_grad()
def recalibrate_batch_norm(
    model: nn.Module,
    batches: Iterable[Tensor],
    *,
    average: str = "exact",
    momentum: float = 0.1,
    forward: Callable[[Tensor], Any] | None = None,
) -> int:
    """Estimate the BN statistics of `model` anew from `batches` of images [N, 3, H, W]; return how many
    batches.

    A subnet inherits weights but no statistics of its own: those of the supernet blend all paths, and ranking
    candidates with them is meaningless (Guo et al. 2019, arXiv:1904.00420). Every BN layer normalises each
    batch by that batch, as in training.

    * `exact`: mean and (unbiased) variance over all values that a layer saw in all batches, however they were
      cut.
    * `exponential`: from 0 and 1 with `momentum`, as DetNAS. Over few batches the reset values stay in it and
      multiply from layer to layer (16 batches of momentum 0.1: AP 0.40 becomes 0.03), so that is refused.

    `forward` runs the part that holds the BN layers (default: the whole model). Only BN buffers change: the
    mode and momentum of every layer are put back.
    """
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if not layers:
        return 0
    modes = [(module, module.training) for module in model.modules()]
    momenta = [layer.momentum for layer in layers]
    pooled = {layer: _PooledMoments() for layer in layers}
    handles = [layer.register_forward_pre_hook(_note_size(pooled[layer])) for layer in layers]
    run = model if forward is None else forward
    count = 0
    try:
        model.train()
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = 1.0 if average == "exact" else momentum  # 1.0: the buffers hold the last batch
        for images in batches:
            run(images)
            count += 1
            if average == "exact":
                for moments, layer in ((pooled[layer], layer) for layer in layers):
                    moments.add(layer)
        _check_enough(count, average, momentum)
        _check_all_seen(model, pooled)
        if average == "exact":
            for layer in layers:
                pooled[layer].write(layer)
    finally:
        for handle in handles:
            handle.remove()
        for layer, old in zip(layers, momenta, strict=True):
            layer.momentum = old
        for module, mode in modes:
            module.training = mode
    return count


class _PooledMoments:
    """Mean and squared deviations over all batches so far, combined as in Chan, Golub and LeVeque (1979)."""

    def __init__(self) -> None:
        self.size = 0  # values per channel in the batch that runs now
        self.total = 0
        self.mean: Tensor | float = 0.0  # [C], float64
        self.deviations: Tensor | float = 0.0  # [C], float64

    def add(self, layer: _BatchNorm) -> None:
        if self.size == 0:
            return
        if layer.running_mean is None or layer.running_var is None:
            raise RecalibrationError("a BN layer keeps no running statistics; build it with track_running_stats")
        new_total = self.total + self.size
        delta = layer.running_mean.double() - self.mean
        self.mean = self.mean + delta * (self.size / new_total)
        # running_var is the unbiased variance of the batch, or nan for a single value
        inside = layer.running_var.double() * (self.size - 1) if self.size > 1 else 0.0
        self.deviations = self.deviations + inside + delta.square() * (self.total * self.size / new_total)
        self.total, self.size = new_total, 0

    def write(self, layer: _BatchNorm) -> None:
        layer.running_mean.copy_(self.mean)  # type: ignore[union-attr,arg-type]  # `add` has checked and filled both
        layer.running_var.copy_(self.deviations / max(self.total - 1, 1))  # type: ignore[union-attr,arg-type]  # likewise


def _note_size(moments: _PooledMoments) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def hook(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        moments.size = inputs[0].numel() // inputs[0].shape[1]

    return hook


def _check_enough(count: int, average: str, momentum: float) -> None:
    if count == 0:
        raise RecalibrationError("BN recalibration expected at least one batch of images, got none")
    if average == "exponential" and not enough_for_exponential(count, momentum):
        raise RecalibrationError(
            f"BN recalibration with an exponential average needs at least {MIN_EXPONENTIAL_BATCHES} batches and at "
            f"most {LARGEST_REST:.0%} of the reset values left, got {count} batches with momentum {momentum:g} "
            f"({(1 - momentum) ** count:.0%} left); use more images or average: exact"
        )


def _check_all_seen(model: nn.Module, pooled: dict[_BatchNorm, _PooledMoments]) -> None:
    unseen = [name for name, layer in model.named_modules() if layer in pooled and not layer.num_batches_tracked]
    if unseen:
        raise RecalibrationError(
            f"BN recalibration did not reach {len(unseen)} BN layers, first {unseen[0]!r}: their statistics would "
            f"stay at 0 and 1; pass a stand-alone subnet and a forward that runs all of it"
        )

"""The optimiser of a recipe."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from nasdet_core.supernet.recipe import TrainingRecipe


def build_optimizer(model: nn.Module, recipe: TrainingRecipe) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) or SGD; biases form a group of their own.

    Both skip every parameter without a gradient, which keeps the paths that a step does not use exactly as they are.
    (SGD tensor by tensor: its fused form cannot take tensors of which only some have momentum yet.)
    """
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    biases = [parameter for name, parameter in named if name.endswith("bias")]
    others = [parameter for name, parameter in named if not name.endswith("bias")]
    groups: list[dict[str, Any]] = [
        {"params": others, "rate_factor": 1.0},
        {
            "params": biases,
            "rate_factor": recipe.bias_learning_rate_factor,
            **({} if recipe.decay_biases else {"weight_decay": 0.0}),
        },
    ]
    groups = [group for group in groups if group["params"]]
    rate, decay = recipe.learning_rate, recipe.weight_decay
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=recipe.momentum, weight_decay=decay, foreach=False)
    return torch.optim.AdamW(groups, lr=rate, betas=(recipe.momentum, 0.999), weight_decay=decay, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its rate for the coming step."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate_factor"]

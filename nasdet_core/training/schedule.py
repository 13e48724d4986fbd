"""Learning-rate schedules as pure functions of the step, so that a resumed run needs no scheduler state."""

from __future__ import annotations

import math

from nasdet_core.supernet.recipe import TrainingRecipe

_LAST_SHARE = 1e-5  # a one-cycle schedule ends at this share of its peak


def learning_rate_share(recipe: TrainingRecipe, step: int, steps: int) -> float:
    """The rate at `step` of `steps` (0-based) as a share of the recipe's peak.

    During the warm-up the rate rises from `warmup_start`: along a half cosine for one-cycle (Smith and Topin
    2018, arXiv:1708.07120), linearly for all others. After it, each schedule falls in its own way.
    """
    warmup_steps = recipe.warmup * steps
    if step < warmup_steps:
        rise = step / warmup_steps
        if recipe.schedule == "one_cycle":
            rise = (1 - math.cos(math.pi * rise)) / 2
        return recipe.warmup_start + (1 - recipe.warmup_start) * rise
    if recipe.schedule == "step":
        return 0.1 ** sum(step >= milestone * steps for milestone in recipe.milestones)
    last = max(steps - 1, 1)
    progress = min((step - warmup_steps) / max(last - warmup_steps, 1), 1.0)
    if recipe.schedule == "linear":
        return 1 - progress
    floor = _LAST_SHARE if recipe.schedule == "one_cycle" else 0.0
    return floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2

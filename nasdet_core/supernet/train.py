"""Supernet training: single-path sampling over shared weights, with a warm start.

One-shot training after Guo et al. 2019 (arXiv:1904.00420) and DetNAS (arXiv:1903.10979), with two corrections
to the public DetNAS code: batch-norm weights are trained, and choices that a step does not use are not moved
by weight decay or momentum. A *fixed* space is a supernet of one path and goes through the same function:
that is how a baseline gets the supernet's share of a winner's training budget.
"""

from __future__ import annotations

from pathlib import Path

import torch

from nasdet_core.detectors.detector import build_detector
from nasdet_core.search_spaces.base import Genotype
from nasdet_core.search_spaces.detector_space import DetectorSpace
from nasdet_core.supernet.path_sampling import UniformPathSampler
from nasdet_core.supernet.recipe import SupernetRecipe
from nasdet_core.supernet.warm_start import copy_path_to_all_choices, warm_path
from nasdet_core.training.determinism import derive_seed
from nasdet_core.training.loop import Hooks, TrainData, TrainResult, run_training

NO_HOOKS = Hooks()


def train_supernet(
    *,
    space: DetectorSpace,
    data: TrainData,
    recipe: SupernetRecipe,
    seed: int,
    device: str | torch.device = "cpu",
    resume: bytes | Path | None = None,
    hooks: Hooks = NO_HOOKS,
) -> TrainResult:
    """Train the supernet of `space` (or, when the space is fixed, its one network) from its initialisation.

    Raises NonFiniteLossError with the losses of the step, CheckpointError when `resume` belongs to another
    run.
    """
    searched = bool(space.blocks)
    model = build_detector(space, elastic=searched, init=recipe.init, seed=derive_seed(seed, "initial weights"))
    sampler = UniformPathSampler(space, seed)
    warm_steps = round(recipe.warm_start * recipe.total_steps(data.steps_per_epoch)) if searched else 0
    first_path = warm_path(space) if warm_steps else None

    def path(step: int) -> Genotype | None:
        if not searched:
            return None
        return first_path if step < warm_steps else sampler.path(step)

    def before_step(step: int) -> None:
        if first_path is not None and step == warm_steps:
            copy_path_to_all_choices(model.backbone, space.split(first_path)["backbone"])

    return run_training(
        model, data=data, recipe=recipe, seed=seed, device=device, path=path, before_step=before_step,
        run={"purpose": "supernet", "space": space.to_description()}, resume=resume, hooks=hooks,
    )  # fmt: skip

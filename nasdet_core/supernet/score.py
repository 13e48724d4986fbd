"""Scoring one candidate of a search: cut it out, recalibrate its batch norms, measure its AP.

The supernet is only read: a score hangs neither on who was scored before nor on who is scored beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nasdet_core.data.batches import Batch, sample_batches
from nasdet_core.data.cache import ResidentImages
from nasdet_core.detectors.detector import Detector
from nasdet_core.evaluation.coco_map import CocoEvaluator
from nasdet_core.search_spaces.base import Genotype
from nasdet_core.supernet.batch_norm import recalibrate_batch_norm
from nasdet_core.supernet.extraction import extract
from nasdet_core.supernet.recipe import EvaluationRecipe, RecalibrationRecipe
from nasdet_core.training.evaluate import DetectorScore, evaluate_detector
from nasdet_core.training.placement import place

RECALIBRATION_SEED = 0  # the same images for every candidate of every search on a dataset version


def recalibration_images(cache: ResidentImages, recipe: RecalibrationRecipe, *, pixel_format: str) -> list[Tensor]:
    """Batches of training images for BN recalibration: a fixed choice, in a fixed order, without augmentation."""
    batches = sample_batches(
        cache, recipe.images, recipe.batch_size, seed=RECALIBRATION_SEED, pixel_format=pixel_format
    )
    return [batch.images for batch in batches]


def score_candidate(
    *,
    supernet: Detector,
    genotype: Genotype,
    recalibration: Iterable[Tensor],
    batches: Iterable[Batch],
    evaluator: CocoEvaluator,
    recipe: EvaluationRecipe,
    device: str | torch.device = "cpu",
    tick: Callable[[], None] | None = None,
) -> DetectorScore:
    """AP of one path of a supernet with statistics of its own. `tick` is called after every batch."""
    started = time.monotonic()
    subnet = extract(supernet, genotype)  # a copy
    recalibrate_detector(subnet, recalibration, recipe.recalibration, device=device, tick=tick)
    seconds = time.monotonic() - started
    score = evaluate_detector(subnet, batches=batches, evaluator=evaluator, device=device, tick=tick)
    return replace(score, seconds={"recalibration": seconds, **score.seconds})


def recalibrate_detector(
    model: Detector,
    images: Iterable[Tensor],
    recipe: RecalibrationRecipe,
    *,
    device: str | torch.device = "cpu",
    tick: Callable[[], None] | None = None,
) -> None:
    """Recalibrate the BN layers of backbone and neck; the head runs only when it has some, too."""
    forward = model if _has_batch_norm(model.head) else model.features
    place(model, device)

    def moved() -> Iterable[Tensor]:
        for batch in images:
            yield batch.to(device=device, memory_format=torch.channels_last)
            if tick is not None:
                tick()

    recalibrate_batch_norm(model, moved(), average=recipe.average, momentum=recipe.momentum, forward=forward)


def _has_batch_norm(module: nn.Module) -> bool:
    return any(isinstance(layer, _BatchNorm) for layer in module.modules())


def subnet_weights(supernet: Detector, genotype: Genotype) -> dict[str, Tensor]:
    """Copies of the tensors of one path (of a fixed detector: of all), named as in the stand-alone network."""
    return {name: tensor.detach().clone() for name, tensor in supernet.subnet_state_dict(genotype).items()}

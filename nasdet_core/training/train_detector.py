"""Training of one stand-alone detector: finalists, baselines and the random control."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from nasdet_core.detectors.detector import Detector, build_detector
from nasdet_core.errors import CheckpointError, IncompatiblePartsError
from nasdet_core.search_spaces.detector_space import DetectorSpace
from nasdet_core.supernet.recipe import RecalibrationRecipe, TrainingRecipe
from nasdet_core.supernet.score import recalibrate_detector
from nasdet_core.training.determinism import derive_seed
from nasdet_core.training.loop import Hooks, TrainData, TrainResult, run_training
from nasdet_core.training.tensor_file import pack_tensors, sha256

NO_HOOKS = Hooks()


def train_detector(
    *,
    space: DetectorSpace,
    start: Mapping[str, Tensor] | None,
    data: TrainData,
    recipe: TrainingRecipe,
    seed: int,
    recalibration: Iterable[Tensor] = (),
    device: str | torch.device = "cpu",
    resume: bytes | Path | None = None,
    hooks: Hooks = NO_HOOKS,
) -> TrainResult:
    """Train the detector of a fixed space, from `start` (a state dict) or from its initialisation.

    Weights cut out of a supernet bring no statistics of their own, so their BN layers are recalibrated on
    `recalibration` (batches of images) before the first step. From there on the network keeps running
    statistics as any other and is evaluated with these. Such a network has to keep the supernet's channel
    split ("shuffle").
    """
    if space.blocks:
        raise IncompatiblePartsError(
            f"a detector to be trained has no choices left, but this space has {len(space.blocks)} searched blocks; "
            f"fix them with space.fixed(genotype)"
        )
    model = build_detector(space, elastic=False, init=recipe.init, seed=derive_seed(seed, "initial weights"))
    if start is not None:
        _load_start(model, start)
        if resume is None:
            recalibrate_detector(model, recalibration, RecalibrationRecipe(), device=device)
    return run_training(
        model, data=data, recipe=recipe, seed=seed, device=device, path=_no_path, before_step=_nothing,
        run={"purpose": "detector", "space": space.to_description(), "start": _digest(start)},
        resume=resume, hooks=hooks,
    )  # fmt: skip


def _load_start(model: Detector, start: Mapping[str, Tensor]) -> None:
    try:
        model.load_state_dict(start, strict=True)
    except RuntimeError as error:
        raise CheckpointError(f"the starting weights do not fit the detector: {error}") from error


def _digest(start: Mapping[str, Tensor] | None) -> str | None:
    return None if start is None else sha256(pack_tensors(start, {}))


def _no_path(_step: int) -> None:
    return None


def _nothing(_step: int) -> None:
    return None

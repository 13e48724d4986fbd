"""The training loop: supernets, finalists and baselines all go through `run_training`.

A step is a pure function of (state, seed, step): the batch, the path and every random number in it are
derived, never carried over. So a run that is interrupted at any step and resumed from its last checkpoint
ends bit for bit the same.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from nasdet_core.data.batches import Batch
from nasdet_core.detectors.detector import Detector
from nasdet_core.errors import NonFiniteLossError
from nasdet_core.search_spaces.base import Genotype
from nasdet_core.supernet.recipe import TrainingRecipe
from nasdet_core.training.determinism import derive_seed
from nasdet_core.training.optimizer import build_optimizer, set_learning_rate
from nasdet_core.training.placement import place
from nasdet_core.training.schedule import learning_rate_share
from nasdet_core.training.state_file import TrainingState, pack_state, unpack_state

HISTORY_POINTS = 200


class TrainData(Protocol):
    """What the loop needs of a loader: `batch(step)` depends on the loader's seed and the step only."""

    steps_per_epoch: int

    def batch(self, step: int) -> Batch: ...


@dataclass(frozen=True)
class Hooks:
    """What the caller wants to hear while a training runs. An exception raised in a hook ends the
    training."""

    on_progress: Callable[[dict[str, Any]], None] | None = None  # after every step
    on_checkpoint: Callable[[bytes, int], None] | None = None  # (state, steps done)
    checkpoint_seconds: float = 60.0
    checkpoint_steps: int | None = None  # when given, replaces the interval in seconds


@dataclass(frozen=True)
class TrainResult:
    """A trained model and its losses: at most about 200 points, each the mean over its interval of steps."""

    model: Detector
    history: list[dict[str, float]]  # {"step", "loss"}
    steps: int
    seconds: float  # of this process; a resumed run counts from the resume


def run_training(
    model: Detector,
    *,
    data: TrainData,
    recipe: TrainingRecipe,
    seed: int,
    device: str | torch.device,
    path: Callable[[int], Genotype | None],
    before_step: Callable[[int], None],
    run: Mapping[str, Any],
    resume: bytes | Path | None,
    hooks: Hooks,
) -> TrainResult:
    """Train `model` in place for the recipe's number of steps.

    `path(step)` gives the genotype of a step (none for a model without choices); `before_step(step)` may
    change the weights between two steps, as the warm start does. `run` identifies the training inside its
    checkpoints.
    """
    started = time.monotonic()
    steps = recipe.total_steps(data.steps_per_epoch)
    interval = max(1, math.ceil(steps / HISTORY_POINTS))
    place(model, device).train()
    optimizer = build_optimizer(model, recipe)
    state = TrainingState(step=0, run={**run, "recipe": recipe.to_json(), "seed": seed}, history=[], window=[])
    if resume is not None:
        state = unpack_state(resume, model, optimizer, state.run)
    history, window = list(state.history), list(state.window)
    first, saved_at, saved_step = state.step, started, state.step

    for step in range(first, steps):
        before_step(step)
        torch.manual_seed(derive_seed(seed, "step", step))  # some heads sample their training boxes
        rate = recipe.learning_rate * learning_rate_share(recipe, step, steps)
        set_learning_rate(optimizer, rate)
        losses = _losses(model, data.batch(step), path(step), recipe=recipe, device=device)
        total = torch.stack(tuple(losses.values())).sum()
        values = {name: float(loss.detach()) for name, loss in losses.items()}
        if not all(math.isfinite(value) for value in values.values()):
            raise NonFiniteLossError(losses=values, step=step)
        # Gradients of the last step are dropped, not zeroed: what this step's path does not use has none, so
        # neither weight decay nor momentum moves it.
        optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        if recipe.gradient_clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_clip)
        optimizer.step()

        done = step + 1
        window.append(sum(values.values()))
        if done % interval == 0 or done == steps:
            history.append({"step": done, "loss": sum(window) / len(window)})
            window = []
        if hooks.on_progress is not None:
            spent = time.monotonic() - started
            hooks.on_progress(_progress(done, steps, data.steps_per_epoch, values, rate, spent / (done - first)))
        if hooks.on_checkpoint is not None and done < steps:
            now = time.monotonic()
            due = (
                now - saved_at >= hooks.checkpoint_seconds
                if hooks.checkpoint_steps is None
                else done - saved_step >= hooks.checkpoint_steps
            )
            if due:
                state = TrainingState(step=done, run=state.run, history=history, window=window)
                hooks.on_checkpoint(pack_state(state, model, optimizer), done)
                saved_at, saved_step = now, done

    return TrainResult(model=model.eval(), history=history, steps=steps, seconds=time.monotonic() - started)


def _losses(
    model: Detector,
    batch: Batch,
    genotype: Genotype | None,
    *,
    recipe: TrainingRecipe,
    device: str | torch.device,
) -> dict[str, Tensor]:
    """The named losses of one batch on one path, in fp32."""
    images = batch.images.to(device=device, memory_format=torch.channels_last)
    targets = [{key: value.to(device) for key, value in target.items()} for target in batch.targets]
    kind = torch.device(device).type
    with torch.autocast(kind, dtype=torch.bfloat16, enabled=recipe.precision == "bf16"):
        losses: dict[str, Tensor] = model(images, targets, genotype)
    return {name: loss.float() for name, loss in losses.items()}


def _progress(
    done: int,
    steps: int,
    steps_per_epoch: int,
    losses: dict[str, float],
    rate: float,
    seconds_per_step: float,
) -> dict[str, Any]:
    """One report; JSON types only."""
    return {
        "step": done,
        "steps": steps,
        "epoch": done / steps_per_epoch,
        "epochs": steps / steps_per_epoch,
        "loss": sum(losses.values()),
        "losses": losses,
        "learning_rate": rate,
        "seconds_per_step": seconds_per_step,
        "eta_s": seconds_per_step * (steps - done),
    }

"""What the two training jobs share: resuming, checkpoints, progress, and weights as artifacts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nasdet_core.detectors.detector import Detector
from nasdet_core.supernet.checkpoint import SavedDetector, load_detector
from nasdet_core.training.loop import Hooks, TrainResult
from services.worker.checkpoints import CheckpointUploader
from services.worker.context import JobContext
from services.worker.errors import ApiRefusedError, StaleAttemptError

LOG_LINES = 20  # of one training in its log


def resume_state(context: JobContext) -> bytes | None:
    """The state to go on from; without one, or when it is gone, training begins anew."""
    job = context.job
    if job.checkpoint is None:
        return None
    try:
        state = context.get_artifact(job.checkpoint)
    except StaleAttemptError:
        raise
    except ApiRefusedError as error:
        context.log(f"the checkpoint of step {job.checkpoint_step} cannot be read, training begins anew: {error}")
        return None
    context.log(f"goes on after step {job.checkpoint_step}")
    return state


@contextmanager
def training_hooks(context: JobContext, stage: str) -> Iterator[Hooks]:
    """Hooks whose checkpoints are uploaded in the background; on leaving, no upload is under way any more."""

    def on_progress(shown: dict[str, Any]) -> None:
        context.progress(stage=stage, **shown)
        done, steps = shown["step"], shown["steps"]
        if done * LOG_LINES // steps > (done - 1) * LOG_LINES // steps:
            context.log(f"{stage}: step {done} of {steps}, epoch {shown['epoch']:.1f}, loss {shown['loss']:.4f}")

    with CheckpointUploader(context) as uploader:
        yield Hooks(
            on_progress=on_progress,
            on_checkpoint=uploader.offer,
            checkpoint_seconds=context.facts.checkpoint_seconds,
        )


def resident_detector(weights: str, context: JobContext) -> SavedDetector:
    """A supernet or a trained single path, kept between jobs. Never trained or recalibrated in place."""

    def load() -> SavedDetector:
        context.progress(stage="weights")
        return load_detector(context.cached_artifact(weights), device=context.facts.device)

    saved: SavedDetector = context.resident.supernets.get(weights, load)
    context.resident.note(weights)
    return saved


def trained_detector(trained: TrainResult) -> Detector:
    """The model of a training as what both trainings build."""
    if not isinstance(trained.model, Detector):
        raise TypeError(f"expected a training to return a Detector, got {type(trained.model).__name__}")
    return trained.model

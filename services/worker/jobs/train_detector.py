"""train_detector: a finalist, trained to the end and measured on the report split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from nasdet_core.data.input_format import InputFormat
from nasdet_core.errors import CheckpointError
from nasdet_core.search_spaces.detector_space import DetectorSpace
from nasdet_core.supernet.checkpoint import pack_detector
from nasdet_core.supernet.recipe import EvaluationRecipe, FinalRecipe, RecalibrationRecipe, SupernetRecipe
from nasdet_core.supernet.score import subnet_weights
from nasdet_core.training.train_detector import train_detector
from services.worker.context import JobContext
from services.worker.jobs.dataset import load_dataset, recalibration_stream, train_loader
from services.worker.jobs.measure import Protocol, measure, measured_values
from services.worker.jobs.training import resident_detector, resume_state, trained_detector, training_hooks
from services.worker.work import JobOutcome, JobRequest


def run(job: JobRequest, context: JobContext) -> JobOutcome:
    """Trains on split `final`: train, and the search split where that was taken out of train."""
    payload = job.payload
    recipe = FinalRecipe.from_json(payload["recipe"]).training(SupernetRecipe.from_json(payload["supernet_recipe"]))
    version = load_dataset(payload, context)
    space = DetectorSpace.from_description(payload["space"], len(version.class_names))
    seed: int = payload["seed"]
    start: Mapping[str, Any] | None = payload["start"]
    data = train_loader(version, "final", recipe, seed, context)
    recalibration = recalibration_stream(version, "final", recipe, RecalibrationRecipe(), context)
    with training_hooks(context, "finalist") as hooks:
        trained = train_detector(
            space=space,
            start=None if start is None else start_weights(start, context),
            data=data,
            recipe=recipe,
            seed=seed,
            recalibration=(batch.images for batch in recalibration),
            device=context.facts.device,
            resume=resume_state(context),
            hooks=hooks,
        )
    origin = None if start is None else start["weights"]
    model = trained_detector(trained)
    metadata = {
        "dataset_version": version.digest,
        "recipe": recipe.to_json(),
        "seed": seed,
        "started_from": origin,
    }
    input_format = InputFormat(recipe.image_size, recipe.pixel_format)
    weights, _ = pack_detector(model, class_names=version.class_names, input=input_format, metadata=metadata)
    digest = context.put_artifact(weights)
    context.progress(stage="finalist evaluation")
    protocol = Protocol(version, "report", recipe, EvaluationRecipe().batch_size)
    result = measure(model, protocol, context)
    epochs = trained.steps / data.steps_per_epoch
    return JobOutcome(
        "succeeded",
        result={
            "weights": digest,
            "steps": trained.steps,
            "epochs": epochs,
            "losses": trained.history,
            "seconds": trained.seconds,
        },
        measurements=measured_values(
            result, protocol, context, fidelity={"epochs": epochs}, supernet_digest=origin, by_class=True
        ),
    )


def start_weights(start: Mapping[str, Any], context: JobContext) -> Mapping[str, Tensor]:
    """The weights of one path of a supernet, or of a trained single path."""
    saved = resident_detector(start["weights"], context)
    if saved.space.to_description() != start["space"]:
        raise CheckpointError(
            f"weights {start['weights'][:12]} belong to another space than the job says; "
            f"expected {start['space']}, got {saved.space.to_description()}"
        )
    return subnet_weights(saved.model, tuple(start["genotype"]))

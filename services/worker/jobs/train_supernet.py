"""train_supernet: the weights that all candidates share, or a baseline's single path under the same recipe."""

from __future__ import annotations

from nasdet_core.data.input_format import InputFormat
from nasdet_core.search_spaces.detector_space import DetectorSpace
from nasdet_core.supernet.checkpoint import pack_detector
from nasdet_core.supernet.recipe import EvaluationRecipe, SupernetRecipe
from nasdet_core.supernet.train import train_supernet
from services.worker.context import JobContext
from services.worker.jobs.dataset import load_dataset, train_loader
from services.worker.jobs.measure import Protocol, measure, measured_values
from services.worker.jobs.training import resume_state, trained_detector, training_hooks
from services.worker.work import JobOutcome, JobRequest, MeasuredValue


def run(job: JobRequest, context: JobContext) -> JobOutcome:
    payload = job.payload
    recipe = SupernetRecipe.from_json(payload["supernet_recipe"])
    version = load_dataset(payload, context)
    space = DetectorSpace.from_description(payload["space"], len(version.class_names))
    seed: int = payload["seed"]
    data = train_loader(version, "train", recipe, seed, context)
    with training_hooks(context, payload["role"]) as hooks:
        trained = train_supernet(
            space=space,
            data=data,
            recipe=recipe,
            seed=seed,
            device=context.facts.device,
            resume=resume_state(context),
            hooks=hooks,
        )
    model = trained_detector(trained)
    metadata = {"dataset_version": version.digest, "recipe": recipe.to_json(), "seed": seed}
    input_format = InputFormat(recipe.image_size, recipe.pixel_format)
    weights, _ = pack_detector(model, class_names=version.class_names, input=input_format, metadata=metadata)
    digest = context.put_artifact(weights)
    measurements: tuple[MeasuredValue, ...] = ()
    if not space.blocks:  # one path is a detector: its AP is shown beside the supernet's
        context.progress(stage=f"{payload['role']} evaluation")
        protocol = Protocol(version, "search", recipe, EvaluationRecipe().batch_size)
        result = measure(model, protocol, context)
        measurements = measured_values(result, protocol, context, supernet_digest=digest)
    return JobOutcome(
        "succeeded",
        result={
            "weights": digest,
            "steps": trained.steps,
            "epochs": trained.steps / data.steps_per_epoch,
            "losses": trained.history,
            "seconds": trained.seconds,
        },
        measurements=measurements,
    )

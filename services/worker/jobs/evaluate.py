"""evaluate: candidates scored with the weights of a supernet."""

from __future__ import annotations

from nasdet_core.errors import CheckpointError
from nasdet_core.supernet.recipe import EvaluationRecipe, SupernetRecipe
from nasdet_core.supernet.score import score_candidate
from services.worker.context import JobContext
from services.worker.jobs.dataset import load_dataset, recalibration_stream
from services.worker.jobs.measure import Protocol, defined, measured_values
from services.worker.jobs.training import resident_detector
from services.worker.jobs.trials import Scorer, score_trials
from services.worker.work import JobOutcome, JobRequest, TrialOutcome, TrialRequest


def run(job: JobRequest, context: JobContext) -> JobOutcome:
    return score_trials(job, context, build_scorer(job, context))


def build_scorer(job: JobRequest, context: JobContext) -> Scorer:
    """A function of the candidate alone: each is cut out of the supernet, which is never changed."""
    payload = job.payload
    recipe = SupernetRecipe.from_json(payload["supernet_recipe"])
    evaluation = EvaluationRecipe.from_json(payload["evaluation"])
    version = load_dataset(payload, context)
    weights: str = payload["supernet_weights"]
    supernet = resident_detector(weights, context)
    if supernet.space.to_description() != payload["space"]:
        raise CheckpointError(
            f"supernet {weights[:12]} belongs to another space than the job says; "
            f"expected {payload['space']}, got {supernet.space.to_description()}"
        )
    protocol = Protocol(version, "search", recipe, evaluation.batch_size, evaluation.recalibration.to_json())
    recalibration = recalibration_stream(version, "train", recipe, evaluation.recalibration, context)
    batches, evaluator = protocol.batches(context), protocol.evaluator(context)

    def score(trial: TrialRequest) -> TrialOutcome:
        scored = score_candidate(
            supernet=supernet.model,
            genotype=trial.genotype,
            recalibration=(batch.images for batch in recalibration),
            batches=batches,
            evaluator=evaluator,
            recipe=evaluation,
            device=context.facts.device,
            tick=context.tick,
        )
        return TrialOutcome(
            "succeeded",
            value=defined(scored, protocol).box_map,
            measurements=measured_values(scored, protocol, context, supernet_digest=weights),
            seconds=scored.seconds,
        )

    return score

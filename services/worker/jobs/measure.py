"""AP of a detector on one split of a dataset version, as measurement rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nasdet_core.detectors.detector import Detector
from nasdet_core.errors import NasDetError
from nasdet_core.evaluation.coco_map import CocoEvaluator
from nasdet_core.supernet.recipe import TrainingRecipe
from nasdet_core.training.evaluate import DetectorScore, evaluate_detector
from services.worker.context import JobContext
from services.worker.jobs.dataset import BatchStream, DatasetVersion, eval_stream
from services.worker.protocol import protocol_hash
from services.worker.work import MeasuredValue

PRECISION = "fp32"  # of every evaluation, whatever a network was trained in
LONGEST_METRIC = 60


class UndefinedScoreError(NasDetError):
    """An AP that is not a number cannot be compared with anything."""


@dataclass(frozen=True)
class Protocol:
    """How a detector is measured, besides its weights."""

    version: DatasetVersion
    role: str  # search or report
    recipe: TrainingRecipe  # image size and pixel format are those of its training
    batch_size: int
    recalibration: Mapping[str, Any] | None = None

    @property
    def split(self) -> str:
        return self.version.split_name(self.role)

    def hash(self) -> str:
        return protocol_hash(
            dataset_version=self.version.digest,
            split=self.split,
            image_size=self.recipe.image_size,
            pixel_format=self.recipe.pixel_format,
            precision=PRECISION,
            batch_size=self.batch_size,
            recalibration=self.recalibration,
        )

    def batches(self, context: JobContext) -> BatchStream:
        return eval_stream(self.version, self.role, self.recipe, self.batch_size, context)

    def evaluator(self, context: JobContext) -> CocoEvaluator:
        """The ground truth of the split, prepared once and kept between jobs."""
        version, role = self.version, self.role

        def load() -> CocoEvaluator:
            return CocoEvaluator(version.records(role), version.class_names, version.manifest.category_ids)

        prepared: CocoEvaluator = context.resident.evaluators.get((version.digest, role), load)
        return prepared


def measure(detector: Detector, protocol: Protocol, context: JobContext) -> DetectorScore:
    """Score a trained detector with the BN statistics of its own training."""
    score = evaluate_detector(
        detector,
        batches=protocol.batches(context),
        evaluator=protocol.evaluator(context),
        device=context.facts.device,
        tick=context.tick,
    )
    return defined(score, protocol)


def defined(score: DetectorScore, protocol: Protocol) -> DetectorScore:
    """The score, if it is a number."""
    if not math.isfinite(score.box_map):
        raise UndefinedScoreError(f"the AP on split {protocol.split!r} is not a number: it holds no object to find")
    return score


def measured_values(
    score: DetectorScore,
    protocol: Protocol,
    context: JobContext,
    *,
    fidelity: Mapping[str, Any] | None = None,
    supernet_digest: str | None = None,
    by_class: bool = False,
) -> tuple[MeasuredValue, ...]:
    """box_map with its error, box_ap50, and AP by class where asked for; what is undefined is left out."""
    digest = protocol.hash()

    def row(metric: str, value: float, **errors: Any) -> MeasuredValue:
        return MeasuredValue(
            metric=metric,
            split=protocol.split,
            value=value,
            protocol_hash=digest,
            fidelity={"images": score.images, **(fidelity or {})},
            device_class=context.facts.device,
            supernet_digest=supernet_digest,
            **errors,
        )

    rows = [
        row("box_map", score.box_map, standard_error=score.standard_error, jackknife=tuple(score.jackknife)),
        row("box_ap50", score.box_ap50),
    ]
    if by_class:
        scored = {name: value for name, value in score.per_class.items() if value is not None}
        rows += [row(f"box_map/{name}"[:LONGEST_METRIC], value) for name, value in scored.items()]
    return tuple(rows)

"""Detections of a model on a split, and their COCO AP."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch

from nasdet_core.data.batches import Batch
from nasdet_core.detectors.detector import Detector
from nasdet_core.errors import DatasetError
from nasdet_core.evaluation.coco_map import CocoEvaluator, Detections
from nasdet_core.training.placement import place


@dataclass(frozen=True)
class DetectorScore:
    """COCO AP of one detector on one split, 0..1."""

    box_map: float
    box_ap50: float
    standard_error: float  # of box_map, from the jackknife: how far the choice of images moves it
    jackknife: tuple[float, ...]  # box_map without each group of images, for paired comparisons
    per_class: Mapping[str, float | None]
    images: int
    seconds: Mapping[str, float] = field(default_factory=dict)  # "inference", "matching" (and "recalibration")


def evaluate_detector(
    model: Detector,
    *,
    batches: Iterable[Batch],
    evaluator: CocoEvaluator,
    device: str | torch.device = "cpu",
    tick: Callable[[], None] | None = None,
) -> DetectorScore:
    """Score `model` as it is, with its own BN statistics. `batches` hold each of the evaluator's images once.

    `tick` is called after every batch, so that a caller sees life.
    """
    started = time.monotonic()
    found = detect(model, batches=batches, device=device, tick=tick)
    detected = time.monotonic()
    missing = [record.file for record in evaluator.records if record.file not in found]
    if missing or len(found) != len(evaluator.records):
        first = missing[0] if missing else "a picture that the evaluator does not know"
        raise DatasetError(
            f"expected detections on the {len(evaluator.records)} pictures of the evaluator, got {len(found)}, "
            f"without {first}; make batches and evaluator from one split"
        )
    result = evaluator.evaluate([found[record.file] for record in evaluator.records])
    return DetectorScore(
        box_map=result.box_map,
        box_ap50=result.box_ap50,
        standard_error=result.standard_error,
        jackknife=result.jackknife,
        per_class=result.per_class,
        images=result.images,
        seconds={"inference": detected - started, "matching": time.monotonic() - detected},
    )


@torch.inference_mode()
def detect(
    model: Detector,
    *,
    batches: Iterable[Batch],
    device: str | torch.device = "cpu",
    tick: Callable[[], None] | None = None,
) -> dict[str, Detections]:
    """File of the picture -> (boxes_xyxy in pixels of the original, scores, labels)."""
    place(model, device).eval()
    found: dict[str, Detections] = {}
    for batch in batches:
        images = batch.images.to(device=device, memory_format=torch.channels_last)
        outputs = model(images)
        for index, (record, output) in enumerate(zip(batch.records, outputs, strict=True)):
            boxes = batch.to_original(index, output["boxes"])
            found[record.file] = (boxes.numpy(), output["scores"].cpu().numpy(), output["labels"].cpu().numpy())
        if tick is not None:
            tick()
    return found

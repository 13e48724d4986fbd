"""The smallest data and space on which training, scoring and resuming can be tested for real."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nasdet_core.data.batches import Batch, TrainLoader, eval_batches
from nasdet_core.data.cache import ResidentImages
from nasdet_core.data.in_memory import Annotation, ImageRecord
from nasdet_core.evaluation.coco_map import CocoEvaluator
from nasdet_core.search_spaces.detector_space import DetectorSpace
from nasdet_core.supernet.recipe import RecalibrationRecipe, SupernetRecipe
from nasdet_core.supernet.score import recalibration_images

CLASS_NAMES = ("bright", "dark")
IMAGE_SIZE = (64, 64)
RECIPE = SupernetRecipe(steps=6, image_size=IMAGE_SIZE, batch_size=2, warm_start=0.5, learning_rate=1e-3)


def tiny_space(**backbone: Any) -> DetectorSpace:
    return DetectorSpace.from_description(
        {
            "backbone": {"space": "detnas-300m", "width": 0.25, **backbone},
            "neck": {"model": "fpn", "channels": 16, "extra_levels": 0},
            "head": {"model": "fcos", "convs": 1, "norm_groups": 4, "score_threshold": 0.0},
        },
        len(CLASS_NAMES),
    )


def _write_record(root: Path, number: int) -> ImageRecord:
    """One bright and one dark rectangle on grey noise."""
    rng = np.random.default_rng(number)
    pixels = rng.integers(100, 156, (64, 64, 3), dtype=np.uint8)
    boxes = []
    for value in (250, 5):
        left, top = rng.integers(0, 32, 2)
        width, height = rng.integers(16, 32, 2)
        pixels[top : top + height, left : left + width] = value
        boxes.append((left, top, left + width, top + height))
    Image.fromarray(pixels).save(root / f"{number}.png")
    xyxy = np.array(boxes, dtype=np.float32)
    none = np.zeros(2, dtype=bool)
    areas = ((xyxy[:, 2] - xyxy[:, 0]) * (xyxy[:, 3] - xyxy[:, 1])).astype(np.float64)
    return ImageRecord(f"{number}.png", 64, 64, Annotation(xyxy, np.array([0, 1]), none, none, areas))


@dataclass(frozen=True)
class TinyData:
    """A dozen pictures; the same ones train and judge."""

    cache: ResidentImages
    evaluator: CocoEvaluator

    @classmethod
    def write(cls, root: Path, images: int = 12) -> TinyData:
        records = tuple(_write_record(root, number) for number in range(images))
        return cls(ResidentImages(root, records, IMAGE_SIZE), CocoEvaluator(records, CLASS_NAMES))

    def loader(self, seed: int = 0) -> TrainLoader:
        return TrainLoader(self.cache, RECIPE.batch_size, seed)

    def batches(self) -> list[Batch]:
        return list(eval_batches(self.cache, 4))

    def recalibration(self) -> list[Any]:
        return recalibration_images(
            self.cache, RecalibrationRecipe(images=8, batch_size=4), pixel_format="rgb_normalized"
        )

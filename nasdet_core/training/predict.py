"""Detections on pictures that belong to no dataset, made as an evaluation makes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from nasdet_core.data.batches import eval_batches
from nasdet_core.data.cache import ResidentImages
from nasdet_core.data.in_memory import Annotation, ImageRecord
from nasdet_core.data.pictures import PictureError, decode, read_bytes
from nasdet_core.errors import GenotypeError
from nasdet_core.supernet.checkpoint import SavedDetector
from nasdet_core.training.evaluate import detect


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a detector found on one picture, best first; all arrays have one row per detection."""

    path: Path
    picture: Image.Image  # upright, RGB
    boxes_xyxy: npt.NDArray[np.float64]  # [n, 4] pixels of `picture`, inside it
    scores: npt.NDArray[np.float32]  # [n] 0..1
    labels: npt.NDArray[np.int64]  # [n] index into the detector's class_names


def predict_pictures(
    saved: SavedDetector, paths: Iterable[Path], *, min_score: float = 0.0, device: str | torch.device = "cpu"
) -> Iterator[Prediction | PictureError]:
    """One prediction per path, in order; the error in its place where a picture cannot be read.

    Size and pixel format are those the detector was trained on. Only detections of `min_score` (0..1) or more are
    handed on; the head reports none below its own score_threshold. Raises GenotypeError for a supernet.
    """
    if saved.space.blocks:
        raise GenotypeError(
            f"a detector with every choice made was expected, but {len(saved.space.blocks)} blocks of this one are "
            "still searched: it is a supernet; take the weights of a finalist"
        )
    for path in paths:
        try:
            yield _predict(saved, path, min_score, device)
        except PictureError as error:
            yield error


def _predict(saved: SavedDetector, path: Path, min_score: float, device: str | torch.device) -> Prediction:
    picture = decode(read_bytes(path.parent, path.name), path.name)
    record = ImageRecord(path.name, picture.width, picture.height, _nothing())
    # Read a second time, so that it goes through the very code that makes an evaluation's batches.
    cache = ResidentImages(path.parent, [record], saved.input.image_size)
    batches = eval_batches(cache, 1, pixel_format=saved.input.pixel_format)
    found = detect(saved.model, batches=batches, device=device)[record.file]
    boxes, scores, labels = (np.asarray(rows) for rows in found)
    kept = np.flatnonzero(scores >= min_score)
    return Prediction(path, picture, boxes[kept], scores[kept], labels[kept])


def _nothing() -> Annotation:
    flags = np.zeros(0, dtype=np.bool_)
    return Annotation(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), flags, flags, np.zeros(0))

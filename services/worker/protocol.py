"""What makes two measurements comparable: the protocol hash. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

# Raised when our code measures the same thing differently: padding, decoding, score threshold, AP itself.
EVALUATOR_VERSION = 1


def protocol_hash(
    *,
    dataset_version: str,
    split: str,
    image_size: Sequence[int],
    pixel_format: str,
    precision: str,
    batch_size: int,
    recalibration: Mapping[str, Any] | None,
) -> str:
    """Hash of everything that a detection AP hangs on besides the weights.

    Pictures are padded to one bucket of `image_size` (and its transpose), so the bucket is part of it. The
    number of threads is not: it moves the last digits only, and an installation uses one number.
    `recalibration` is none where a network keeps the BN statistics of its own training.
    """
    parts = {
        "schema": 1,
        "evaluator": EVALUATOR_VERSION,
        "dataset_version": dataset_version,
        "split": split,
        "image_size": [int(side) for side in image_size],
        "padding": "bucket",
        "pixel_format": pixel_format,
        "precision": precision,
        "batch_size": int(batch_size),
        "recalibration": None if recalibration is None else dict(recalibration),
    }
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()

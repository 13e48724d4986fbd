"""Ground truths and detections as COCO files hold them, and what is said about a pair of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from nasdet_core.evaluation.coco_files import FilePair, match_pair
from nasdet_core.evaluation.coco_json import CocoFileError
from nasdet_core.evaluation.coco_results import check_detections
from nasdet_core.evaluation.coco_truth import check_gt

Json = dict[str, Any]
Change = Callable[[Json], Any]

GAPS = (1, 2, 4, 7, 8, 13, 14, 20)  # category ids as COCO's: from 1, with gaps
SMALLEST, LARGEST = 20, 200  # sides of the boxes


def truth_of(categories: Sequence[int] = GAPS, *, images: int = 12, objects: int = 6, seed: int = 0) -> Json:
    """Boxes all over pictures of 640x480 and 480x640."""
    rng = np.random.default_rng(seed)
    annotations: list[Json] = []
    for image in range(images):
        sides = (640, 480) if image % 2 else (480, 640)
        for _ in range(objects):
            size = rng.integers(SMALLEST, LARGEST, 2)
            corner = [int(rng.integers(0, side - extent)) for side, extent in zip(sides, size, strict=True)]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 100 + image,
                    "category_id": int(rng.choice(categories)),
                    "bbox": [*corner, *size.tolist()],
                    "area": int(size.prod()),
                    "iscrowd": 0,
                }
            )
    return {
        "images": [
            {
                "id": 100 + image,
                "width": 640 if image % 2 else 480,
                "height": 480 if image % 2 else 640,
                "file_name": f"val/{image + 5000:08d}.jpg",
            }
            for image in range(images)
        ],
        "categories": [{"id": category, "name": f"class {category}"} for category in categories],
        "annotations": annotations,
    }


def detections_of(truth: Json, change: Change = lambda _item: {}, *, seed: int = 1) -> list[Json]:
    """A good detector: every object once, a little beside it."""
    rng = np.random.default_rng(seed)
    found = []
    for item in truth["annotations"]:
        box = [round(float(value), 2) for value in np.maximum(item["bbox"] + rng.normal(0, 1.5, 4), (0, 0, 1, 1))]
        detection = {
            "image_id": item["image_id"],
            "category_id": item["category_id"],
            "bbox": box,
            "score": round(float(rng.random()), 3),
        }
        found.append({**detection, **change(detection)})
    return found


def matched(truth: object, results: object) -> FilePair:
    return match_pair(check_gt(truth, "gt.json"), check_detections(results, "dt.json"))


def refusal(kind: type[CocoFileError], truth: object, results: object) -> str:
    """The one sentence of the error."""
    with pytest.raises(CocoFileError) as caught:
        matched(truth, results)
    assert type(caught.value) is kind
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.startswith(("gt.json: ", "dt.json: "))
    return sentence


def corners(box: Sequence[float]) -> list[float]:
    return [box[0], box[1], box[0] + box[2], box[1] + box[3]]

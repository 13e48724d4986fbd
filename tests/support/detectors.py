"""Small detectors and pictures for tests of modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nasdet_core.heads.types import Target
from nasdet_core.search_spaces.detector_space import DetectorSpace

HEADS: dict[str, dict[str, Any]] = {
    "fcos": {"model": "fcos", "convs": 1, "norm_groups": 4},
    "retinanet": {"model": "retinanet", "convs": 1},
    "faster-rcnn": {"model": "faster-rcnn", "proposals": 20},
}


def detector_space(
    head: str = "fcos", *, width: float = 0.25, channels: int = 8, num_classes: int = 3, **backbone: Any
) -> DetectorSpace:
    """detnas-300m, FPN and one of HEADS; the FPN's levels are those the head prefers."""
    description = {
        "backbone": {"space": "detnas-300m", "width": width, **backbone},
        "neck": {"model": "fpn", "channels": channels},
        "head": HEADS[head],
    }
    return DetectorSpace.from_description(description, num_classes=num_classes)


def pictures(count: int = 2, height: int = 96, width: int = 128, *, seed: int = 0) -> Tensor:
    """Noise (count, 3, height, width)."""
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def target(boxes_xyxy: Sequence[Sequence[float]], labels: Sequence[int]) -> Target:
    return Target(
        boxes=torch.tensor(boxes_xyxy, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.int64),
    )


def some_targets(count: int = 2, *, height: int = 96, width: int = 128, seed: int = 0) -> list[Target]:
    """Boxes of 8 to 90 pixels; the second picture has none."""
    generator = torch.Generator().manual_seed(seed)
    targets = []
    for image in range(count):
        boxes = 0 if image == 1 else 2 + image
        corner = torch.rand(boxes, 2, generator=generator) * torch.tensor([width, height]) * 0.6
        size = 8 + torch.rand(boxes, 2, generator=generator) * torch.tensor([width, height]) * 0.35
        labels = torch.randint(0, 3, (boxes,), generator=generator)
        targets.append(Target(boxes=torch.cat((corner, corner + size), dim=1), labels=labels))
    return targets

"""Augmentation of one training picture, on uint8 tensors, by torchvision.transforms.v2."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from nasdet_core.errors import SettingError

MIN_VISIBLE = 0.25
"""A box of which a crop leaves less than this share is no training target any more."""


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What may happen to a training picture. Probabilities for flips, relative ranges for the rest."""

    horizontal_flip: float = 0.5
    vertical_flip: float = 0.0
    scale: tuple[float, float] | None = None  # factor drawn uniformly; larger than the bucket: cropped at random
    brightness: float = 0.0  # factor drawn from 1 - value .. 1 + value; contrast and saturation likewise
    contrast: float = 0.0
    saturation: float = 0.0

    def __post_init__(self) -> None:
        for name in ("horizontal_flip", "vertical_flip", "brightness", "contrast", "saturation"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise SettingError(f"augmentation.{name} must be between 0 and 1, found {value}")
        if self.scale is not None and not 0.1 <= self.scale[0] <= self.scale[1] <= 10:
            raise SettingError(f"augmentation.scale must be (low, high) within 0.1..10, found {self.scale}")

    def __call__(
        self,
        pixels: Tensor,
        boxes_xyxy: Tensor,
        labels: Tensor,
        *,
        bucket: tuple[int, int],
        rng: random.Random,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """uint8 [3, h, w], float32 [n, 4], int64 [n] -> the same; the picture still fits into `bucket`.

        Draws the same number of random values whatever is switched on, so one setting does not shift another.
        """
        draws = [rng.random() for _ in range(8)]
        if self.scale is not None:
            low, high = self.scale
            pixels, boxes_xyxy, kept = _rescale(
                pixels,
                boxes_xyxy,
                bucket=bucket,
                factor=low + (high - low) * draws[2],
                corner=(draws[3], draws[4]),
            )
            labels = labels[kept]
        height, width = pixels.shape[-2:]
        if draws[0] < self.horizontal_flip:
            pixels = F.horizontal_flip(pixels)
            boxes_xyxy = torch.stack(
                [width - boxes_xyxy[:, 2], boxes_xyxy[:, 1], width - boxes_xyxy[:, 0], boxes_xyxy[:, 3]],
                dim=1,
            )
        if draws[1] < self.vertical_flip:
            pixels = F.vertical_flip(pixels)
            boxes_xyxy = torch.stack(
                [boxes_xyxy[:, 0], height - boxes_xyxy[:, 3], boxes_xyxy[:, 2], height - boxes_xyxy[:, 1]],
                dim=1,
            )
        for amount, draw, adjust in (
            (self.brightness, draws[5], F.adjust_brightness),
            (self.contrast, draws[6], F.adjust_contrast),
            (self.saturation, draws[7], F.adjust_saturation),
        ):
            if amount > 0:
                pixels = adjust(pixels, 1 + amount * (2 * draw - 1))
        return pixels, boxes_xyxy, labels


def _rescale(
    pixels: Tensor, boxes_xyxy: Tensor, *, bucket: tuple[int, int], factor: float, corner: tuple[float, float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Resize by `factor`; cut a window out of what is larger than the bucket. Third value: which boxes are
    left."""
    old_h, old_w = pixels.shape[-2:]
    new_h, new_w = max(1, round(old_h * factor)), max(1, round(old_w * factor))
    pixels = F.resize(pixels, [new_h, new_w], antialias=True)
    boxes = boxes_xyxy * torch.tensor([new_w / old_w, new_h / old_h, new_w / old_w, new_h / old_h])
    height, width = min(new_h, bucket[0]), min(new_w, bucket[1])
    top, left = int(corner[0] * (new_h - height + 1)), int(corner[1] * (new_w - width + 1))
    pixels = pixels[:, top : top + height, left : left + width]
    whole = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    boxes = boxes - torch.tensor([left, top, left, top], dtype=boxes.dtype)
    boxes[:, 0::2].clamp_(0, width)
    boxes[:, 1::2].clamp_(0, height)
    visible = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept = (visible > 0) & (visible >= MIN_VISIBLE * whole)
    return pixels, boxes[kept], kept

"""Batches of fixed shapes from resident pictures.

Everything here is a pure function of its arguments: an evaluation batch of the pictures, a training batch
of (seed, step). There is no hidden position, so a training resumes exactly at any step, and batches may be
made ahead in another thread.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nasdet_core.data.augment import Augmentation
from nasdet_core.data.cache import ResidentImages
from nasdet_core.data.in_memory import ImageRecord
from nasdet_core.data.input_format import PIXEL_FORMATS
from nasdet_core.errors import SettingError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, eq=False, slots=True)
class Batch:
    """Pictures of one bucket, padded with zeros after normalisation."""

    images: Tensor  # float32 [N, 3, H, W], channels_last
    targets: list[dict[str, Tensor]]  # boxes: float32 [n, 4] xyxy in pixels of `images`; labels: int64 [n]
    records: tuple[ImageRecord, ...]
    scales: tuple[tuple[float, float], ...]  # (x, y): pixels of `images` per pixel of the original

    def to_original(self, index: int, boxes_xyxy: Tensor) -> Tensor:
        """[n, 4] boxes in the frame of picture `index` -> pixels of the original picture, clipped to it.

        For evaluation batches; a training batch may be flipped or rescaled, which is not undone.
        """
        (x, y), record = self.scales[index], self.records[index]
        boxes = boxes_xyxy.detach().to("cpu", torch.float64) / torch.tensor([x, y, x, y], dtype=torch.float64)
        limit = torch.tensor([record.width, record.height] * 2, dtype=torch.float64)
        return torch.minimum(boxes.clamp_(min=0), limit)


def eval_batches(
    cache: ResidentImages,
    batch_size: int,
    *,
    pixel_format: str = "rgb_normalized",
    indices: Sequence[int] | None = None,
) -> Iterator[Batch]:
    """Every picture (or those of `indices`) once, without augmentation, grouped by bucket in a fixed
    order."""
    _check(batch_size, pixel_format)
    groups: dict[tuple[int, int], list[int]] = {}
    for index in range(len(cache)) if indices is None else indices:
        groups.setdefault(cache.frames[index].bucket, []).append(index)
    for bucket in sorted(groups):
        members = groups[bucket]
        for start in range(0, len(members), batch_size):
            chosen = members[start : start + batch_size]
            samples = [(cache.pixels(index), *cache.target(index)) for index in chosen]
            yield _collate(cache, chosen, samples, bucket=bucket, pixel_format=pixel_format)


def sample_batches(
    cache: ResidentImages, images: int, batch_size: int, *, seed: int, pixel_format: str = "rgb_normalized"
) -> Iterator[Batch]:
    """A fixed random choice of pictures without augmentation, as batch-norm recalibration needs it.

    Takes every picture when there are no more than `images`.
    """
    order = list(range(len(cache)))
    random.Random(f"nasdet-sample:{seed}").shuffle(order)
    return eval_batches(cache, batch_size, pixel_format=pixel_format, indices=order[: max(1, images)])


class TrainLoader:
    """Training batches: `batch(step)` depends on (cache, settings, seed, step) alone.

    Each bucket is an endless sequence of epochs, each a new permutation of its pictures; batches are cut
    from it one after the other, so all have `batch_size` pictures, may run over the end of an epoch, and no
    picture is dropped or preferred. With portrait and landscape pictures the batches of both kinds
    alternate in proportion. `steps_per_epoch` is the number of full batches in the split.
    """

    def __init__(
        self,
        cache: ResidentImages,
        batch_size: int,
        seed: int,
        *,
        augmentation: Augmentation | None = None,
        pixel_format: str = "rgb_normalized",
    ) -> None:
        _check(batch_size, pixel_format)
        self.cache = cache
        self.batch_size = batch_size
        self.seed = seed
        self.augmentation = Augmentation() if augmentation is None else augmentation
        self.pixel_format = pixel_format
        self.steps_per_epoch = max(1, len(cache) // batch_size)
        groups: dict[tuple[int, int], list[int]] = {}
        for index, frame in enumerate(cache.frames):
            groups.setdefault(frame.bucket, []).append(index)
        self._buckets = sorted(groups)
        self._members = [groups[bucket] for bucket in self._buckets]
        self._orders: dict[tuple[int, int], list[int]] = {}  # (bucket, epoch) -> permutation; a memo, not a state

    def batch(self, step: int) -> Batch:
        """The batch of `step` (from 0): the same on every call, in any order of calls."""
        if step < 0:
            raise SettingError(f"a training step counts from 0, found {step}")
        kind, number = self._bucket_of(step)
        members, bucket = self._members[kind], self._buckets[kind]
        chosen, samples = [], []
        for position in range(number * self.batch_size, (number + 1) * self.batch_size):
            epoch, place = divmod(position, len(members))
            index = self._order(kind, epoch)[place]
            rng = random.Random(f"{self.seed}:{epoch}:{index}")
            boxes, labels = self.cache.target(index)
            samples.append(self.augmentation(self.cache.pixels(index), boxes, labels, bucket=bucket, rng=rng))
            chosen.append(index)
        return _collate(self.cache, chosen, samples, bucket=bucket, pixel_format=self.pixel_format)

    def _bucket_of(self, step: int) -> tuple[int, int]:
        """(which bucket, how many batches of it came before): the second bucket is spread evenly over the
        steps."""
        if len(self._buckets) == 1:
            return 0, step
        total, second = len(self.cache), len(self._members[1])
        before = step * second // total
        return (1, before) if (step + 1) * second // total > before else (0, step - before)

    def _order(self, kind: int, epoch: int) -> list[int]:
        order = self._orders.get((kind, epoch))
        if order is None:
            order = list(self._members[kind])
            random.Random(f"{self.seed}:{kind}:{epoch}:order").shuffle(order)
            if len(self._orders) >= 8:
                self._orders.clear()
            self._orders[kind, epoch] = order
        return order


def _collate(
    cache: ResidentImages,
    chosen: Sequence[int],
    samples: Sequence[tuple[Tensor, Tensor, Tensor]],
    *,
    bucket: tuple[int, int],
    pixel_format: str,
) -> Batch:
    images = torch.empty((len(samples), 3, *bucket), memory_format=torch.channels_last).zero_()
    for canvas, (pixels, _boxes, _labels) in zip(images, samples, strict=True):
        canvas[:, : pixels.shape[1], : pixels.shape[2]] = _normalise(pixels, pixel_format)
    return Batch(
        images=images,
        targets=[{"boxes": boxes, "labels": labels} for _pixels, boxes, labels in samples],
        records=tuple(cache.records[index] for index in chosen),
        scales=tuple(cache.frames[index].scale for index in chosen),
    )


def _normalise(pixels: Tensor, pixel_format: str) -> Tensor:
    values = pixels.to(torch.float32)
    if pixel_format == "bgr_255":
        return values.flip(0)
    mean = torch.tensor(IMAGENET_MEAN).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD).view(3, 1, 1)
    return values.div_(255).sub_(mean).div_(std)


def _check(batch_size: int, pixel_format: str) -> None:
    if batch_size < 1:
        raise SettingError(f"batch_size must be at least 1, found {batch_size}")
    if pixel_format not in PIXEL_FORMATS:
        raise SettingError(f"pixel_format must be one of {', '.join(PIXEL_FORMATS)}, found {pixel_format!r}")

"""Pictures resident in memory: decoded once, resized once, then only copied.

Every picture is resized (bilinear with antialiasing, aspect ratio kept) into a fixed bucket, so a score
never hangs on which pictures share a batch. Portrait pictures use the bucket turned by 90 degrees. What is
kept is the resized uint8 picture without its padding.

Memory: when all resized pictures fit into `memory_limit_mb`, all stay decoded (the 205 training pictures of
BCCD at 192x256: 29 MB). Otherwise each picture stays in the smaller of its two forms, resized pixels or the
file's bytes, until the limit is reached; the rest is read from disk each time. Nothing is ever evicted: an
epoch visits every picture once, in a new order, so whatever is kept is used once per epoch, while a
least-recently-used cache would throw away what comes next.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nasdet_core.data.in_memory import ImageRecord, Progress
from nasdet_core.data.pictures import decode, read_bytes
from nasdet_core.errors import DatasetError, SettingError

_MB = 2**20


@dataclass(frozen=True, slots=True)
class Frame:
    """How one picture lies in its bucket: content at the top left, the rest is padding."""

    bucket: tuple[int, int]  # (H, W) of the padded picture
    content: tuple[int, int]  # (h, w) of the resized picture
    scale: tuple[float, float]  # (x, y): pixels in the bucket per pixel of the original


@dataclass(frozen=True, slots=True)
class CacheFigures:
    """What a cache holds at the moment."""

    pictures: int
    decoded: int
    compressed: int
    resident_mb: float
    all_decoded_mb: float  # what it takes to keep every picture decoded
    limit_mb: float


def frame_of(width: int, height: int, image_size: tuple[int, int]) -> Frame:
    """Fit a picture into (H, W) or, when its orientation is the other one, into (W, H)."""
    tall, wide = image_size
    bucket = (wide, tall) if (height > width) != (tall > wide) and height != width else (tall, wide)
    scale = min(bucket[0] / height, bucket[1] / width)
    content_h = min(bucket[0], max(1, round(height * scale)))
    content_w = min(bucket[1], max(1, round(width * scale)))
    return Frame(bucket, (content_h, content_w), (content_w / width, content_h / height))


class ResidentImages:
    """The pictures of one split at one size. Reading is lazy; `preload` reads everything at once."""

    def __init__(
        self,
        root: Path,
        records: Sequence[ImageRecord],
        image_size: tuple[int, int],
        *,
        memory_limit_mb: float = 2048.0,
    ) -> None:
        if not records:
            raise DatasetError("expected at least one picture to load, found none; check the splits of the dataset")
        if min(image_size) < 1:
            raise SettingError(f"image_size must be two positive numbers (height, width), found {image_size}")
        self.root = Path(root)
        self.records = tuple(records)
        self.image_size = (int(image_size[0]), int(image_size[1]))
        self.frames = tuple(frame_of(record.width, record.height, self.image_size) for record in self.records)
        self._sizes = [3 * frame.content[0] * frame.content[1] for frame in self.frames]
        self._limit = int(memory_limit_mb * _MB)
        self._all_fit = sum(self._sizes) <= self._limit
        self._kept: dict[int, Tensor | bytes] = {}
        self._kept_bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.records)

    def preload(self, progress: Progress | None = None) -> None:
        """Read every picture once, so that later access is quick as far as the memory limit allows."""
        for index in range(len(self)):
            self.pixels(index)
            if progress is not None:
                progress(index + 1, len(self))

    def pixels(self, index: int) -> Tensor:
        """uint8 [3, h, w] RGB, resized, without padding. Shared: do not write into it."""
        kept = self._kept.get(index)
        if isinstance(kept, Tensor):
            return kept
        content = kept if kept is not None else read_bytes(self.root, self.records[index].file)
        pixels = self._resized(content, index)
        if kept is None:
            self._keep(index, pixels, content)
        return pixels

    def target(self, index: int) -> tuple[Tensor, Tensor]:
        """(boxes_xyxy float32 [n, 4] in the bucket's pixels, labels int64 [n]) of what training may use.

        Crowd and difficult objects are left out; boxes are clipped to the picture.
        """
        frame, annotation = self.frames[index], self.records[index].annotation
        boxes = torch.from_numpy(annotation.boxes_xyxy[annotation.trainable])
        labels = torch.from_numpy(annotation.labels[annotation.trainable])
        x, y = frame.scale
        boxes = boxes * torch.tensor([x, y, x, y])
        boxes[:, 0::2].clamp_(0, frame.content[1])
        boxes[:, 1::2].clamp_(0, frame.content[0])
        kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        return boxes[kept], labels[kept]

    def figures(self) -> CacheFigures:
        decoded = sum(isinstance(kept, Tensor) for kept in self._kept.values())
        return CacheFigures(
            pictures=len(self),
            decoded=decoded,
            compressed=len(self._kept) - decoded,
            resident_mb=self._kept_bytes / _MB,
            all_decoded_mb=sum(self._sizes) / _MB,
            limit_mb=self._limit / _MB,
        )

    def _keep(self, index: int, pixels: Tensor, content: bytes) -> None:
        form: Tensor | bytes = pixels
        size = self._sizes[index]
        if not self._all_fit and len(content) < size:
            form, size = content, len(content)
        with self._lock:
            if index not in self._kept and self._kept_bytes + size <= self._limit:
                self._kept[index] = form
                self._kept_bytes += size

    def _resized(self, content: bytes, index: int) -> Tensor:
        record, frame = self.records[index], self.frames[index]
        image = decode(content, record.file)
        if image.size != (record.width, record.height):
            raise DatasetError(
                f"picture {record.file} is {image.width}x{image.height}, but its annotation was made for "
                f"{record.width}x{record.height}; check the dataset and register it again"
            )
        height, width = frame.content
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()

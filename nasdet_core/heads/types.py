"""What a detector hands to a head and gets back."""

from collections.abc import Mapping, Sequence
from typing import Protocol, TypedDict

from torch import Tensor

ImageSize = tuple[int, int]  # (height, width) in pixels
Pyramid = Mapping[str, Tensor]  # level name -> (N, C, H / stride, W / stride), sides rounded up


class Target(TypedDict):
    """Ground truth of one image; an image without objects has n = 0."""

    boxes: Tensor  # [n, 4] xyxy, pixels of the batch frame, float
    labels: Tensor  # [n] 0-based class index, int64


class Detections(TypedDict):
    """Detections of one image, best first."""

    boxes: Tensor  # [n, 4] xyxy, pixels of the batch frame
    scores: Tensor  # [n] 0..1
    labels: Tensor  # [n] 0-based class index, int64


Losses = dict[str, Tensor]


class DetectionHead(Protocol):
    """Two functions of a pyramid. Training mode decides about batch norm only, not about which of them runs."""

    def losses(self, pyramid: Pyramid, targets: Sequence[Target], *, frame: ImageSize) -> Losses:
        """Named scalar losses; `frame` is the size of the batch's images."""
        ...

    def detections(self, pyramid: Pyramid, *, image_sizes: Sequence[ImageSize]) -> list[Detections]:
        """Detections of each image, clipped to its size."""
        ...

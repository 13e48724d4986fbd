"""Selection of candidates and non-maximum suppression for a whole batch at once.

What is found in one image does not depend on the other images of its batch, to the last bit. Groups (image and class,
or image and level) are kept apart by shifting their boxes, as torchvision's `batched_nms` does; but the shifts here
are exact: boxes are rounded to 2**-20 pixels, and every sum fits into a float64.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import nms

from nasdet_core.heads.types import Detections, ImageSize

_SUBPIXELS = 2**20


def image_limits(image_sizes: Sequence[ImageSize], like: Tensor) -> Tensor:
    """Largest box coordinates (width, height, width, height) of each image: [N, 4]."""
    return like.new_tensor([(width, height, width, height) for height, width in image_sizes])


def clip_boxes(boxes_xyxy: Tensor, limits: Tensor) -> Tensor:
    """Clip boxes [..., 4] to the limits of their images; the two broadcast, the last axis apart."""
    return torch.minimum(boxes_xyxy.clamp(min=0), limits)


def top_per_level(scores: Tensor, level_sizes: Sequence[int], count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The `count` best (anchor, class) pairs of each level in each image.

    `scores` is [N, A, C] over the anchors of all levels. Returns scores, anchor and class indices, [N, K] each.
    """
    classes = scores.shape[-1]
    best_scores, anchors = [], []
    offset = 0
    for level in torch.split(scores, list(level_sizes), dim=1):
        flat = level.flatten(1)
        values, indices = flat.topk(min(count, flat.shape[1]), dim=1)
        best_scores.append(values)
        anchors.append(indices + offset * classes)
        offset += level.shape[1]
    pairs = torch.cat(anchors, dim=1)
    return torch.cat(best_scores, dim=1), pairs // classes, pairs % classes


def gather_anchors(values: Tensor, anchors: Tensor) -> Tensor:
    """Rows of `values` [N, A, D] at `anchors` [N, K] -> [N, K, D]."""
    return values.gather(1, anchors[..., None].expand(-1, -1, values.shape[-1]))


def suppress(
    boxes_xyxy: Tensor,
    scores: Tensor,
    groups: Tensor,
    images: Tensor,
    *,
    num_images: int,
    iou_threshold: float,
    limit: int,
) -> list[Tensor]:
    """Indices of the boxes that survive in each image, best first, at most `limit` per image.

    `boxes_xyxy` [V, 4] of the whole batch; a box suppresses boxes of its own image and group only.
    """
    separated = _separate(boxes_xyxy.detach(), groups)
    scores = scores.detach().to(separated.dtype)
    if boxes_xyxy.device.type == "cpu":
        return _suppress_image_by_image(separated, scores, images, num_images, iou_threshold, limit)
    return _suppress_at_once(separated, scores, images, num_images, iou_threshold, limit)


def _separate(boxes_xyxy: Tensor, groups: Tensor) -> Tensor:
    """Boxes in units of 2**-20 pixels, each group far from the others; exact up to 2**53."""
    if boxes_xyxy.numel() == 0:
        return boxes_xyxy.to(torch.float64)
    cells = (boxes_xyxy.to(torch.float64) * _SUBPIXELS).round()
    span = cells.max() + _SUBPIXELS
    return cells + (groups.to(torch.float64) * span)[:, None]


def _suppress_image_by_image(
    boxes: Tensor, scores: Tensor, images: Tensor, num_images: int, iou_threshold: float, limit: int
) -> list[Tensor]:
    """On a CPU suppression is quadratic work, so images are kept apart."""
    kept = []
    for image in range(num_images):
        own = torch.where(images == image)[0]
        kept.append(own[nms(boxes[own], scores[own], iou_threshold)[:limit]])
    return kept


def _suppress_at_once(
    boxes: Tensor, scores: Tensor, images: Tensor, num_images: int, iou_threshold: float, limit: int
) -> list[Tensor]:
    """On an accelerator launches and synchronisation cost most, so there is one call for the batch."""
    shifted = boxes
    if boxes.numel():
        shifted = boxes + (images.to(boxes.dtype) * (boxes.max() + 1))[:, None]
    kept = nms(shifted, scores, iou_threshold)
    kept = kept[images[kept].sort(stable=True).indices]
    counts = torch.bincount(images[kept], minlength=num_images).tolist()
    return [own[:limit] for own in kept.split(counts)]


def detections_of(
    boxes_xyxy: Tensor,
    scores: Tensor,
    labels: Tensor,
    images: Tensor,
    *,
    num_images: int,
    iou_threshold: float,
    limit: int,
) -> list[Detections]:
    """Class-wise suppression over a batch of candidates [V, ...] -> detections per image."""
    kept = suppress(
        boxes_xyxy,
        scores,
        labels,
        images,
        num_images=num_images,
        iou_threshold=iou_threshold,
        limit=limit,
    )
    return [Detections(boxes=boxes_xyxy[own], scores=scores[own], labels=labels[own]) for own in kept]

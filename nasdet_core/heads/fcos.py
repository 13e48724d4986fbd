"""FCOS: anchor-free, one prediction per cell (Tian et al. 2019, arXiv:1904.01355; 2020, arXiv:2006.09214).

Towers and outputs are torchvision's; target assignment, losses and decoding work on the whole batch at once. As in
torchvision: points lie on multiples of the stride, distances are in units of the stride, a box claims the points
within 1.5 strides of its centre whose largest distance to a side suits the level (up to 64 pixels at the first level
if its stride is 8, then 64 to 128, ...), the smallest box wins a contested point, a score is sqrt(class x centre-ness).
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.fcos import FCOSClassificationHead, FCOSRegressionHead
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from nasdet_core.heads.anchors import StrideAnchors
from nasdet_core.heads.suppression import clip_boxes, detections_of, gather_anchors, image_limits, top_per_level
from nasdet_core.heads.types import Detections, ImageSize, Losses, Pyramid, Target
from nasdet_core.search_spaces.base import LevelSpec
from nasdet_core.search_spaces.heads_fixed import FcosHeadSpec

CENTER_RADIUS = 1.5  # strides
NO_BOX = -1  # matched index of a background point


class FcosHead(nn.Module):
    """Class scores, box distances and centre-ness, with weights shared between the levels."""

    def __init__(self, spec: FcosHeadSpec, in_levels: Sequence[LevelSpec], num_classes: int) -> None:
        super().__init__()
        channels = in_levels[0].channels
        norm = partial(nn.GroupNorm, spec.norm_groups)
        self.spec = spec
        self.levels = tuple(level.name for level in in_levels)
        strides = tuple(level.stride for level in in_levels)
        self.anchors = StrideAnchors(strides, [(float(stride),) for stride in strides], (1.0,))
        self.classification = FCOSClassificationHead(channels, 1, num_classes, num_convs=spec.convs, norm_layer=norm)
        self.regression = FCOSRegressionHead(channels, 1, num_convs=spec.convs, norm_layer=norm)

    def forward(self, pyramid: Pyramid) -> tuple[Tensor, Tensor, Tensor]:
        """Class logits [N, P, C], distances in strides [N, P, 4], centre-ness logits [N, P, 1]; P over all levels."""
        features = [pyramid[name] for name in self.levels]
        distances, centerness = self.regression(features)
        # Reduced precision ends here: losses and scores need more than 8 bits.
        outputs = (self.classification(features), distances, centerness)
        logits, distances, centerness = (_at_least_float32(output) for output in outputs)
        return logits, distances, centerness

    def losses(self, pyramid: Pyramid, targets: Sequence[Target], *, frame: ImageSize) -> Losses:  # noqa: ARG002  # of the protocol; points know their place
        """Focal, GIoU and centre-ness losses, each divided by the number of points that have a box."""
        logits, distances, centerness = self(pyramid)
        points, strides, limits = self._points(pyramid)
        boxes, labels, valid = pad_targets(targets, points)
        matched = assign_points(points, strides, limits, boxes, valid)  # [N, P]
        image, point = torch.where(matched != NO_BOX)
        matched_boxes = boxes[image, matched[image, point]]
        count = max(1, len(image))

        classes = torch.zeros_like(logits)
        classes[image, point, labels[image, matched[image, point]]] = 1.0
        classification = sigmoid_focal_loss(logits, classes, alpha=0.25, gamma=2.0, reduction="sum")

        center, stride = points[point], strides[point, None]
        predicted = torch.cat(
            (center - distances[image, point, :2] * stride, center + distances[image, point, 2:] * stride), dim=1
        )
        regression = generalized_box_iou_loss(predicted, matched_boxes, reduction="sum")
        wanted = centerness_of(center, matched_boxes)
        centers = F.binary_cross_entropy_with_logits(centerness[image, point, 0], wanted, reduction="sum")
        return {
            "classification": classification / count,
            "box_regression": regression / count,
            "centerness": centers / count,
        }

    def detections(self, pyramid: Pyramid, *, image_sizes: Sequence[ImageSize]) -> list[Detections]:
        """Candidates over the score threshold, the best of each level, class-wise suppression."""
        logits, distances, centerness = self(pyramid)
        points, strides, _ = self._points(pyramid)
        scores = (logits.sigmoid() * centerness.sigmoid()).sqrt()
        level_sizes = [pyramid[name].shape[-2] * pyramid[name].shape[-1] for name in self.levels]
        scores, anchors, labels = top_per_level(scores, level_sizes, self.spec.pre_nms)
        center, stride = points[anchors], strides[anchors, None]
        distance = gather_anchors(distances, anchors)
        boxes = torch.cat((center - distance[..., :2] * stride, center + distance[..., 2:] * stride), dim=-1)
        boxes = clip_boxes(boxes, image_limits(image_sizes, boxes)[:, None])
        image, candidate = torch.where(scores > self.spec.score_threshold)
        return detections_of(
            boxes[image, candidate],
            scores[image, candidate],
            labels[image, candidate],
            image,
            num_images=len(image_sizes),
            iou_threshold=self.spec.nms_iou,
            limit=self.spec.detections,
        )

    def _points(self, pyramid: Pyramid) -> tuple[Tensor, Tensor, Tensor]:
        """Points [P, 2] (x, y), their strides [P], and the sizes their level is responsible for [P, 2]."""
        levels = self.anchors.on_levels([pyramid[name] for name in self.levels])
        anchors = torch.cat(levels)
        strides = anchors[:, 2] - anchors[:, 0]
        limits = torch.stack((4 * strides, 8 * strides), dim=1)
        limits[: len(levels[0]), 0] = 0
        limits[-len(levels[-1]) :, 1] = torch.inf
        return (anchors[:, :2] + anchors[:, 2:]) / 2, strides, limits


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def pad_targets(targets: Sequence[Target], like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes [N, M, 4], labels [N, M] and which of them are real [N, M]; M is at least 1."""
    most = max(1, *(len(target["boxes"]) for target in targets)) if targets else 1
    boxes = like.new_zeros((len(targets), most, 4))
    labels = torch.zeros((len(targets), most), dtype=torch.int64, device=like.device)
    valid = torch.zeros((len(targets), most), dtype=torch.bool, device=like.device)
    for image, target in enumerate(targets):
        count = len(target["boxes"])
        boxes[image, :count] = target["boxes"].to(boxes)
        labels[image, :count] = target["labels"].to(labels.device)
        valid[image, :count] = True
    return boxes, labels, valid


def assign_points(points: Tensor, strides: Tensor, limits: Tensor, boxes: Tensor, valid: Tensor) -> Tensor:
    """Index of the box that each point predicts, or NO_BOX: [N, P].

    `points` [P, 2], `strides` [P], `limits` [P, 2] (pixels), `boxes` [N, M, 4] xyxy, `valid` [N, M].
    """
    low = points[None, :, None, :] - boxes[:, None, :, :2]  # [N, P, M, 2]: left, top
    high = boxes[:, None, :, 2:] - points[None, :, None, :]  # [N, P, M, 2]: right, bottom
    inside = torch.minimum(low, high).amin(-1) > 0
    # |point - centre of the box| = |low - high| / 2
    central = (low - high).abs().amax(-1) < 2 * CENTER_RADIUS * strides[:, None]
    reach = torch.maximum(low, high).amax(-1)
    suits = (reach > limits[:, :1]) & (reach < limits[:, 1:])
    areas = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])  # [N, M]
    candidates = inside & central & suits & valid[:, None, :]
    smallest, index = torch.where(candidates, areas[:, None, :], torch.inf).min(dim=-1)
    return torch.where(smallest.isinf(), NO_BOX, index)


def centerness_of(points: Tensor, boxes_xyxy: Tensor) -> Tensor:
    """sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)) of points [K, 2] inside boxes [K, 4]."""
    low, high = points - boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - points
    ratios = torch.minimum(low, high) / torch.maximum(low, high)
    return ratios.prod(dim=1).sqrt()

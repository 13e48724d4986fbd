"""RetinaNet: dense anchors and focal loss (Lin et al. 2017, arXiv:1708.02002), from torchvision's parts.

Three scales per octave and three ratios at every cell; the base size is four times the stride. Matching at IoU 0.5 and
0.4, focal loss (0.25, 2), L1 on box offsets, each image divided by its own positives: torchvision's choices (DetNAS's
code has smooth L1 with weight 4).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.retinanet import RetinaNetClassificationHead, RetinaNetRegressionHead
from torchvision.ops import box_iou
from torchvision.ops.misc import Conv2dNormActivation

from nasdet_core.heads.anchors import StrideAnchors
from nasdet_core.heads.suppression import clip_boxes, detections_of, gather_anchors, image_limits, top_per_level
from nasdet_core.heads.types import Detections, ImageSize, Losses, Pyramid, Target
from nasdet_core.search_spaces.base import LevelSpec
from nasdet_core.search_spaces.heads_fixed import RETINANET_ANCHORS, RetinaNetHeadSpec

ASPECT_RATIOS = (0.5, 1.0, 2.0)
ANCHOR_STRIDES = 4  # side of the smallest anchor in strides
SCALES_PER_OCTAVE = 3
POSITIVE_IOU, NEGATIVE_IOU = 0.5, 0.4


class RetinaNetHead(nn.Module):
    """Class scores and box offsets of nine anchors per cell, with weights shared between the levels."""

    def __init__(self, spec: RetinaNetHeadSpec, in_levels: Sequence[LevelSpec], num_classes: int) -> None:
        super().__init__()
        channels = in_levels[0].channels
        self.spec = spec
        self.levels = tuple(level.name for level in in_levels)
        strides = tuple(level.stride for level in in_levels)
        sizes = [_anchor_sizes(stride, whole=spec.anchor_geometry == "torchvision") for stride in strides]
        self.anchors = StrideAnchors(strides, sizes, ASPECT_RATIOS, geometry=spec.anchor_geometry)
        self.classification = RetinaNetClassificationHead(channels, RETINANET_ANCHORS, num_classes)
        self.regression = RetinaNetRegressionHead(channels, RETINANET_ANCHORS)
        for tower in (self.classification, self.regression):
            tower.conv = _tower(tower.conv, channels, spec.convs)
        self._matcher = Matcher(POSITIVE_IOU, NEGATIVE_IOU, allow_low_quality_matches=True)
        self._coder = BoxCoder(weights=(1.0, 1.0, 1.0, 1.0))

    def forward(self, pyramid: Pyramid) -> tuple[Tensor, Tensor]:
        """Class logits [N, A, C] and box offsets [N, A, 4] over the anchors of all levels."""
        features = [pyramid[name] for name in self.levels]
        logits, offsets = self.classification(features), self.regression(features)
        # Reduced precision ends here: losses and scores need more than 8 bits.
        dtype = torch.promote_types(logits.dtype, torch.float32)
        return logits.to(dtype), offsets.to(dtype)

    def losses(self, pyramid: Pyramid, targets: Sequence[Target], *, frame: ImageSize) -> Losses:  # noqa: ARG002  # of the protocol; anchors know their place
        """Focal loss and L1 loss, each the mean over the images of what is divided by an image's positives."""
        logits, offsets = self(pyramid)
        anchors = torch.cat(self._level_anchors(pyramid)).to(logits.dtype)
        targets = [
            Target(boxes=target["boxes"].to(logits), labels=target["labels"].to(logits.device)) for target in targets
        ]
        matched = [self._match(anchors, target["boxes"]) for target in targets]
        everywhere = [anchors] * len(targets)
        outputs = {"cls_logits": logits, "bbox_regression": offsets}
        return {
            "classification": self.classification.compute_loss(targets, outputs, matched),
            "box_regression": self.regression.compute_loss(targets, outputs, everywhere, matched),
        }

    def detections(self, pyramid: Pyramid, *, image_sizes: Sequence[ImageSize]) -> list[Detections]:
        """Candidates over the score threshold, the best of each level, class-wise suppression."""
        logits, offsets = self(pyramid)
        levels = self._level_anchors(pyramid)
        scores, best, labels = top_per_level(logits.sigmoid(), [len(level) for level in levels], self.spec.pre_nms)
        anchors = torch.cat(levels)[best]  # [N, K, 4]
        boxes = self._coder.decode_single(gather_anchors(offsets, best).flatten(0, 1), anchors.flatten(0, 1)).unflatten(
            0, best.shape
        )
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

    def _level_anchors(self, pyramid: Pyramid) -> list[Tensor]:
        return self.anchors.on_levels([pyramid[name] for name in self.levels])

    def _match(self, anchors: Tensor, boxes: Tensor) -> Tensor:
        """Index of the box of each anchor; negative for background and for what is between the two IoUs."""
        if len(boxes) == 0:
            return torch.full((len(anchors),), Matcher.BELOW_LOW_THRESHOLD, device=anchors.device)
        matched: Tensor = self._matcher(box_iou(boxes, anchors))
        return matched


def _anchor_sizes(stride: int, *, whole: bool) -> tuple[float, ...]:
    """Three an octave; torchvision's are `whole` pixels."""
    sizes = [ANCHOR_STRIDES * stride * 2 ** (step / SCALES_PER_OCTAVE) for step in range(SCALES_PER_OCTAVE)]
    return tuple(float(int(size)) if whole else size for size in sizes)


def _tower(four: nn.Sequential, channels: int, convs: int) -> nn.Sequential:
    """torchvision's tower has four convolutions; take the first `convs`, or add some initialised alike."""
    layers = list(four)[:convs]
    while len(layers) < convs:
        layer = Conv2dNormActivation(channels, channels, norm_layer=None)
        nn.init.normal_(layer[0].weight, std=0.01)
        nn.init.zeros_(layer[0].bias)
        layers.append(layer)
    return nn.Sequential(*layers)

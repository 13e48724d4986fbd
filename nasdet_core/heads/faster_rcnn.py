"""Faster R-CNN on a feature pyramid (Ren et al. 2015, arXiv:1506.01497; Lin et al. 2017, arXiv:1612.03144).

Built from torchvision's region proposal network and RoI heads; proposals and detections are selected for the whole
batch at once. Numbers are those of DetNAS's code where it and torchvision agree (anchors of 8 strides, IoU 0.7 / 0.3,
256 anchors and 512 regions per image), and torchvision's where they differ: smooth L1 of the boxes with beta 1/9, and
at most twice as many proposals per image in training as at test time.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead, concat_box_prediction_layers
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import initLevelMapper

from nasdet_core.heads.anchors import StrideAnchors
from nasdet_core.heads.suppression import (
    clip_boxes,
    detections_of,
    gather_anchors,
    image_limits,
    suppress,
    top_per_level,
)
from nasdet_core.heads.types import Detections, ImageSize, Losses, Pyramid, Target
from nasdet_core.layers.conv import ConvNorm
from nasdet_core.search_spaces.base import LevelSpec
from nasdet_core.search_spaces.heads_fixed import BOX_HEAD_FEATURES, ROI_SIZE, RPN_ANCHORS, FasterRcnnHeadSpec

ASPECT_RATIOS = (0.5, 1.0, 2.0)
ANCHOR_STRIDES = 8  # side of an anchor in strides
LAST_ROI_STRIDE = 32  # coarser levels propose only
PROPOSAL_IOU = 0.7
MIN_PROPOSAL_SIDE = 1e-3  # pixels, as torchvision
MIN_DETECTION_SIDE = 1e-2


class FasterRcnnHead(nn.Module):
    """Proposals on every level, then a box head on 7x7 cells of each proposal."""

    def __init__(self, spec: FasterRcnnHeadSpec, in_levels: Sequence[LevelSpec], num_classes: int) -> None:
        super().__init__()
        channels = in_levels[0].channels
        strides = tuple(level.stride for level in in_levels)
        self.spec = spec
        self.levels = tuple(level.name for level in in_levels)
        sizes = [(float(ANCHOR_STRIDES * stride),) for stride in strides]
        anchors = StrideAnchors(strides, sizes, ASPECT_RATIOS, geometry=spec.anchor_geometry)
        counts = {"training": 2 * spec.proposals, "testing": spec.proposals}
        self.rpn = RegionProposalNetwork(
            anchors, RPNHead(channels, RPN_ANCHORS), 0.7, 0.3, 256, 0.5, counts, counts, PROPOSAL_IOU
        )
        box_head = _four_convs(channels) if spec.box_head == "4conv1fc" else _two_layers(channels)
        predictor = FastRCNNPredictor(BOX_HEAD_FEATURES, num_classes + 1)
        pool = _roi_align([level for level in in_levels if level.stride <= LAST_ROI_STRIDE])
        self.roi = RoIHeads(
            pool, box_head, predictor, 0.5, 0.5, 512, 0.25, None,
            spec.score_threshold, spec.nms_iou, spec.detections,
        )  # fmt: skip

    def losses(self, pyramid: Pyramid, targets: Sequence[Target], *, frame: ImageSize) -> Losses:
        """Losses of the proposals and of the box head; which boxes are trained on is drawn from torch's generator."""
        sizes = [frame] * len(targets)
        objectness, deltas, anchors = self._propose(pyramid, len(targets))
        # Class 0 is the background here.
        shifted = [
            {"boxes": target["boxes"].to(objectness), "labels": target["labels"].to(objectness.device) + 1}
            for target in targets
        ]
        everywhere = [torch.cat(anchors)] * len(targets)
        labels, matched = self.rpn.assign_targets_to_anchors(everywhere, shifted)
        labels = [label.to(objectness.dtype) for label in labels]
        wanted = self.rpn.box_coder.encode([boxes.to(objectness.dtype) for boxes in matched], everywhere)
        loss_objectness, loss_proposals = self.rpn.compute_loss(
            objectness.flatten()[:, None], deltas.flatten(0, 1), labels, wanted
        )
        proposals = self._select_proposals(
            objectness.detach(), deltas.detach(), anchors, sizes, count=2 * self.spec.proposals
        )
        proposals, _, box_labels, box_targets = self.roi.select_training_samples(proposals, shifted)
        class_logits, box_deltas = self._classify(pyramid, proposals, sizes)
        loss_class, loss_box = fastrcnn_loss(class_logits, box_deltas, box_labels, box_targets)
        return {
            "objectness": loss_objectness,
            "proposal_regression": loss_proposals,
            "classification": loss_class,
            "box_regression": loss_box,
        }

    def detections(self, pyramid: Pyramid, *, image_sizes: Sequence[ImageSize]) -> list[Detections]:
        """Classified and refined proposals over the score threshold, class-wise suppression."""
        objectness, deltas, anchors = self._propose(pyramid, len(image_sizes))
        proposals = self._select_proposals(objectness, deltas, anchors, image_sizes, count=self.spec.proposals)
        class_logits, box_deltas = self._classify(pyramid, proposals, image_sizes)
        scores = class_logits.softmax(-1)[:, 1:]  # [R, C], background dropped
        # Said here, since the coder gives no proposal at all another shape.
        boxes = self.roi.box_coder.decode(box_deltas, proposals).reshape(len(scores), 1 + scores.shape[1], 4)
        boxes = boxes[:, 1:]  # [R, C, 4]
        counts = torch.tensor([len(own) for own in proposals], device=scores.device)
        image = torch.repeat_interleave(torch.arange(len(proposals), device=scores.device), counts)
        boxes = clip_boxes(boxes, image_limits(image_sizes, boxes)[image, None])
        good = (scores > self.spec.score_threshold) & _larger_than(boxes, MIN_DETECTION_SIDE)
        region, label = torch.where(good)
        return detections_of(
            boxes[region, label],
            scores[region, label],
            label,
            image[region],
            num_images=len(image_sizes),
            iou_threshold=self.spec.nms_iou,
            limit=self.spec.detections,
        )

    def _propose(self, pyramid: Pyramid, images: int) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Objectness logits [N, A], box offsets [N, A, 4] over all levels, anchors [A_l, 4] of each level."""
        features = [pyramid[name] for name in self.levels]
        objectness, deltas = concat_box_prediction_layers(*self.rpn.head(features))
        # Reduced precision ends here: losses and scores need more than 8 bits.
        dtype = torch.promote_types(objectness.dtype, torch.float32)
        anchors = self.rpn.anchor_generator.on_levels(features)
        return objectness.to(dtype).view(images, -1), deltas.to(dtype).view(images, -1, 4), anchors

    def _select_proposals(
        self,
        objectness: Tensor,
        deltas: Tensor,
        anchors: list[Tensor],
        image_sizes: Sequence[ImageSize],
        *,
        count: int,
    ) -> list[Tensor]:
        """The `count` best of each level, level-wise suppression, the `count` best of each image: [R_i, 4]."""
        level_sizes = [len(level) for level in anchors]
        scores, best, _ = top_per_level(objectness[..., None], level_sizes, count)  # [N, K]
        everywhere = torch.cat(anchors)
        boxes = self.rpn.box_coder.decode_single(
            gather_anchors(deltas, best).flatten(0, 1), everywhere[best].flatten(0, 1)
        ).unflatten(0, best.shape)
        boxes = clip_boxes(boxes, image_limits(image_sizes, boxes)[:, None])
        taken = torch.tensor([min(size, count) for size in level_sizes], device=scores.device)
        level = torch.repeat_interleave(torch.arange(len(anchors), device=scores.device), taken)
        image, candidate = torch.where(_larger_than(boxes, MIN_PROPOSAL_SIDE))
        boxes = boxes[image, candidate]
        kept = suppress(
            boxes,
            scores[image, candidate],
            level[candidate],
            image,
            num_images=len(image_sizes),
            iou_threshold=PROPOSAL_IOU,
            limit=count,
        )
        return [boxes[own] for own in kept]

    def _classify(
        self, pyramid: Pyramid, proposals: list[Tensor], image_sizes: Sequence[ImageSize]
    ) -> tuple[Tensor, Tensor]:
        """Class logits [R, 1 + C] and box offsets [R, 4 * (1 + C)] of all proposals."""
        regions = self.roi.box_roi_pool(dict(pyramid), proposals, list(image_sizes))
        class_logits, box_deltas = self.roi.box_predictor(self.roi.box_head(regions))
        dtype = torch.promote_types(class_logits.dtype, torch.float32)
        return class_logits.to(dtype), box_deltas.to(dtype)


def _larger_than(boxes_xyxy: Tensor, side: float) -> Tensor:
    return (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).amin(-1) >= side


def _roi_align(levels: Sequence[LevelSpec]) -> MultiScaleRoIAlign:
    """RoIAlign with the levels' declared strides: inferred ones are wrong for images of few cells."""
    pool = MultiScaleRoIAlign([level.name for level in levels], output_size=ROI_SIZE, sampling_ratio=2)
    pool.scales = [1 / level.stride for level in levels]
    first, last = (level.stride.bit_length() - 1 for level in (levels[0], levels[-1]))
    pool.map_levels = initLevelMapper(first, last)
    return pool


def _four_convs(channels: int) -> nn.Sequential:
    """DetNAS's box head: four 3x3 convolutions with bias and batch norm, one fully connected layer."""
    convs = [ConvNorm(channels, channels, 3, bias=True) for _ in range(4)]
    for layer in convs:
        nn.init.normal_(layer.conv.weight, std=0.01)
        if layer.conv.bias is not None:
            nn.init.zeros_(layer.conv.bias)
    hidden = nn.Linear(channels * ROI_SIZE**2, BOX_HEAD_FEATURES)
    return nn.Sequential(*convs, nn.Flatten(), hidden, nn.ReLU())


def _two_layers(channels: int) -> nn.Module:
    head: nn.Module = TwoMLPHead(channels * ROI_SIZE**2, BOX_HEAD_FEATURES)
    return head

"""Our batched losses and detections against torchvision's per-image code, fed with the same outputs and weights."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder, BoxLinearCoder, Matcher
from torchvision.models.detection.fcos import FCOS, FCOSHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNet

from nasdet_core.detectors.detector import build_detector
from nasdet_core.heads.faster_rcnn import FasterRcnnHead
from nasdet_core.heads.fcos import FcosHead
from nasdet_core.heads.retinanet import RetinaNetHead
from nasdet_core.heads.types import Detections, Pyramid, Target
from nasdet_core.search_spaces.base import LevelSpec
from nasdet_core.search_spaces.heads_fixed import FasterRcnnHeadSpec, FcosHeadSpec, RetinaNetHeadSpec
from tests.support.detectors import detector_space, some_targets, target

FRAME = (128, 160)  # torchvision divides image by feature size, so strides have to divide it
CLASSES, CHANNELS, IMAGES = 3, 8, 3


def levels(first: int, count: int) -> tuple[LevelSpec, ...]:
    return tuple(LevelSpec(f"p{power}", CHANNELS, 2**power) for power in range(first, first + count))


def pyramid_of(specs: tuple[LevelSpec, ...], scale: float = 1.0) -> Pyramid:
    generator = torch.Generator().manual_seed(5)
    return {
        level.name: scale
        * torch.randn(IMAGES, CHANNELS, FRAME[0] // level.stride, FRAME[1] // level.stride, generator=generator)
        for level in specs
    }


def targets() -> list[Target]:
    """Overlapping boxes, one centred on a point; no boxes; a small, a wide and a picture-filling box."""
    return [
        target([[20, 20, 60, 70], [25, 22, 50, 55], [56, 56, 72, 72]], [0, 2, 1]),
        target([], []),
        target([[100, 90, 109, 97], [4, 30, 155, 60], [0, 0, 160, 128]], [1, 1, 0]),
    ]


def assert_same(ours: list[Detections], theirs: list[dict[str, Tensor]]) -> None:
    assert sum(len(one["scores"]) for one in theirs) > 20
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our["scores"], their["scores"])
        torch.testing.assert_close(our["boxes"], their["boxes"])
        assert our["labels"].tolist() == their["labels"].tolist()


class TestFcos:
    @pytest.fixture
    def head(self) -> FcosHead:
        torch.manual_seed(0)
        spec = FcosHeadSpec(convs=1, norm_groups=4, score_threshold=0.06, pre_nms=40, detections=30)
        head = FcosHead(spec, levels(3, 3), CLASSES)
        make_loud(head)
        return head

    def torchvision(self, head: FcosHead, pyramid: Pyramid) -> tuple[Any, dict[str, Any], list[Tensor], list[int]]:
        features = list(pyramid.values())
        logits, distances, centerness = head(pyramid)
        outputs = {"cls_logits": logits, "bbox_regression": distances, "bbox_ctrness": centerness}
        images = ImageList(torch.zeros(IMAGES, 3, *FRAME), [FRAME] * IMAGES)
        model = SimpleNamespace(
            head=FCOSHead(CHANNELS, 1, CLASSES, num_convs=0), center_sampling_radius=1.5,
            box_coder=BoxLinearCoder(normalize_by_size=True), score_thresh=head.spec.score_threshold,
            topk_candidates=head.spec.pre_nms, nms_thresh=head.spec.nms_iou, detections_per_img=head.spec.detections,
        )  # fmt: skip
        return model, outputs, head.anchors(images, features), [f.shape[-2] * f.shape[-1] for f in features]

    def test_losses_are_torchvisions(self, head: FcosHead) -> None:
        pyramid = pyramid_of(levels(3, 3))
        model, outputs, anchors, sizes = self.torchvision(head, pyramid)
        theirs = FCOS.compute_loss(model, targets(), outputs, anchors, sizes)
        ours = head.losses(pyramid, targets(), frame=FRAME)
        for our, their in (
            ("classification", "classification"),
            ("box_regression", "bbox_regression"),
            ("centerness", "bbox_ctrness"),
        ):
            assert theirs[their].item() > 0
            torch.testing.assert_close(ours[our], theirs[their])

    def test_detections_are_torchvisions(self, head: FcosHead) -> None:
        pyramid = pyramid_of(levels(3, 3))
        model, outputs, anchors, sizes = self.torchvision(head, pyramid)
        by_level = {name: torch.split(values, sizes, dim=1) for name, values in outputs.items()}
        theirs = FCOS.postprocess_detections(
            model, by_level, [torch.split(a, sizes) for a in anchors], [FRAME] * IMAGES
        )
        assert_same(head.detections(pyramid, image_sizes=[FRAME] * IMAGES), theirs)

    def test_five_levels_have_the_papers_borders(self) -> None:
        head = FcosHead(FcosHeadSpec(convs=0), levels(3, 5), CLASSES)
        _, strides, limits = head._points({level.name: torch.zeros(1, CHANNELS, 1, 1) for level in levels(3, 5)})
        assert strides.tolist() == [8, 16, 32, 64, 128]
        assert limits.tolist() == [[0, 64], [64, 128], [128, 256], [256, 512], [512, float("inf")]]


class TestRetinaNet:
    @pytest.fixture
    def head(self) -> RetinaNetHead:
        torch.manual_seed(0)
        spec = RetinaNetHeadSpec(convs=1, score_threshold=0.06, pre_nms=40, detections=30)
        head = RetinaNetHead(spec, levels(3, 3), CLASSES)
        make_loud(head)
        return head

    def torchvision(self, head: RetinaNetHead, pyramid: Pyramid) -> tuple[Any, dict[str, Any], list[Tensor], list[int]]:
        features = list(pyramid.values())
        logits, offsets = head(pyramid)
        images = ImageList(torch.zeros(IMAGES, 3, *FRAME), [FRAME] * IMAGES)
        theirs_head = SimpleNamespace(
            compute_loss=lambda targets, outputs, anchors, matched: {
                "classification": head.classification.compute_loss(targets, outputs, matched),
                "box_regression": head.regression.compute_loss(targets, outputs, anchors, matched),
            }
        )
        model = SimpleNamespace(
            head=theirs_head, proposal_matcher=Matcher(0.5, 0.4, allow_low_quality_matches=True),
            box_coder=BoxCoder((1.0, 1.0, 1.0, 1.0)), score_thresh=head.spec.score_threshold,
            topk_candidates=head.spec.pre_nms, nms_thresh=head.spec.nms_iou, detections_per_img=head.spec.detections,
        )  # fmt: skip
        sizes = [9 * f.shape[-2] * f.shape[-1] for f in features]
        return model, {"cls_logits": logits, "bbox_regression": offsets}, head.anchors(images, features), sizes

    def test_losses_are_torchvisions(self, head: RetinaNetHead) -> None:
        pyramid = pyramid_of(levels(3, 3))
        model, outputs, anchors, _ = self.torchvision(head, pyramid)
        theirs = RetinaNet.compute_loss(model, targets(), outputs, anchors)
        ours = head.losses(pyramid, targets(), frame=FRAME)
        assert all(loss.item() > 0 for loss in ours.values())
        torch.testing.assert_close(ours, theirs)

    def test_detections_are_torchvisions(self, head: RetinaNetHead) -> None:
        pyramid = pyramid_of(levels(3, 3))
        model, outputs, anchors, sizes = self.torchvision(head, pyramid)
        by_level = {name: torch.split(values, sizes, dim=1) for name, values in outputs.items()}
        shapes = [FRAME] * IMAGES
        theirs = RetinaNet.postprocess_detections(model, by_level, [torch.split(a, sizes) for a in anchors], shapes)
        assert_same(head.detections(pyramid, image_sizes=shapes), theirs)


class TestFasterRcnn:
    @pytest.fixture
    def head(self) -> FasterRcnnHead:
        torch.manual_seed(0)
        head = FasterRcnnHead(FasterRcnnHeadSpec(proposals=50, box_head="2fc"), levels(2, 5), CLASSES)
        head.roi.box_predictor.cls_score.weight.data.mul_(8)
        return head

    def torchvision(self, head: FasterRcnnHead, pyramid: Pyramid, truth: list[Target] | None) -> Any:
        """torchvision's own forward of its two parts, with labels from 1 on."""
        images = ImageList(torch.zeros(IMAGES, 3, *FRAME), [FRAME] * IMAGES)
        shifted = truth and [{"boxes": one["boxes"], "labels": one["labels"] + 1} for one in truth]
        head.rpn.train(truth is not None)
        head.roi.train(truth is not None)
        proposals, proposal_losses = head.rpn(images, dict(pyramid), shifted)
        found, box_losses = head.roi(dict(pyramid), proposals, images.image_sizes, shifted)
        return found, {**proposal_losses, **box_losses}

    def test_losses_are_torchvisions(self, head: FasterRcnnHead) -> None:
        pyramid = pyramid_of(levels(2, 5), scale=3.0)
        torch.manual_seed(1)
        # torchvision selects before it samples for the first loss, and its selection draws nothing.
        _, theirs = self.torchvision(head, pyramid, targets())
        torch.manual_seed(1)
        ours = head.losses(pyramid, targets(), frame=FRAME)
        assert all(loss.item() > 0 for loss in ours.values())
        torch.testing.assert_close(list(ours.values()), list(theirs.values()), check_stride=False)

    def test_detections_are_torchvisions(self, head: FasterRcnnHead) -> None:
        pyramid = pyramid_of(levels(2, 5), scale=3.0)
        theirs, _ = self.torchvision(head, pyramid, None)
        for one in theirs:
            one["labels"] = one["labels"] - 1
        assert_same(head.detections(pyramid, image_sizes=[FRAME] * IMAGES), theirs)

    def test_regions_are_pooled_from_strides_4_to_32(self, head: FasterRcnnHead) -> None:
        pool = head.roi.box_roi_pool
        assert pool.featmap_names == ["p2", "p3", "p4", "p5"]
        assert pool.scales == [1 / 4, 1 / 8, 1 / 16, 1 / 32]
        # A region of 224 pixels belongs to p4, one of half the side to p3 (Lin et al. 2017, section 4.2).
        sides = torch.tensor([20.0, 112.0, 224.0, 448.0, 2000.0])
        regions = torch.stack((torch.zeros(5), torch.zeros(5), sides, sides), dim=1)
        assert pool.map_levels([regions]).tolist() == [0, 1, 2, 3, 3]

    def test_repeated_seed_repeats_the_losses(self) -> None:
        detector = build_detector(detector_space("faster-rcnn"), elastic=True)
        images, genotype = torch.randn(2, 3, 96, 128), (0, 1, 2, 3) * 5
        totals = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            totals.append({name: loss.item() for name, loss in detector(images, some_targets(), genotype).items()})
        assert totals[0] == totals[1]
        assert totals[0] != totals[2]


def make_loud(head: FcosHead | RetinaNetHead) -> None:
    """Class scores that pass a threshold, distances and offsets that differ."""
    head.classification.cls_logits.weight.data.mul_(30)
    head.classification.cls_logits.bias.data.fill_(-1.0)
    for layer in (*head.classification.conv.modules(), *head.regression.modules()):
        if isinstance(layer, torch.nn.Conv2d):
            layer.weight.data.mul_(10)
    if hasattr(head.regression, "bbox_ctrness"):
        head.regression.bbox_reg.bias.data.fill_(1.0)

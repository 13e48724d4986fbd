"""Costs in closed form against torch's own counter. It counts two FLOPs per multiply-accumulate of convolutions and
matrix products, and like ours nothing for biases, norms, activations and pooling.

Wide networks are counted on the meta device: shapes without numbers take no memory. Narrow ones are quicker with
numbers (torch takes batch norm apart into many small steps on the meta device).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from nasdet_core.backbones.classifier import DetNasClassifier
from nasdet_core.backbones.shufflenet import DetNasBackboneNet, ElasticDetNasBackbone
from nasdet_core.detectors.detector import Detector
from nasdet_core.evaluation.complexity import count_parameters
from nasdet_core.heads.faster_rcnn import FasterRcnnHead
from nasdet_core.search_spaces import PUBLISHED, DetectorSpace, DetNasBackbone
from nasdet_core.search_spaces.heads_fixed import ROI_SIZE
from nasdet_core.search_spaces.shufflenet_chain import SHAPES

FLOPS_PER_MAC = 2
ODD_SIZES = [(47, 90), (33, 65), (101, 75), (64, 64)]
GENOTYPES = 20


def counted(run: Callable[[], Any]) -> int:
    """FLOPs that torch counts while `run` runs."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    flops: int = counter.get_total_flops()
    return flops


def images(size: tuple[int, int], *, device: str = "meta") -> Tensor:
    return torch.zeros(1, 3, *size, device=device)


class TestSpaces:
    """Twenty random genotypes of every space."""

    @pytest.mark.parametrize("name", SHAPES)
    def test_random_genotypes_of_the_supernet(self, name: str) -> None:
        space = DetNasBackbone(name, width=0.25)
        supernet = ElasticDetNasBackbone(space).eval()
        rng = random.Random(7)
        for number in range(GENOTYPES):
            genotype, size = space.sample(rng), ODD_SIZES[number % len(ODD_SIZES)]
            flops = counted(lambda: supernet(images(size, device="cpu"), genotype))  # noqa: B023  # called at once
            assert flops == FLOPS_PER_MAC * space.cost(genotype, size).macs

    @pytest.mark.parametrize("name", SHAPES)
    def test_an_extracted_network_counts_as_its_path_does(self, name: str) -> None:
        space = DetNasBackbone(name, width=0.5)
        genotype = space.sample(random.Random(11))
        network = DetNasBackboneNet(space.fixed(genotype)).eval()
        cost = space.cost(genotype, (97, 131))
        assert counted(lambda: network(images((97, 131), device="cpu"))) == FLOPS_PER_MAC * cost.macs
        assert count_parameters(network) == cost.params


def classifier(name: str, last_conv: int | None = None) -> tuple[DetNasBackbone, DetNasClassifier]:
    found = PUBLISHED[name]
    part = DetNasBackbone(found.space, split="even_odd", genotype=found.genotype)
    with torch.device("meta"):
        network = DetNasClassifier(DetNasBackboneNet(part), last_channels=last_conv or part.last_conv_channels).eval()
    return part, network


class TestPublishedNets:
    """At full width and 224x224, in the ImageNet form and as the body that a detector runs."""

    @pytest.mark.parametrize(
        ("name", "last_conv"), [*((name, None) for name in PUBLISHED), ("detnas-coco-fpn-3.8g", 1024)]
    )
    def test_the_imagenet_form(self, name: str, last_conv: int | None) -> None:
        part, network = classifier(name, last_conv)
        cost = part.classifier_cost((), last_conv=last_conv)
        assert counted(lambda: network(images((224, 224)))) == FLOPS_PER_MAC * cost.macs
        assert count_parameters(network) == cost.params

    @pytest.mark.parametrize("name", PUBLISHED)
    def test_the_body(self, name: str) -> None:
        part, network = classifier(name)
        cost = part.cost((), (224, 224))
        assert counted(lambda: network.body(images((224, 224)))) == FLOPS_PER_MAC * cost.macs
        assert count_parameters(network.body) == cost.params


HEADS: dict[str, dict[str, Any]] = {
    "fcos": {"model": "fcos", "convs": 2, "norm_groups": 8},
    "retinanet": {"model": "retinanet", "convs": 3},
    "4conv1fc": {"model": "faster-rcnn", "proposals": 37},
    "2fc": {"model": "faster-rcnn", "proposals": 37, "box_head": "2fc"},
}
NECKS: dict[str, dict[str, Any]] = {
    "as the head prefers": {},
    "no extra levels": {"extra_levels": 0},
    "batch norm, max-pooled level": {"extra_levels": 1, "norm": "batch"},
}


def run_head(detector: Detector, pyramid: dict[str, Tensor]) -> None:
    """Every convolution and matrix product of the head for one picture.

    Suppression needs numbers, so it is left out; it multiplies no matrices. Of Faster R-CNN the box head runs once
    for each of `proposals` regions: the cost says what that many take, while a real picture may have fewer left.
    """
    head = detector.head
    if not isinstance(head, FasterRcnnHead):
        head(pyramid)
        return
    head.rpn.head([pyramid[name] for name in head.levels])
    channels = pyramid[head.levels[0]].shape[1]
    regions = torch.zeros(head.spec.proposals, channels, ROI_SIZE, ROI_SIZE)
    head.roi.box_predictor(head.roi.box_head(regions))


class TestWholeDetectors:
    @pytest.mark.parametrize("size", [(96, 128), (97, 131)])
    @pytest.mark.parametrize("neck", NECKS)
    @pytest.mark.parametrize("head", HEADS)
    def test_every_part_and_the_total(self, head: str, neck: str, size: tuple[int, int]) -> None:
        description = {
            "backbone": {"space": "detnas-300m", "width": 0.25, "genotype": "0 1 2 3 " * 5},
            "neck": {"model": "fpn", "channels": 16, **NECKS[neck]},
            "head": HEADS[head],
        }
        space = DetectorSpace.from_description(description, num_classes=5)
        detector = Detector(space, elastic=False).eval()
        pictures = images(size, device="cpu")
        with torch.no_grad():
            levels = detector.backbone(pictures)
            pyramid = detector.neck(levels)
        cost = space.cost((), size)
        flops = {
            "backbone": counted(lambda: detector.backbone(pictures)),
            "neck": counted(lambda: detector.neck(levels)),
            "head": counted(lambda: run_head(detector, pyramid)),
        }
        assert flops == {role: FLOPS_PER_MAC * part.macs for role, part in cost.parts.items()}
        assert sum(flops.values()) == FLOPS_PER_MAC * cost.total.macs

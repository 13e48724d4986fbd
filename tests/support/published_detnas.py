"""Networks of ours under the names that DetNAS's authors publish them, written out from the tables of the public code.

Independent of the importer: the modules are walked here, layer by layer, and each layer is named after its place.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from nasdet_core.backbones.classifier import DetNasClassifier
from nasdet_core.backbones.elastic_classifier import ElasticDetNasClassifier
from nasdet_core.backbones.shufflenet import DetNasBackboneNet, ElasticDetNasBackbone
from nasdet_core.detectors.detector import Detector
from nasdet_core.heads.faster_rcnn import FasterRcnnHead
from nasdet_core.heads.retinanet import RetinaNetHead
from nasdet_core.layers.conv import ConvNorm
from nasdet_core.layers.shuffle_block import ShuffleBlock

Body = DetNasBackboneNet | ElasticDetNasBackbone
State = dict[str, Tensor]
Named = Iterator[tuple[str, nn.Module]]

OPERATIONS = ("shufflenet_3x3", "shufflenet_5x5", "shufflenet_7x7", "xception_3x3")
# First block of each stage: 20 blocks in four stages of 4, 4, 8, 4, or 40 in 8, 8, 16, 8.
STAGE_STARTS = {20: (0, 4, 8, 16), 40: (0, 8, 16, 32)}

# Modules of a main branch, letter of the layer, and whether it is depthwise.
SHUFFLENET = (("conv.0", "a", False), ("conv.1", "b", True), ("conv.1", "b", False))
XCEPTION = tuple((f"conv.{place}", letter, first) for place, letter in enumerate("abc") for first in (True, False))


def state_of(named: Named) -> State:
    return {f"{name}.{key}": value for name, layer in named for key, value in layer.state_dict().items()}


def classifier_state(network: DetNasClassifier | ElasticDetNasClassifier) -> State:
    """An ImageNet file."""
    return state_of(_body(network.body)) | state_of(
        iter(
            (
                ("last_conv.conv", network.last_conv.conv),
                ("last_conv.bn", network.last_conv.norm),
                ("fc.fc", network.classifier),
            )
        )
    )


def body_state(backbone: Body) -> State:
    return state_of(_body(backbone))


def detector_state(detector: Detector) -> State:
    """What a COCO file has under `model`, with the buffers of its anchors."""
    backbone, head = detector.backbone, detector.head
    assert isinstance(backbone, Body)
    single = isinstance(backbone, DetNasBackboneNet)
    fpn = "backbone.fpn" if single else "fpn"
    state = {f"{'backbone.body' if single else 'backbone'}.{key}": value for key, value in body_state(backbone).items()}
    state |= state_of(_fpn(detector.neck.get_submodule("pyramid"), fpn))
    if isinstance(head, FasterRcnnHead):
        return state | state_of(_faster_rcnn(head)) | anchors(RPN_CELLS)
    assert isinstance(head, RetinaNetHead)
    state |= state_of(_retinanet(head))
    # There the offsets are divided by 10, 10, 5, 5 when boxes are made of them.
    for key in ("weight", "bias"):
        published = state[f"rpn.head.bbox_pred.{key}"].clone()
        for channel in range(len(published)):
            published[channel] *= 10.0 if channel % 4 < 2 else 5.0
        state[f"rpn.head.bbox_pred.{key}"] = published
    return state | anchors(RETINANET_CELLS)


# The first level's anchors in pixels, ratio 0.5, 1, 2; RetinaNet's three sizes of the first ratio.
RPN_CELLS = {"0": [[-22.0, -10.0, 25.0, 13.0], [-14.0, -14.0, 17.0, 17.0], [-10.0, -22.0, 13.0, 25.0]]}
RETINANET_CELLS: dict[str, list[list[float]]] = {}  # their buffers may be absent


def anchors(cells: dict[str, list[list[float]]]) -> State:
    return {f"rpn.anchor_generator.cell_anchors.{level}": torch.tensor(boxes) for level, boxes in cells.items()}


def _body(backbone: Body) -> Named:
    yield "first_conv.conv", backbone.stem.conv
    yield "first_conv.bn", backbone.stem.norm
    starts = STAGE_STARTS[len(backbone.blocks)]
    for index, place in enumerate(backbone.blocks):
        stage = sum(index >= start for start in starts)
        tag = f"{stage}{'abcdefghijklmnop'[index - starts[stage - 1]]}"
        if isinstance(place, ShuffleBlock):
            yield from _block(f"features.{index}", tag, place)
        else:
            assert isinstance(place, nn.ModuleList)
            for choice, block in enumerate(place):
                assert isinstance(block, ShuffleBlock)
                yield from _block(f"features.{index}.{choice}", tag, block)


def _block(prefix: str, tag: str, block: ShuffleBlock) -> Named:
    operation = {"shuffle_3x3": 0, "shuffle_5x5": 1, "shuffle_7x7": 2, "xception_3x3": 3}[block.candidate]
    name = f"{tag}_{OPERATIONS[operation]}"
    branches = SHUFFLENET if operation < 3 else XCEPTION
    for (group, letter, depthwise), layer in zip(branches, block.main, strict=True):
        yield from _layer(f"{prefix}.{group}", f"{name}_branch2{letter}", layer, depthwise=depthwise)
    if block.projection is not None:
        for depthwise, layer in zip((True, False), block.projection, strict=True):
            yield from _layer(f"{prefix}.proj_conv", f"{tag}_proj", layer, depthwise=depthwise)


def _layer(prefix: str, name: str, layer: nn.Module, *, depthwise: bool) -> Named:
    assert isinstance(layer, ConvNorm)
    yield f"{prefix}.interstellar{name}{'_s' if depthwise else ''}", layer.conv
    yield f"{prefix}.interstellar{name}_s_bn" if depthwise else f"{prefix}.bn{name}", layer.norm


def _fpn(pyramid: nn.Module, prefix: str) -> Named:
    inner, layer = pyramid.get_submodule("inner_blocks"), pyramid.get_submodule("layer_blocks")
    assert isinstance(inner, nn.ModuleList)
    assert isinstance(layer, nn.ModuleList)
    first = 5 - len(inner)  # fpn_inner1 is that of C2, which RetinaNet has not
    for ours, theirs in ((inner, "fpn_inner"), (layer, "fpn_layer")):
        for number, block in enumerate(ours, start=first):
            assert isinstance(block, nn.Sequential)
            if len(block) == 1:  # without a norm it is no sequence there
                yield f"{prefix}.{theirs}{number}", block[0]
            else:
                yield f"{prefix}.{theirs}{number}", block
    for extra in ("p6", "p7") if first == 2 else ():
        yield f"{prefix}.top_blocks.{extra}", pyramid.get_submodule("extra_blocks").get_submodule(extra)


def _faster_rcnn(head: FasterRcnnHead) -> Named:
    yield "rpn.head.conv", head.get_submodule("rpn.head.conv.0.0")
    yield "rpn.head.cls_logits", head.get_submodule("rpn.head.cls_logits")
    yield "rpn.head.bbox_pred", head.get_submodule("rpn.head.bbox_pred")
    extractor = "roi_heads.box.feature_extractor"
    for number, (conv, norm) in enumerate(((0, 1), (3, 4), (6, 7), (9, 10))):
        layer = head.get_submodule(f"roi.box_head.{number}")
        yield f"{extractor}.xconvs.{conv}", layer.get_submodule("conv")
        yield f"{extractor}.xconvs.{norm}", layer.get_submodule("norm")
    yield f"{extractor}.fc6", head.get_submodule("roi.box_head.5")
    yield "roi_heads.box.predictor.cls_score", head.get_submodule("roi.box_predictor.cls_score")
    yield "roi_heads.box.predictor.bbox_pred", head.get_submodule("roi.box_predictor.bbox_pred")


def _retinanet(head: RetinaNetHead) -> Named:
    for number, place in enumerate((0, 2, 4, 6)):
        yield f"rpn.head.cls_tower.{place}", head.get_submodule(f"classification.conv.{number}.0")
        yield f"rpn.head.bbox_tower.{place}", head.get_submodule(f"regression.conv.{number}.0")
    yield "rpn.head.cls_logits", head.get_submodule("classification.cls_logits")
    yield "rpn.head.bbox_pred", head.get_submodule("regression.bbox_reg")

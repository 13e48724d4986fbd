"""Names of tensors: ours -> those of DetNAS's public code (Chen et al. 2019, arXiv:1903.10979).

The backbone's follow ShuffleNet-Series; the detectors' those of maskrcnn-benchmark, of which megvii-model/DetNAS is a
fork. They were derived from the module definitions: the published files of detectors could not be had to confirm them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from nasdet_core.search_spaces.shufflenet_chain import CANDIDATES, XCEPTION, ChainLayer, DetNasBackbone

DetectorForm = Literal["faster-rcnn", "retinanet"]
Names = dict[str, str]  # our name -> reference name of every tensor
Pairs = Iterator[tuple[str, str]]
LayerNames = tuple[str, str, str]  # our layer, the reference's convolution, its norm

REFERENCE_CANDIDATES = ("shufflenet_3x3", "shufflenet_5x5", "shufflenet_7x7", "xception_3x3")
LAST_CONV, CLASSIFIER = "last_conv.", "fc."  # what the ImageNet form has beyond the body
NORM_TENSORS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")

SINGLE_BODY, SINGLE_FPN = "backbone.body.", "backbone.fpn."
SUPERNET_BODY, SUPERNET_FPN = "backbone.", "fpn."  # its forward takes a path, so body and pyramid stand side by side
ANCHORS = "rpn.anchor_generator.cell_anchors."  # buffers, one per level


def body_names(part: DetNasBackbone) -> Names:
    """Of a backbone, a supernet when it is searched."""
    return dict(_body_names(part))


def classifier_names(part: DetNasBackbone) -> Names:
    """Of the ImageNet form."""
    names = {f"body.{ours}": reference for ours, reference in _body_names(part)}
    names |= dict(_conv_norm("last_conv", f"{LAST_CONV}conv", f"{LAST_CONV}bn"))
    names |= dict(_weight_bias("last_conv.conv", f"{LAST_CONV}conv"))
    return names | dict(_weight_bias("classifier", f"{CLASSIFIER}fc"))


def detector_names(form: DetectorForm, part: DetNasBackbone) -> Names:
    """Of a whole detector, but for the buffers of its anchors."""
    body, fpn = (SUPERNET_BODY, SUPERNET_FPN) if part.genotype is None else (SINGLE_BODY, SINGLE_FPN)
    names = {f"backbone.{ours}": body + reference for ours, reference in _body_names(part)}
    if form == "faster-rcnn":
        return names | dict(_normed_fpn(fpn)) | dict(_faster_rcnn_head())
    return names | dict(_plain_fpn(fpn)) | dict(_retinanet_head())


def _normed_fpn(prefix: str) -> Pairs:
    """C2 to C5; each convolution, with bias, has a norm behind it."""
    for ours, theirs in (("inner_blocks", "fpn_inner"), ("layer_blocks", "fpn_layer")):
        for level in range(4):
            block, reference = f"neck.pyramid.{ours}.{level}", f"{prefix}{theirs}{level + 1}"
            yield from _weight_bias(f"{block}.0", f"{reference}.0")
            yield from _norm(f"{block}.1", f"{reference}.1")


def _plain_fpn(prefix: str) -> Pairs:
    """C3 to C5, P6 and P7; no norms. The reference counts its levels from C2 here too."""
    for ours, theirs in (("inner_blocks", "fpn_inner"), ("layer_blocks", "fpn_layer")):
        for level in range(3):
            yield from _weight_bias(f"neck.pyramid.{ours}.{level}.0", f"{prefix}{theirs}{level + 2}")
    for extra in ("p6", "p7"):
        yield from _weight_bias(f"neck.pyramid.extra_blocks.{extra}", f"{prefix}top_blocks.{extra}")


def _faster_rcnn_head() -> Pairs:
    yield from _weight_bias("head.rpn.head.conv.0.0", "rpn.head.conv")
    for layer in ("cls_logits", "bbox_pred"):
        yield from _weight_bias(f"head.rpn.head.{layer}", f"rpn.head.{layer}")
    box = "roi_heads.box"
    for conv in range(4):  # convolution, norm, ReLU
        ours, theirs = f"head.roi.box_head.{conv}", f"{box}.feature_extractor.xconvs"
        yield from _weight_bias(f"{ours}.conv", f"{theirs}.{3 * conv}")
        yield from _norm(f"{ours}.norm", f"{theirs}.{3 * conv + 1}")
    yield from _weight_bias("head.roi.box_head.5", f"{box}.feature_extractor.fc6")
    for layer in ("cls_score", "bbox_pred"):
        yield from _weight_bias(f"head.roi.box_predictor.{layer}", f"{box}.predictor.{layer}")


def _retinanet_head() -> Pairs:
    for ours, theirs in (("classification", "cls_tower"), ("regression", "bbox_tower")):
        for conv in range(4):  # convolution, ReLU
            yield from _weight_bias(f"head.{ours}.conv.{conv}.0", f"rpn.head.{theirs}.{2 * conv}")
    yield from _weight_bias("head.classification.cls_logits", "rpn.head.cls_logits")
    yield from _weight_bias("head.regression.bbox_reg", "rpn.head.bbox_pred")


def _body_names(part: DetNasBackbone) -> Pairs:
    yield "stem.conv.bias", "first_conv.conv.bias"
    yield from _conv_norm("stem", "first_conv.conv", "first_conv.bn")
    stage_start = 0
    for index, layer in enumerate(part.layers):
        if layer.stride == 2:
            stage_start = index
        tag = f"{layer.stage}{chr(ord('a') + index - stage_start)}"
        chosen = range(len(CANDIDATES)) if part.genotype is None else [part.genotype[index]]
        for candidate in chosen:
            # A supernet has the candidate as one more index.
            place = f"{index}.{candidate}" if part.genotype is None else f"{index}"
            for ours, conv, norm in _block_names(layer, candidate, tag):
                yield from _conv_norm(f"blocks.{place}.{ours}", f"features.{place}.{conv}", f"features.{place}.{norm}")


def _block_names(layer: ChainLayer, candidate: int, tag: str) -> list[LayerNames]:
    name = f"{tag}_{REFERENCE_CANDIDATES[candidate]}"
    if candidate == XCEPTION:
        names = [
            layer_names
            for pair, letter in enumerate("abc")
            for layer_names in (
                _depthwise(f"main.{2 * pair}", f"conv.{pair}", f"{name}_branch2{letter}"),
                _pointwise(f"main.{2 * pair + 1}", f"conv.{pair}", f"{name}_branch2{letter}"),
            )
        ]
    else:
        names = [
            _pointwise("main.0", "conv.0", f"{name}_branch2a"),
            _depthwise("main.1", "conv.1", f"{name}_branch2b"),
            _pointwise("main.2", "conv.1", f"{name}_branch2b"),
        ]
    if layer.stride == 2:
        names.append(_depthwise("projection.0", "proj_conv", f"{tag}_proj"))
        names.append(_pointwise("projection.1", "proj_conv", f"{tag}_proj"))
    return names


def _depthwise(ours: str, group: str, name: str) -> LayerNames:
    return ours, f"{group}.interstellar{name}_s", f"{group}.interstellar{name}_s_bn"


def _pointwise(ours: str, group: str, name: str) -> LayerNames:
    return ours, f"{group}.interstellar{name}", f"{group}.bn{name}"


def _conv_norm(ours: str, conv: str, norm: str) -> Pairs:
    yield f"{ours}.conv.weight", f"{conv}.weight"
    yield from _norm(f"{ours}.norm", norm)


def _norm(ours: str, theirs: str) -> Pairs:
    for tensor in NORM_TENSORS:
        yield f"{ours}.{tensor}", f"{theirs}.{tensor}"


def _weight_bias(ours: str, theirs: str) -> Pairs:
    for tensor in ("weight", "bias"):
        yield f"{ours}.{tensor}", f"{theirs}.{tensor}"

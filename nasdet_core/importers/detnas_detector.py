"""DetNAS's COCO detectors in our parts, and what our parts do otherwise.

The reference is maskrcnn-benchmark. Alike: pyramid (P6 from P5 in both forms), anchors (our heads' anchor_geometry
"detectron"), order of channels, anchors and classes (background first in Faster R-CNN, none in RetinaNet), flattening
in front of fc6, RoIAlign without half-pixel shift, thresholds. Boxes there have the last pixel counted in; ours, whose
right and lower sides lie a pixel further, have not: the arithmetic is the same. RetinaNet's offsets are weighted 10,
10, 5, 5 there and 1 here; the weights of the last convolution take that up. Not alike: RoIAlign gets our boxes, which
are a pixel longer than the reference's.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nasdet_core.errors import CheckpointError, SettingError
from nasdet_core.importers.detnas_contents import DetNasContents
from nasdet_core.importers.detnas_names import ANCHORS, DetectorForm
from nasdet_core.importers.named_weights import Weights
from nasdet_core.search_spaces.detector_space import DetectorSpace
from nasdet_core.search_spaces.fpn_neck import FpnNeck
from nasdet_core.search_spaces.heads_fixed import FasterRcnnHeadSpec, FixedHead, RetinaNetHeadSpec

ASPECT_RATIOS = (0.5, 1.0, 2.0)
_STRIDES: Mapping[DetectorForm, tuple[int, ...]] = {
    "faster-rcnn": (4, 8, 16, 32, 64),
    "retinanet": (8, 16, 32, 64, 128),
}
_SIDES: Mapping[DetectorForm, tuple[float, ...]] = {  # of the anchors, in strides
    "faster-rcnn": (8.0,),
    "retinanet": (4.0, 4.0 * 2 ** (1 / 3), 4.0 * 2 ** (2 / 3)),
}
RETINANET_OFFSET_WEIGHTS = (10.0, 10.0, 5.0, 5.0)

NOTES: Mapping[DetectorForm, tuple[str, ...]] = {
    "faster-rcnn": (
        "RoIAlign takes boxes that are a pixel longer than the reference's: expect an AP that differs a little from "
        "the published one",
    ),
    "retinanet": (),
}


def detector_space(contents: DetNasContents) -> DetectorSpace:
    """Backbone, neck and head with the reference's test settings."""
    try:
        return DetectorSpace(contents.part, _neck(contents), _head(contents), contents.num_classes)
    except SettingError as error:
        raise CheckpointError(f"the checkpoint's detector cannot be built: {error}") from error


def _neck(contents: DetNasContents) -> FpnNeck:
    channels = contents.neck_channels or 0
    if contents.form == "faster-rcnn":
        return FpnNeck(channels=channels, levels=("c2", "c3", "c4", "c5"), extra_levels=1, norm="batch")
    return FpnNeck(channels=channels, levels=("c3", "c4", "c5"), extra_levels=2, norm="none")


def _head(contents: DetNasContents) -> FixedHead:
    if contents.form == "faster-rcnn":
        return FasterRcnnHeadSpec(
            proposals=1000,
            box_head="4conv1fc",
            score_threshold=0.05,
            nms_iou=0.5,
            detections=100,
            anchor_geometry="detectron",
        )
    return RetinaNetHeadSpec(
        convs=4, score_threshold=0.05, pre_nms=1000, nms_iou=0.4, detections=100, anchor_geometry="detectron"
    )


def split_off_anchors(weights: Mapping[str, Tensor]) -> tuple[Weights, Weights]:
    """The anchors' buffers by their level, and everything else."""
    anchors = {name.removeprefix(ANCHORS): tensor for name, tensor in weights.items() if name.startswith(ANCHORS)}
    return anchors, {name: tensor for name, tensor in weights.items() if not name.startswith(ANCHORS)}


def check_anchors(anchors: Mapping[str, Tensor], form: DetectorForm) -> None:
    """CheckpointError unless sizes, ratios and strides are those our head stands for; they may be absent."""
    wanted = {str(level): reference_anchors(form, stride) for level, stride in enumerate(_STRIDES[form])}
    for level, cells in anchors.items():
        fits = level in wanted and cells.shape == wanted[level].shape
        if not fits or not torch.allclose(cells.double(), wanted[level], rtol=0, atol=0.01):
            raise CheckpointError(
                f"the anchors of a DetNAS {form} were expected in {ANCHORS}{level[:20]}, but others came; our head "
                "has no setting for them"
            )


def reference_anchors(form: DetectorForm, stride: int) -> Tensor:
    """[A, 4] xyxy in pixels of one cell, the last pixel counted in; ratio by ratio, small to large."""
    ratios = torch.tensor(ASPECT_RATIOS, dtype=torch.float64)
    widths = (stride / ratios.sqrt()).round()
    heights = (widths * ratios).round()
    sides = torch.tensor(_SIDES[form], dtype=torch.float64)
    half = torch.stack((widths, heights), dim=1)[:, None] * sides[:, None] / 2  # [ratios, sides, 2]
    centre = stride / 2
    return torch.cat((centre - half, centre + half - 1), dim=-1).flatten(0, 1)


def unweighted_offsets(tensor: Tensor) -> Tensor:
    """Weight or bias of RetinaNet's last convolution, [9 * 4, ...]: for offsets that carry no weights."""
    weights = torch.tensor(RETINANET_OFFSET_WEIGHTS, dtype=torch.float64).repeat(len(tensor) // 4)
    return (tensor.double() / weights.view(-1, *[1] * (tensor.dim() - 1))).float()

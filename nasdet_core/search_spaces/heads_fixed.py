"""Fixed heads: FCOS (arXiv:1904.01355), RetinaNet (arXiv:1708.02002), Faster R-CNN (arXiv:1506.01497).

They mirror torchvision's heads layer by layer, so that their cost in closed form is that of the module.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from nasdet_core.errors import IncompatiblePartsError
from nasdet_core.search_spaces.base import (
    Cost,
    CostFactors,
    FixedPart,
    Genotype,
    ImageSize,
    LevelSpec,
    Role,
    SettingValue,
    total_cost,
)
from nasdet_core.search_spaces.convolution_cost import convolution, linear
from nasdet_core.search_spaces.pyramid import check_doubling, describe_levels, shared_channels
from nasdet_core.search_spaces.settings import one_of, real_number, refuse_unknown_keys, whole_number

RETINANET_ANCHORS = 9  # 3 scales x 3 ratios at every position
RPN_ANCHORS = 3  # one scale per level x 3 ratios
ROI_SIZE = 7  # RoIAlign gives 7x7 cells per proposal
BOX_HEAD_FEATURES = 1024
BOX_HEADS = ("4conv1fc", "2fc")
# Where anchors stand and how they are rounded. torchvision: on the corner of a cell, to whole pixels. detectron (and
# maskrcnn-benchmark): on its middle, ratios to whole pixels at the size of the stride.
ANCHOR_GEOMETRIES = ("torchvision", "detectron")


class FixedHead(FixedPart, ABC):
    """What the fixed heads share. Subclasses are frozen dataclasses whose fields are their settings.

    What a head reports: the `pre_nms` best candidates of each level (dense heads) that score over
    `score_threshold` go into class-wise suppression at `nms_iou`; at most `detections` per image come out.
    """

    name: ClassVar[str]
    preferred_neck: ClassVar[Mapping[str, SettingValue]]
    score_threshold: float
    nms_iou: float
    detections: int

    def _check_selection(self) -> None:
        what = f"head {self.name!r}"
        # Floats, so that 1 and 1.0 are one setting with one identity.
        object.__setattr__(self, "score_threshold", real_number(f"{what}: score_threshold", self.score_threshold, 0, 1))
        object.__setattr__(self, "nms_iou", real_number(f"{what}: nms_iou", self.nms_iou, 0, 1))
        whole_number(f"{what}: detections", self.detections, 1, 10_000)

    @property
    def role(self) -> Role:
        return "head"

    @property
    def settings(self) -> Mapping[str, SettingValue]:
        return {key: getattr(self, key) for key in _keys(type(self))}

    def check_levels(self, in_levels: Sequence[LevelSpec]) -> None:
        """Any pyramid of at least one level: strides double, channels are the same everywhere."""
        what = f"head {self.name!r}"
        check_doubling(what, in_levels)
        shared_channels(what, in_levels)

    def cost(self, genotype: Genotype, image_size: ImageSize, in_levels: Sequence[LevelSpec], num_classes: int) -> Cost:
        """Cost for one image; weights are shared between the levels, multiplications are not."""
        self.validate(genotype)
        self.check_levels(in_levels)
        positions = sum(level.positions(image_size) for level in in_levels)
        return self._cost(in_levels[0].channels, positions, num_classes)

    def cost_factors(self, image_size: ImageSize, in_levels: Sequence[LevelSpec], num_classes: int) -> CostFactors:
        return CostFactors(self.cost((), image_size, in_levels, num_classes), ())

    @abstractmethod
    def _cost(self, channels: int, positions: int, num_classes: int) -> Cost:
        """Cost for `positions` cells over all levels."""

    def to_description(self) -> dict[str, Any]:
        return {"model": self.name, **self.settings}


def _towers(channels: int, positions: int, convs: int, *, norm: bool) -> Cost:
    """A classification and a regression tower of 3x3 convolutions with bias."""
    return convolution(channels, channels, 3, positions, bias=True, norm=norm).repeated(2 * convs)


@dataclass(frozen=True)
class FcosHeadSpec(FixedHead):
    """FCOS: per tower `convs` x (3x3 convolution, GroupNorm, ReLU); class scores, distances, centre-ness."""

    name: ClassVar[str] = "fcos"
    preferred_neck: ClassVar[Mapping[str, SettingValue]] = {"levels": ("c3", "c4", "c5"), "extra_levels": 2}

    convs: int = 4
    norm_groups: int = 32
    score_threshold: float = 0.05
    pre_nms: int = 1000
    nms_iou: float = 0.6
    detections: int = 100

    def __post_init__(self) -> None:
        whole_number("head 'fcos': convs", self.convs, 0, 16)
        whole_number("head 'fcos': norm_groups", self.norm_groups, 1, 4096)
        self._check_selection()
        whole_number("head 'fcos': pre_nms", self.pre_nms, 1, 100_000)

    def check_levels(self, in_levels: Sequence[LevelSpec]) -> None:
        super().check_levels(in_levels)
        channels = in_levels[0].channels
        if channels % self.norm_groups:
            raise IncompatiblePartsError(
                f"head 'fcos' needs channels that its {self.norm_groups} norm groups divide, but its levels "
                f"have {channels} channels; change the neck's channels or the head's norm_groups"
            )

    def _cost(self, channels: int, positions: int, num_classes: int) -> Cost:
        outputs = num_classes + 4 + 1  # scores, distances to the four sides, centre-ness
        return _towers(channels, positions, self.convs, norm=True) + convolution(
            channels, outputs, 3, positions, bias=True
        )


@dataclass(frozen=True)
class RetinaNetHeadSpec(FixedHead):
    """RetinaNet: per tower `convs` x (3x3 convolution, ReLU) without norm; 9 anchors per position."""

    name: ClassVar[str] = "retinanet"
    preferred_neck: ClassVar[Mapping[str, SettingValue]] = {"levels": ("c3", "c4", "c5"), "extra_levels": 2}

    convs: int = 4
    score_threshold: float = 0.05
    pre_nms: int = 1000
    nms_iou: float = 0.5
    detections: int = 100
    anchor_geometry: str = "torchvision"

    def __post_init__(self) -> None:
        whole_number("head 'retinanet': convs", self.convs, 0, 16)
        one_of("head 'retinanet': anchor_geometry", self.anchor_geometry, ANCHOR_GEOMETRIES)
        self._check_selection()
        whole_number("head 'retinanet': pre_nms", self.pre_nms, 1, 100_000)

    def _cost(self, channels: int, positions: int, num_classes: int) -> Cost:
        outputs = RETINANET_ANCHORS * (num_classes + 4)
        return _towers(channels, positions, self.convs, norm=False) + convolution(
            channels, outputs, 3, positions, bias=True
        )


@dataclass(frozen=True)
class FasterRcnnHeadSpec(FixedHead):
    """Faster R-CNN: a region proposal network on every level, then a box head on each of `proposals` regions.

    `proposals` is the number of regions kept per image at test time; the cost counts the box head that many
    times. box_head "4conv1fc" is DetNAS's (four 3x3 convolutions with bias and batch norm on 7x7 cells, one
    fully connected layer of 1024); "2fc" is torchvision's (two fully connected layers of 1024). Both as wide
    as the neck's channels.
    """

    name: ClassVar[str] = "faster-rcnn"
    preferred_neck: ClassVar[Mapping[str, SettingValue]] = {
        "levels": ("c2", "c3", "c4", "c5"),
        "extra_levels": 1,
    }

    proposals: int = 1000
    box_head: str = "4conv1fc"
    score_threshold: float = 0.05
    nms_iou: float = 0.5
    detections: int = 100
    anchor_geometry: str = "torchvision"

    def __post_init__(self) -> None:
        whole_number("head 'faster-rcnn': proposals", self.proposals, 1, 100_000)
        one_of("head 'faster-rcnn': anchor_geometry", self.anchor_geometry, ANCHOR_GEOMETRIES)
        one_of("head 'faster-rcnn': box_head", self.box_head, BOX_HEADS)
        self._check_selection()

    def check_levels(self, in_levels: Sequence[LevelSpec]) -> None:
        super().check_levels(in_levels)
        if in_levels[0].stride != 4:
            raise IncompatiblePartsError(
                "head 'faster-rcnn' needs levels from stride 4 on, but the neck gives "
                f"{describe_levels(in_levels)}; give the neck levels [c2, c3, c4, c5]"
            )

    def _cost(self, channels: int, positions: int, num_classes: int) -> Cost:
        proposal_network = convolution(channels, channels, 3, positions, bias=True) + convolution(
            channels, RPN_ANCHORS * (1 + 4), 1, positions, bias=True
        )
        box = self._box_head_cost(channels, num_classes)
        return proposal_network + Cost(box.macs * self.proposals, box.params)

    def _box_head_cost(self, channels: int, num_classes: int) -> Cost:
        """For one region. Classes include the background, boxes are regressed for each class."""
        cells = ROI_SIZE**2
        predictor = linear(BOX_HEAD_FEATURES, (num_classes + 1) * (1 + 4))
        if self.box_head == "2fc":
            hidden = linear(channels * cells, BOX_HEAD_FEATURES) + linear(BOX_HEAD_FEATURES, BOX_HEAD_FEATURES)
            return hidden + predictor
        convs = convolution(channels, channels, 3, cells, bias=True, norm=True).repeated(4)
        return total_cost((convs, linear(channels * cells, BOX_HEAD_FEATURES), predictor))


def _keys(head: type[FixedHead]) -> tuple[str, ...]:
    """The settings of a head: the fields of its dataclass."""
    return tuple(field.name for field in fields(head))  # type: ignore[arg-type]  # subclasses are dataclasses


def fcos_from_description(name: str, description: Mapping[str, Any]) -> FcosHeadSpec:
    refuse_unknown_keys(f"head {name!r}", description, _keys(FcosHeadSpec))
    return FcosHeadSpec(**description)


def retinanet_from_description(name: str, description: Mapping[str, Any]) -> RetinaNetHeadSpec:
    refuse_unknown_keys(f"head {name!r}", description, _keys(RetinaNetHeadSpec))
    return RetinaNetHeadSpec(**description)


def faster_rcnn_from_description(name: str, description: Mapping[str, Any]) -> FasterRcnnHeadSpec:
    refuse_unknown_keys(f"head {name!r}", description, _keys(FasterRcnnHeadSpec))
    return FasterRcnnHeadSpec(**description)

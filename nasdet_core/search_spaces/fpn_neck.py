"""Feature pyramid network as a fixed neck (Lin et al. 2017, arXiv:1612.03144, section 3).

Per level a 1x1 lateral and a 3x3 output convolution, both with bias; top-down by nearest upsampling and
addition. `norm: batch` puts a batch norm after each of them and keeps the bias, as DetNAS's Faster R-CNN
does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nasdet_core.search_spaces.base import (
    NO_COST,
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
from nasdet_core.search_spaces.convolution_cost import convolution
from nasdet_core.search_spaces.pyramid import check_doubling, select_levels
from nasdet_core.search_spaces.settings import names, one_of, refuse_unknown_keys, whole_number

NORMS = ("none", "batch")


@dataclass(frozen=True)
class FpnNeck(FixedPart):
    """FPN over `levels` of the backbone, with extra coarse levels on top.

    extra_levels 0: none. 1: P6 by subsampling P5 (a 1x1 max pooling of stride 2, no weights), as in Faster
    R-CNN. 2: P6 and P7 by 3x3 convolutions of stride 2, P6 on the output P5, as in RetinaNet and FCOS.
    """

    channels: int = 256
    levels: tuple[str, ...] = ("c3", "c4", "c5")
    extra_levels: int = 2
    norm: str = "none"

    def __post_init__(self) -> None:
        whole_number("neck 'fpn': channels", self.channels, 1, 4096)
        object.__setattr__(self, "levels", names("neck 'fpn': levels", self.levels))
        whole_number("neck 'fpn': extra_levels", self.extra_levels, 0, 2)
        one_of("neck 'fpn': norm", self.norm, NORMS)

    @property
    def role(self) -> Role:
        return "neck"

    @property
    def name(self) -> str:
        return "fpn"

    @property
    def settings(self) -> Mapping[str, SettingValue]:
        return {
            "channels": self.channels,
            "levels": self.levels,
            "extra_levels": self.extra_levels,
            "norm": self.norm,
        }

    def in_levels(self, backbone_levels: Sequence[LevelSpec]) -> tuple[LevelSpec, ...]:
        """The backbone levels it reads, from fine to coarse."""
        taken = select_levels("neck 'fpn'", self.levels, backbone_levels)
        check_doubling("neck 'fpn'", taken)
        return taken

    def out_levels(self, in_levels: Sequence[LevelSpec]) -> tuple[LevelSpec, ...]:
        """P-levels, named by their stride: stride 8 is p3."""
        strides = [level.stride for level in self.in_levels(in_levels)]
        strides += [strides[-1] * 2**step for step in range(1, self.extra_levels + 1)]
        return tuple(LevelSpec(f"p{stride.bit_length() - 1}", self.channels, stride) for stride in strides)

    def cost(self, genotype: Genotype, image_size: ImageSize, in_levels: Sequence[LevelSpec]) -> Cost:
        self.validate(genotype)
        normed = self.norm == "batch"
        cost = NO_COST
        for level in self.in_levels(in_levels):
            positions = level.positions(image_size)
            cost += convolution(level.channels, self.channels, 1, positions, bias=True, norm=normed)
            cost += convolution(self.channels, self.channels, 3, positions, bias=True, norm=normed)
        return cost + self._extra_cost(image_size, in_levels)

    def cost_factors(self, image_size: ImageSize, in_levels: Sequence[LevelSpec]) -> CostFactors:
        return CostFactors(self.cost((), image_size, in_levels), ())

    def _extra_cost(self, image_size: ImageSize, in_levels: Sequence[LevelSpec]) -> Cost:
        if self.extra_levels != 2:
            return NO_COST  # subsampling multiplies nothing
        extra = self.out_levels(in_levels)[-2:]
        return total_cost(
            convolution(self.channels, self.channels, 3, level.positions(image_size), bias=True) for level in extra
        )

    def to_description(self) -> dict[str, Any]:
        return {"model": self.name, **self.settings, "levels": list(self.levels)}


def fpn_from_description(name: str, description: Mapping[str, Any]) -> FpnNeck:
    refuse_unknown_keys(f"neck {name!r}", description, ("channels", "levels", "extra_levels", "norm"))
    return FpnNeck(**description)

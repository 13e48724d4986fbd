"""DetNAS backbones: a chain of ShuffleNetV2-like choice blocks (Chen et al. 2019, arXiv:1903.10979).

Stem, then four stages; the first block of each stage halves the resolution, and every block is one of four
candidates. detnas-300m has 20 blocks (4**20 paths), detnas-1.3g has 40; detnas-3.8g is detnas-1.3g made
wider. Costs follow the convolutions one by one, so they hold for any width and any image size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

from nasdet_core.errors import SettingError, UnknownNameError
from nasdet_core.search_spaces.base import (
    ChoiceBlock,
    ChoicePart,
    Cost,
    CostFactors,
    Genotype,
    ImageSize,
    LevelSpec,
    Role,
    SettingValue,
    total_cost,
    validate_genotype,
)
from nasdet_core.search_spaces.convolution_cost import convolution, depthwise, linear
from nasdet_core.search_spaces.settings import one_of, parse_genotype, real_number, refuse_unknown_keys

CANDIDATES = ("shuffle_3x3", "shuffle_5x5", "shuffle_7x7", "xception_3x3")
KERNELS = (3, 5, 7, 3)  # of candidate 0..3; also the kernel of the projection branch at stride 2
XCEPTION = 3  # index of the candidate whose main branch is three depthwise-separable convolutions

# How a stride-1 block divides its channels. "shuffle" is DetNAS's method 1 (channel shuffle with two groups,
# then halves), used while weights are shared; "even_odd" is method 2, used by every published single network.
SPLITS = ("shuffle", "even_odd")

STAGE_STRIDES = (4, 8, 16, 32)
CLASSIFIER_IMAGE_SIZE = (224, 224)


@dataclass(frozen=True, slots=True)
class ChainShape:
    """Macro structure of one published space at width 1."""

    stage_blocks: tuple[int, int, int, int]
    stem_channels: int
    stage_channels: tuple[int, int, int, int]
    last_conv_channels: int  # of the ImageNet form


SHAPES: Mapping[str, ChainShape] = {
    "detnas-300m": ChainShape((4, 4, 8, 4), 16, (64, 160, 320, 640), 1024),
    "detnas-1.3g": ChainShape((8, 8, 16, 8), 48, (96, 240, 480, 960), 1024),
    # The published 29.5M parameters fit a last convolution of 1024; both published codes now say 1728.
    "detnas-3.8g": ChainShape((8, 8, 16, 8), 72, (172, 432, 864, 1728), 1728),
}


@dataclass(frozen=True, slots=True)
class ChainLayer:
    """One position of the chain: what a choice block maps from and to."""

    name: str  # "stage3.5": stage and block counted from 1
    stage: int  # 1..4
    in_channels: int
    out_channels: int
    stride: int  # 1 or 2, of this block alone

    @property
    def mid_channels(self) -> int:
        return self.out_channels // 2

    @property
    def branch_channels(self) -> tuple[int, int]:
        """Channels that enter and leave the main branch."""
        if self.stride == 2:
            return self.in_channels, self.out_channels - self.in_channels
        return self.out_channels // 2, self.out_channels // 2


@dataclass(frozen=True)
class DetNasBackbone(ChoicePart):
    """A DetNAS backbone, searched (`genotype` None) or fixed."""

    name: str
    width: float = 1.0
    split: str = "shuffle"
    genotype: Genotype | None = None

    def __post_init__(self) -> None:
        if self.name not in SHAPES:
            raise UnknownNameError(f"unknown DetNAS space {self.name!r}; known spaces are {', '.join(SHAPES)}")
        object.__setattr__(self, "width", real_number(f"{self.name}: width", self.width, 0.01, 8.0))
        one_of(f"{self.name}: split", self.split, SPLITS)
        widths = (self.stem_channels, *self.stage_channels)
        if any(wider <= narrower for narrower, wider in pairwise(widths)):
            raise SettingError(
                f"{self.name}: each stage must be wider than the one before it, but width {self.width:g} "
                f"gives {widths} channels for stem and stages; use a larger width"
            )
        if self.genotype is not None:
            validate_genotype(self._choice_blocks, self.genotype)
            object.__setattr__(self, "genotype", tuple(self.genotype))

    @property
    def role(self) -> Role:
        return "backbone"

    @property
    def settings(self) -> Mapping[str, SettingValue]:
        return {"width": self.width, "split": self.split}

    # --- structure ------------------------------------------------------------------------------------------

    @property
    def stage_blocks(self) -> tuple[int, ...]:
        return SHAPES[self.name].stage_blocks

    @property
    def stem_channels(self) -> int:
        return scaled_channels(SHAPES[self.name].stem_channels, self.width)

    @property
    def stage_channels(self) -> tuple[int, ...]:
        return tuple(scaled_channels(channels, self.width) for channels in SHAPES[self.name].stage_channels)

    @property
    def last_conv_channels(self) -> int:
        """Of the ImageNet form; not scaled by `width`."""
        return SHAPES[self.name].last_conv_channels

    @cached_property
    def layers(self) -> tuple[ChainLayer, ...]:
        layers = []
        in_channels = self.stem_channels
        for stage, (depth, channels) in enumerate(zip(self.stage_blocks, self.stage_channels, strict=True), start=1):
            for position in range(1, depth + 1):
                stride = 2 if position == 1 else 1
                layers.append(ChainLayer(f"stage{stage}.{position}", stage, in_channels, channels, stride))
                in_channels = channels
        return tuple(layers)

    @cached_property
    def _choice_blocks(self) -> tuple[ChoiceBlock, ...]:
        return tuple(ChoiceBlock(layer.name, CANDIDATES, STAGE_STRIDES[layer.stage - 1]) for layer in self.layers)

    @property
    def blocks(self) -> tuple[ChoiceBlock, ...]:
        return self._choice_blocks if self.genotype is None else ()

    def feature_levels(self) -> tuple[LevelSpec, ...]:
        """C2..C5: the ends of stages 1 to 4."""
        return tuple(
            LevelSpec(f"c{stage + 1}", channels, stride)
            for stage, (channels, stride) in enumerate(zip(self.stage_channels, STAGE_STRIDES, strict=True), start=1)
        )

    def encoding(self, genotype: Genotype) -> Genotype:
        """The choice of every block; for a fixed backbone `genotype` is the empty tuple."""
        self.validate(genotype)
        return self.canonical(genotype) if self.genotype is None else self.genotype

    def fixed(self, genotype: Genotype, *, from_scratch: bool = False) -> DetNasBackbone:
        """The backbone with its choices fixed.

        Weights are not portable between the split methods: what inherits supernet weights keeps the
        supernet's split, what is trained `from_scratch` uses DetNAS's method 2.
        """
        split = "even_odd" if from_scratch else self.split
        return replace(self, genotype=self.encoding(genotype), split=split)

    # --- cost -----------------------------------------------------------------------------------------------

    def cost(self, genotype: Genotype, image_size: ImageSize) -> Cost:
        """Stem and blocks, which is what a detector runs and what DetNAS limits."""
        choices = self.encoding(genotype)
        blocks = (
            candidate_cost(layer, choice, image_size, STAGE_STRIDES[layer.stage - 1])
            for layer, choice in zip(self.layers, choices, strict=True)
        )
        return self.stem_cost(image_size) + total_cost(blocks)

    def cost_factors(self, image_size: ImageSize) -> CostFactors:
        """One table per searched block, and the stem; of a fixed backbone everything is constant."""
        if self.genotype is not None:
            return CostFactors(self.cost((), image_size), ())
        return CostFactors(self.stem_cost(image_size), self._tables(image_size))

    def stem_cost(self, image_size: ImageSize) -> Cost:
        positions = LevelSpec("stem", self.stem_channels, 2).positions(image_size)
        return convolution(3, self.stem_channels, 3, positions, bias=True, norm=True)

    def supernet_params(self) -> int:
        """Parameters of the module that holds every candidate of every block; candidates share nothing."""
        tables = self._tables(CLASSIFIER_IMAGE_SIZE)
        return self.stem_cost(CLASSIFIER_IMAGE_SIZE).params + sum(c.params for table in tables for c in table)

    def classifier_cost(
        self,
        genotype: Genotype,
        image_size: ImageSize = CLASSIFIER_IMAGE_SIZE,
        last_conv: int | None = None,
        num_classes: int = 1000,
    ) -> Cost:
        """The whole ImageNet network: body, last convolution (`last_conv` channels) and classifier."""
        return self.cost(genotype, image_size) + self.classifier_head_cost(image_size, last_conv, num_classes)

    def classifier_head_cost(
        self,
        image_size: ImageSize = CLASSIFIER_IMAGE_SIZE,
        last_conv: int | None = None,
        num_classes: int = 1000,
    ) -> Cost:
        """What the ImageNet form has beyond the body: last convolution and classifier."""
        channels = self.last_conv_channels if last_conv is None else last_conv
        c5 = self.feature_levels()[-1]
        last = convolution(c5.channels, channels, 1, c5.positions(image_size), bias=True, norm=True)
        return last + linear(channels, num_classes)

    def _tables(self, image_size: ImageSize) -> tuple[tuple[Cost, ...], ...]:
        return tuple(
            tuple(
                candidate_cost(layer, choice, image_size, STAGE_STRIDES[layer.stage - 1])
                for choice in range(len(CANDIDATES))
            )
            for layer in self.layers
        )

    # --- description ----------------------------------------------------------------------------------------

    def to_description(self) -> dict[str, Any]:
        description: dict[str, Any] = {"space": self.name, "width": self.width, "split": self.split}
        if self.genotype is not None:
            description["genotype"] = list(self.genotype)
        return description


def scaled_channels(channels: int, width: float) -> int:
    """`channels` times `width`, rounded to a multiple of 4 (the channel split needs it), at least 4."""
    return max(4, int(channels * width / 4 + 0.5) * 4)


def candidate_cost(layer: ChainLayer, choice: int, image_size: ImageSize, out_stride: int) -> Cost:
    """Cost of one candidate at one position; `out_stride` is that of its output with respect to the image."""
    height, width = image_size
    positions = -(-height // out_stride) * -(-width // out_stride)
    in_stride = out_stride // layer.stride
    in_positions = -(-height // in_stride) * -(-width // in_stride)
    if choice == XCEPTION:
        main = _xception_branch(layer, positions)
    else:
        main = _shuffle_branch(layer, KERNELS[choice], positions, in_positions)
    if layer.stride == 1:
        return main
    return main + _projection_branch(layer.in_channels, KERNELS[choice], positions)


def _shuffle_branch(layer: ChainLayer, kernel: int, positions: int, in_positions: int) -> Cost:
    """1x1, depthwise (which carries the stride), 1x1; a batch norm after each."""
    enters, leaves = layer.branch_channels
    mid = layer.mid_channels
    return (
        convolution(enters, mid, 1, in_positions, bias=False, norm=True)
        + depthwise(mid, kernel, positions)
        + convolution(mid, leaves, 1, positions, bias=False, norm=True)
    )


def _xception_branch(layer: ChainLayer, positions: int) -> Cost:
    """Three times depthwise 3x3 and 1x1; the first depthwise carries the stride."""
    enters, leaves = layer.branch_channels
    mid = layer.mid_channels
    pairs = ((enters, mid), (mid, mid), (mid, leaves))
    return total_cost(
        depthwise(before, 3, positions) + convolution(before, after, 1, positions, bias=False, norm=True)
        for before, after in pairs
    )


def _projection_branch(channels: int, kernel: int, positions: int) -> Cost:
    """The second branch of a stride-2 block: depthwise with the candidate's kernel, then 1x1."""
    return depthwise(channels, kernel, positions) + convolution(channels, channels, 1, positions, bias=False, norm=True)


def backbone_from_description(space: str, description: Mapping[str, Any]) -> DetNasBackbone:
    """Read `{width, split, genotype}`; without `genotype` the backbone is searched."""
    refuse_unknown_keys(f"backbone {space!r}", description, ("width", "split", "genotype"))
    given = {"width": 1.0, "split": None, "genotype": None, **description}
    genotype = None
    if given["genotype"] is not None:
        genotype = parse_genotype(given["genotype"], sum(SHAPES[space].stage_blocks))
    if "split" not in description:
        given["split"] = "shuffle" if genotype is None else "even_odd"
    return DetNasBackbone(name=space, width=given["width"], split=given["split"], genotype=genotype)

"""DetNAS backbones: a stem and four stages of choice blocks (Chen et al. 2019, arXiv:1903.10979, section 3.2).

`ElasticDetNasBackbone` holds every candidate of every block, each with its own weights, batch norms and projection;
the genotype is an argument of `forward` and nothing is stored between calls. `DetNasBackboneNet` is the standalone
network of one genotype. Both are built from the same blocks; the standalone key `blocks.7.main.0.conv.weight` is
`blocks.7.2.main.0.conv.weight` in the elastic network when block 7 has chosen candidate 2.
"""

from collections.abc import Iterable
from typing import cast

from torch import Tensor, nn

from nasdet_core.errors import GenotypeError
from nasdet_core.layers.conv import ConvNorm
from nasdet_core.layers.shuffle_block import ShuffleBlock
from nasdet_core.search_spaces.base import Genotype
from nasdet_core.search_spaces.shufflenet_chain import CANDIDATES, ChainLayer, DetNasBackbone

Features = dict[str, Tensor]
IMAGE_CHANNELS = 3


def _stem(part: DetNasBackbone) -> ConvNorm:
    return ConvNorm(IMAGE_CHANNELS, part.stem_channels, 3, stride=2, bias=True)


def _block(layer: ChainLayer, candidate: int, split: str) -> ShuffleBlock:
    return ShuffleBlock(CANDIDATES[candidate], layer.in_channels, layer.out_channels, stride=layer.stride, split=split)


def _run(part: DetNasBackbone, stem: nn.Module, blocks: Iterable[nn.Module], images: Tensor) -> Features:
    """Run a path; the last block of each stage makes a feature level."""
    x = stem(images)
    features: Features = {}
    levels = part.feature_levels()
    for layer, block in zip(part.layers, blocks, strict=True):
        x = block(x)
        features[levels[layer.stage - 1].name] = x  # the last block of the stage stays
    return features


class ElasticDetNasBackbone(nn.Module):
    """All candidates of all blocks; `blocks[i][c]` is candidate c of block i."""

    def __init__(self, part: DetNasBackbone) -> None:
        super().__init__()
        if part.genotype is not None:
            raise GenotypeError(
                f"an elastic '{part.name}' backbone needs a searched description, but this one has a fixed genotype; "
                "leave `genotype:` out or build the standalone network"
            )
        self.part = part
        self.stem = _stem(part)
        self.blocks = nn.ModuleList(
            nn.ModuleList(_block(layer, candidate, part.split) for candidate in range(len(CANDIDATES)))
            for layer in part.layers
        )

    def path(self, genotype: Genotype) -> list[nn.Module]:
        """The blocks that `genotype` selects, in network order."""
        self.part.validate(genotype)
        choices = cast(Iterable[nn.ModuleList], self.blocks)
        return [candidates[gene] for candidates, gene in zip(choices, genotype, strict=True)]

    def forward(self, images: Tensor, genotype: Genotype) -> Features:
        """Images (N, 3, H, W) -> {"c2": (N, C2, H/4, W/4), ..., "c5": (N, C5, H/32, W/32)}, sizes rounded up."""
        return _run(self.part, self.stem, self.path(genotype), images)

    def subnet_state_dict(self, genotype: Genotype) -> dict[str, Tensor]:
        """The tensors of the chosen path under the names of the standalone network (not copied)."""
        state = {f"stem.{key}": value for key, value in self.stem.state_dict().items()}
        for index, block in enumerate(self.path(genotype)):
            state |= {f"blocks.{index}.{key}": value for key, value in block.state_dict().items()}
        return state


class DetNasBackboneNet(nn.Module):
    """Standalone network of a fixed description (`part.genotype` is set)."""

    def __init__(self, part: DetNasBackbone) -> None:
        super().__init__()
        if part.genotype is None:
            raise GenotypeError(
                f"a standalone '{part.name}' backbone needs a genotype, but the description leaves it to the search; "
                "give `genotype:` or build the elastic network"
            )
        self.part = part
        self.stem = _stem(part)
        self.blocks = nn.ModuleList(
            _block(layer, candidate, part.split) for layer, candidate in zip(part.layers, part.genotype, strict=True)
        )

    def forward(self, images: Tensor) -> Features:
        """Images (N, 3, H, W) -> {"c2": (N, C2, H/4, W/4), ..., "c5": (N, C5, H/32, W/32)}, sizes rounded up."""
        return _run(self.part, self.stem, self.blocks, images)

"""Words of the search spaces: choice blocks, costs, levels, and the protocols a part of a detector follows.

A detector is backbone x neck x head, each fixed or searched. A *part* is a torch-free, frozen description of
one of them. A fixed part has no choice blocks, so its genotype is the empty tuple, and everything else works
alike.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, Self, runtime_checkable

from nasdet_core.errors import GenotypeError

Genotype = tuple[int, ...]  # genotype[i] = index of the candidate chosen in block i
Role = Literal["backbone", "neck", "head"]
ROLES: tuple[Role, ...] = ("backbone", "neck", "head")
ImageSize = tuple[int, int]  # (height, width) in pixels
SettingValue = int | float | str | bool | tuple[str, ...] | None

DEFAULT_MUTATION_PROBABILITY = 0.1  # DetNAS's (Chen et al. 2019, arXiv:1903.10979)


@dataclass(frozen=True, slots=True)
class ChoiceBlock:
    """One position of the supernet that can be filled by any of `candidates`."""

    name: str
    candidates: tuple[str, ...]
    stride: int  # of the output with respect to the input image, e.g. 8 -> H/8 x W/8


@dataclass(frozen=True, slots=True)
class Cost:
    """Multiply-accumulates of convolutions and linear layers; weights, biases and norm affine parameters."""

    macs: int
    params: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.macs + other.macs, self.params + other.params)

    def repeated(self, times: int) -> Cost:
        """The cost of `times` such layers, each with weights of its own."""
        return Cost(self.macs * times, self.params * times)

    def to_json(self) -> dict[str, int]:
        return {"macs": self.macs, "params": self.params}


NO_COST = Cost(0, 0)


def total_cost(costs: Iterable[Cost]) -> Cost:
    return sum(costs, NO_COST)


@dataclass(frozen=True, slots=True)
class LevelSpec:
    """A feature map that one part hands to the next, e.g. ("c3", 160, 8)."""

    name: str
    channels: int
    stride: int

    def positions(self, image_size: ImageSize) -> int:
        """Cells of this level for an image. Each halving rounds up, as a padded stride-2 convolution does."""
        height, width = image_size
        return -(-height // self.stride) * -(-width // self.stride)


@dataclass(frozen=True, slots=True)
class CostFactors:
    """A cost that is a sum: cost(genotype) = constant + sum over blocks i of choices[i][genotype[i]]."""

    constant: Cost
    choices: tuple[tuple[Cost, ...], ...]

    def cost(self, genotype: Genotype) -> Cost:
        chosen = (table[choice] for table, choice in zip(self.choices, genotype, strict=True))
        return self.constant + total_cost(chosen)


class Part(Protocol):
    """What every part can do, whatever its role. Implementations are frozen dataclasses."""

    @property
    def role(self) -> Role: ...
    @property
    def name(self) -> str:
        """Public name, e.g. "detnas-300m"."""
        ...

    @property
    def version(self) -> int:
        """Raised when the meaning of a genotype or of a setting changes."""
        ...

    @property
    def settings(self) -> Mapping[str, SettingValue]:
        """Everything besides the genotype that makes two parts of one name differ."""
        ...

    @property
    def blocks(self) -> tuple[ChoiceBlock, ...]:
        """The searched blocks; empty when the part is fixed."""
        ...

    def validate(self, genotype: Genotype) -> None: ...
    def canonical(self, genotype: Genotype) -> Genotype: ...
    def sample(self, rng: random.Random) -> Genotype: ...
    def mutate(
        self, parent: Genotype, rng: random.Random, probability: float = DEFAULT_MUTATION_PROBABILITY
    ) -> Genotype: ...
    def crossover(self, a: Genotype, b: Genotype, rng: random.Random) -> Genotype: ...

    def encoding(self, genotype: Genotype) -> Genotype:
        """The canonical choice of every position of the part, fixed ones included."""
        ...

    def fixed(self, genotype: Genotype, *, from_scratch: bool = False) -> Part:
        """The part with its choices fixed; `from_scratch`: in the form that is trained without a supernet."""
        ...

    def to_description(self) -> dict[str, Any]:
        """JSON from which `parts.build_part` makes an equal part."""
        ...


@runtime_checkable
class BackbonePart(Part, Protocol):
    def feature_levels(self) -> tuple[LevelSpec, ...]: ...
    def cost(self, genotype: Genotype, image_size: ImageSize) -> Cost: ...
    def cost_factors(self, image_size: ImageSize) -> CostFactors | None:
        """None when the cost is not a sum over blocks."""
        ...


@runtime_checkable
class NeckPart(Part, Protocol):
    def out_levels(self, in_levels: Sequence[LevelSpec]) -> tuple[LevelSpec, ...]:
        """The levels made from those of a backbone; IncompatiblePartsError when one is missing."""
        ...

    def cost(self, genotype: Genotype, image_size: ImageSize, in_levels: Sequence[LevelSpec]) -> Cost: ...
    def cost_factors(self, image_size: ImageSize, in_levels: Sequence[LevelSpec]) -> CostFactors | None: ...


@runtime_checkable
class HeadPart(Part, Protocol):
    @property
    def preferred_neck(self) -> Mapping[str, SettingValue]:
        """Neck settings used where a detector's description leaves them out."""
        ...

    def check_levels(self, in_levels: Sequence[LevelSpec]) -> None:
        """IncompatiblePartsError when the head cannot work on these levels."""
        ...

    def cost(
        self, genotype: Genotype, image_size: ImageSize, in_levels: Sequence[LevelSpec], num_classes: int
    ) -> Cost: ...
    def cost_factors(
        self, image_size: ImageSize, in_levels: Sequence[LevelSpec], num_classes: int
    ) -> CostFactors | None: ...


class ChoicePart:
    """Genotype operations over independent choice blocks, for parts whose genotypes are all distinct graphs.

    Values are frozen, operations return new values, randomness is handed in.
    """

    version: ClassVar[int] = 1

    @property
    def blocks(self) -> tuple[ChoiceBlock, ...]:
        return ()

    def validate(self, genotype: Genotype) -> None:
        """Raise GenotypeError unless every block has one of its candidates."""
        validate_genotype(self.blocks, genotype)

    def canonical(self, genotype: Genotype) -> Genotype:
        """Equal graphs get equal genotypes; here all choices differ, so this is the genotype itself."""
        self.validate(genotype)
        return tuple(genotype)

    def sample(self, rng: random.Random) -> Genotype:
        """Draw every block uniformly and independently."""
        return tuple(rng.randrange(len(block.candidates)) for block in self.blocks)

    def mutate(
        self, parent: Genotype, rng: random.Random, probability: float = DEFAULT_MUTATION_PROBABILITY
    ) -> Genotype:
        """Redraw each block with `probability`; the draw may hit the old candidate, as in DetNAS."""
        self.validate(parent)
        return tuple(
            rng.randrange(len(block.candidates)) if rng.random() < probability else old
            for block, old in zip(self.blocks, parent, strict=True)
        )

    def crossover(self, a: Genotype, b: Genotype, rng: random.Random) -> Genotype:
        """Uniform crossover: each block from either parent with probability 1/2."""
        self.validate(a)
        self.validate(b)
        return tuple(ours if rng.random() < 0.5 else theirs for ours, theirs in zip(a, b, strict=True))


class FixedPart(ChoicePart):
    """A part without choices: its only genotype is the empty tuple."""

    def encoding(self, genotype: Genotype) -> Genotype:
        return self.canonical(genotype)

    def fixed(self, genotype: Genotype, *, from_scratch: bool = False) -> Self:
        """The part itself; it has one form, however it is trained (`from_scratch` changes nothing)."""
        del from_scratch
        self.validate(genotype)
        return self


def validate_genotype(blocks: Sequence[ChoiceBlock], genotype: Genotype) -> None:
    """Raise GenotypeError that names the first block whose choice is missing or out of range."""
    if len(genotype) != len(blocks):
        raise GenotypeError(f"a genotype of {len(blocks)} choices was expected, but {len(genotype)} came")
    for block, choice in zip(blocks, genotype, strict=True):
        if isinstance(choice, bool) or not isinstance(choice, int):
            raise GenotypeError(f"block '{block.name}': a whole number was expected, but {choice!r} came")
        if not 0 <= choice < len(block.candidates):
            raise GenotypeError(
                f"block '{block.name}': candidate {choice} is out of range 0..{len(block.candidates) - 1} "
                f"({', '.join(block.candidates)})"
            )
